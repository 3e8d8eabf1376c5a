"""What is decided by the card, for each of `cards.CARDS`: its description, kind, label and precision."""

from dataclasses import replace

import pytest
from cards import CARDS, GIB, put_in

from toxicity.hardware.kinds import KINDS, kind_of
from toxicity.hardware.machine import describe_machine
from toxicity.hardware.precision import best_precision, fastest_precision

# Name in `CARDS` → label, kind, compute capability, precision, memory in GiB.
EXPECTED = {
    "P100": ("p100", "p100", "6.0", "fp16", 16),
    "V100": ("v100", "v100", "7.0", "fp16", 16),
    "T4": ("t4", "t4", "7.5", "fp16", 15),
    "A100": ("a100", "ampere", "8.0", "bf16", 40),
    "A100, a slice": ("a100 mig 1g.5gb", "ampere", "8.0", "bf16", 5),
    "H100": ("h100", "hopper", "9.0", "bf16", 80),
    "GH200": ("gh200", "hopper", "9.0", "bf16", 95),
    "B200": ("b200", "blackwell", "10.0", "bf16", 180),
    "B300": ("b300", "blackwell", "10.3", "bf16", 270),
    "RTX 5090": ("5090", "blackwell", "12.0", "bf16", 32),
    "GB10": ("gb10", "blackwell", "12.1", "bf16", 120),
    "Jetson Orin": ("orin", "ampere", "8.7", "bf16", 30),
    "MI300X": ("mi300x", None, None, "bf16", 192),
    "Apple GPU": ("mps", None, None, "no", 21),
    "hidden": ("cpu", None, None, None, None),
    "driver too old": ("cpu", None, None, None, None),
    "build for CPUs": ("cpu", None, None, None, None),
    "filled": ("v100", "v100", "7.0", "fp16", 16),
    "unknown kind": ("1080", None, "6.1", "no", 8),
    "of tomorrow": ("r100", None, "13.0", "bf16", 288),
}


def test_all_cards_are_expected():
    assert EXPECTED.keys() == CARDS.keys()


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_described(name, monkeypatch):
    card, (label, kind, capability, precision, memory) = CARDS[name], EXPECTED[name]
    device = put_in(monkeypatch, card)
    described = describe_machine(device, 2)
    assert (described["label"], described["compute_capability"]) == (label, capability)
    assert (described["device_type"], described["device_count"]) == (card.device, 2)
    assert described["memory_bytes"] == (None if memory is None else memory * GIB)
    assert (described["torch"], described["cuda"], described["hip"]) == (card.torch, card.cuda, card.hip)
    assert kind_of(described["device_name"], described["compute_capability"]) == kind
    if device.type != "cpu":
        assert described["device_name"] == card.name
        assert fastest_precision(device) == precision
        assert best_precision(device)[1]


def test_every_kind_of_gpu_has_a_card():
    assert {kind for _, kind, *_ in EXPECTED.values() if kind} == KINDS.keys() - {"cpu"}


def test_every_kind_of_gpu_has_a_peak_for_estimates():
    assert all((kind.peak_flops is None) == (name == "cpu") for name, kind in KINDS.items())


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [
        ("gfx906", "fp16"),  # MI50
        ("gfx908", "bf16"),  # MI100
        ("gfx90a:sramecc+:xnack-", "bf16"),  # MI250
        ("gfx950", "bf16"),  # MI355X
        ("gfx1030", "fp16"),  # RX 6800
        ("gfx1100", "bf16"),  # RX 7900
        ("gfx1201", "bf16"),  # RX 9070
    ],
)
def test_the_precision_of_amd_s_cards(architecture, precision, monkeypatch):
    device = put_in(monkeypatch, replace(CARDS["MI300X"], gcn=architecture, name=""))
    assert fastest_precision(device) == precision
    # Some have no other name.
    assert describe_machine(device, 1)["device_name"] == architecture.split(":")[0]


def test_no_speed_is_promised_that_torch_does_not_reach(monkeypatch):
    # Its products of fp16 accumulate in fp32.
    assert "hardly faster" in best_precision(put_in(monkeypatch, CARDS["P100"]))[1]
