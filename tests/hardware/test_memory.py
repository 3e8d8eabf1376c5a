from dataclasses import replace

import pytest
import torch
from cards import CARDS, GIB, V100, put_in

from toxicity.core.errors import RequestError
from toxicity.hardware.memory import full_card_explained, is_out_of_memory, require_room

FULL = {
    "the allocator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CUDA itself": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    "one process alone": RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    "Apple": RuntimeError("MPS backend out of memory (MPS allocated: 18.1 GB)"),
}


@pytest.mark.parametrize("case", FULL)
def test_errors_of_full_devices_are_told_from_others(case):
    assert is_out_of_memory(FULL[case])
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


@pytest.mark.parametrize("case", FULL)
def test_a_card_that_others_have_filled_is_explained(case, monkeypatch):
    device = put_in(monkeypatch, replace(V100, free=2 * GIB))
    with pytest.raises(RequestError, match=r"on the Tesla V100.*: 2\.0 of its 16\.0") as refusal:
        with full_card_explained(device, "this model"):
            raise FULL[case]
    assert "other processes hold 14.0; nvidia-smi lists them" in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_card_that_is_too_small_is_not_blamed_on_others(monkeypatch):
    device = put_in(monkeypatch, replace(V100, free=2 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 14 * GIB)
    with pytest.raises(RequestError, match="Choose a smaller model, or a GPU with more memory"):
        with full_card_explained(device):
            raise FULL["the allocator"]


def test_a_card_without_room_for_cuda_itself(monkeypatch):
    device = put_in(monkeypatch, V100)

    def no_room(device):
        raise FULL["CUDA itself"]

    monkeypatch.setattr(torch.cuda, "mem_get_info", no_room)
    for checked in (device, None):
        with pytest.raises(RequestError, match="other processes have filled the GPU, or one has it for itself"):
            with full_card_explained(checked):
                no_room(device)
    with pytest.raises(RequestError, match="CUDA_VISIBLE_DEVICES=1"):
        require_room(device)


def test_another_device_that_is_full_is_not_asked_for_cards():
    with pytest.raises(RequestError, match="no room for this model: MPS backend out of memory"):
        with full_card_explained(torch.device("mps"), "this model"):
            raise FULL["Apple"]


def test_what_is_no_question_of_memory_goes_through():
    with pytest.raises(RuntimeError, match="assert"), full_card_explained(torch.device("cuda")):
        raise RuntimeError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize("name", CARDS)
def test_room_is_asked_for_before_work(name, monkeypatch):
    device = put_in(monkeypatch, CARDS[name])
    if name == "filled":
        with pytest.raises(RequestError, match="nvidia-smi lists them"):
            require_room(device)
    else:
        require_room(device)
