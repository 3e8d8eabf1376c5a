"""Score comments with a trained model: `from toxicity.predict import Scorer`, or `python -m toxicity.predict`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toxicity.predict.scorer import Scorer as Scorer


def __getattr__(name: str) -> Any:
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported on demand, as it loads torch: the command reports mistakes in its flags before those seconds.
    from toxicity.predict.scorer import Scorer

    return Scorer
