"""Score comments with a trained model: `from toxicity.predict import Scorer`, or `python -m toxicity.predict`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toxicity.predict.batches import score_batch as score_batch
    from toxicity.predict.scorer import Scorer as Scorer

# Imported on demand, as they load torch and pandas: the command reports mistakes in its flags before those seconds.
_MODULES = {"Scorer": "toxicity.predict.scorer", "score_batch": "toxicity.predict.batches"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
