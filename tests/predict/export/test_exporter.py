"""Where transformers cannot export, because of a package that is missing or of a torch that is too old for it."""

import sys
from types import ModuleType

import pytest
import torch

from toxicity.core.errors import RequestError
from toxicity.predict.export import onnx


class Failing(ModuleType):
    """A module whose names need a module that is not there."""

    def __init__(self, missing):
        super().__init__("transformers.exporters")
        self.missing = missing

    def __getattr__(self, name):
        raise ImportError(f"cannot import {name}", name=self.__dict__["missing"])


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("onnxscript", "^onnxscript is not installed: pip install -r requirements-onnx.txt$"),
        ("torch.fx.experimental.symbolic_shapes", f"torch {torch.__version__.split('+')[0]}.*where a later torch is"),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(monkeypatch, missing, message):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, "transformers.exporters", Failing(missing))
    with pytest.raises(RequestError, match=message):
        onnx.require_packages()
