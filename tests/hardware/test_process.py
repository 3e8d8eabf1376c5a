import os

import pytest
import torch
from cards import CARDS, NO_CARD, V100, put_in

from toxicity.hardware import process


@pytest.fixture
def prepared(monkeypatch):
    """Call it with a card: the settings that a process on that machine gets."""

    def call(card, **environment):
        put_in(monkeypatch, card)
        for name in process.ALLOCATOR_SETTINGS:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        cudnn = []
        monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", cudnn.append)
        monkeypatch.setattr(process, "prepare_cpu", lambda scoring: None)
        process.prepare_process(scoring=True)
        found = os.environ.get("PYTORCH_CUDA_ALLOC_CONF")
        monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
        return found, cudnn

    return call


def test_memory_of_cuda_grows_and_its_attention_makes_no_plans(prepared):
    assert prepared(V100) == ("expandable_segments:True", [False])


@pytest.mark.parametrize("card", [NO_CARD, CARDS["hidden"], CARDS["MI300X"], CARDS["Apple GPU"]])
def test_other_machines_are_left_alone(prepared, card):
    assert prepared(card) == (None, [])


@pytest.mark.parametrize("name", process.ALLOCATOR_SETTINGS)
def test_what_the_user_set_stays(prepared, name):
    found, _ = prepared(V100, **{name: "max_split_size_mb:128"})
    assert found == ("max_split_size_mb:128" if name == "PYTORCH_CUDA_ALLOC_CONF" else None)


@pytest.mark.parametrize(("system", "release"), [("win32", "11"), ("linux", "5.15.90.1-microsoft-standard-WSL2")])
def test_windows_has_no_such_memory(prepared, monkeypatch, system, release):
    monkeypatch.setattr(process.sys, "platform", system)
    monkeypatch.setattr(process.platform, "release", lambda: release)
    assert prepared(V100) == (None, [False])


def test_the_processor_is_prepared_too(monkeypatch):
    calls = []
    monkeypatch.setattr(process, "prepare_cpu", calls.append)
    process.prepare_process(scoring=True)
    assert calls == [True]
