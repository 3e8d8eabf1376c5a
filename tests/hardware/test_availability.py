import os
import sys
from dataclasses import replace

import pytest
import torch
from builders import training_flags
from cards import CARDS, CUDA_126, CUDA_130, NO_CARD, V100, put_in
from processes import run

from toxicity.core.errors import RequestError
from toxicity.hardware import availability
from toxicity.hardware.availability import has_kernels, require_kernels_for, unused_gpu, why_on_processor


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ("6.0", CUDA_126, True),
        ("6.1", CUDA_126, True),  # binary code runs on higher minor capabilities
        ("6.0", ["sm_61"], False),  # but not on lower ones
        ("8.9", CUDA_130, True),
        ("7.0", CUDA_130, False),
        ("7.0", ["sm_60", "compute_60"], True),  # intermediate code is compiled for later cards
        ("5.0", ["compute_60"], False),
        ("9.0", ["sm_90a"], True),
        ("12.1", ["sm_120a"], False),
        ("12.1", ["sm_120"], True),
        ("10.3", CUDA_130, True),
        ("10.0", CUDA_126, False),
        ("10.3", ["sm_100f"], True),  # for a family, that is all later minor capabilities
        ("9.4", ["gfx942"], True),  # not CUDA: nothing can be said
    ],
)
def test_kernels(capability, architectures, expected):
    assert has_kernels(capability, architectures) is expected


@pytest.mark.parametrize("name", [name for name in CARDS if name != "of tomorrow"])
def test_every_card_has_kernels_in_its_own_build(name, monkeypatch):
    require_kernels_for(put_in(monkeypatch, CARDS[name]))


def test_a_card_without_kernels_is_refused(monkeypatch):
    with pytest.raises(RequestError, match=r"torch 2.13.0\+cu130 has no kernels for the NVIDIA R100 \(sm_130\)"):
        require_kernels_for(put_in(monkeypatch, CARDS["of tomorrow"]))


@pytest.mark.parametrize(
    ("card", "device", "message"),
    [
        (CARDS["hidden"], "cuda", "CUDA_VISIBLE_DEVICES='' hides the Tesla V100"),
        (CARDS["build for CPUs"], "cuda:0", "is a build for CPUs"),
        (NO_CARD, "cuda", "no GPU that torch can use as cuda: leave the device out"),
        (V100, "cuda:3", "cuda:3 is not among the 1 that torch sees"),
    ],
)
def test_a_card_that_is_asked_for_and_cannot_be_used_is_refused(card, device, message, monkeypatch):
    put_in(monkeypatch, card)
    with pytest.raises(RequestError, match=message):
        require_kernels_for(torch.device(device))


@pytest.mark.parametrize(
    ("visible", "hidden"),
    [("", True), ("-1", True), ("2", True), ("none", True), ("0", False), ("1,7", False), ("GPU-8f6e", False)],
)
def test_which_values_hide_two_cards(visible, hidden, monkeypatch):
    put_in(monkeypatch, CARDS["driver too old"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    reason = why_on_processor([("Tesla P100", "450.80.02")] * 2)
    assert ("hides" in reason) is hidden


def test_nothing_is_said_of_cards_that_no_driver_lists(monkeypatch):
    put_in(monkeypatch, NO_CARD)
    assert unused_gpu() is None


def test_torch_is_asked_what_keeps_it_from_the_card(monkeypatch):
    put_in(monkeypatch, CARDS["driver too old"])
    assert "(The NVIDIA driver on your system is too old (found version 11000))" in unused_gpu()
    monkeypatch.setattr(availability.torch.cuda, "init", lambda: None)
    assert "(it finds none)" in unused_gpu()


def test_a_build_is_named_by_the_cards_name(monkeypatch):
    put_in(monkeypatch, CARDS["build for CPUs"])
    assert why_on_processor([(V100.name, "580")]).endswith("make clean, then make setup GPU=v100")
    assert why_on_processor([("NVIDIA B200", "580")]).endswith("make clean, then make setup GPU=ampere")


@pytest.mark.parametrize(("version", "older"), [("2.14.1+cu130", True), ("2.8.0+cu128", True), ("2.7.1+cu126", False)])
def test_a_build_for_older_drivers_is_named_where_this_is_none(version, older, monkeypatch):
    put_in(monkeypatch, replace(CARDS["driver too old"], torch=version))
    assert ("pip install torch==2.7.1" in unused_gpu()) is older
    assert "Update the driver" in unused_gpu()


def test_commands_say_once_that_they_leave_a_card_alone(
    checkpoint, comments_csv, tmp_path, home, score, monkeypatch, capsys
):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'Tesla V100-SXM2-16GB, 450.80.02'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    here = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    training = [*training_flags(checkpoint, comments_csv, output_dir=tmp_path / "run"), "--dry_run"]
    done = run(sys.executable, "run_toxicity.py", *training, **here, **home)
    assert done.returncode == 0, done.stderr
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    assert score("--input", comments_csv) == 0
    why = "is a build for CPUs" if torch.version.cuda is None else "CUDA_VISIBLE_DEVICES='' hides"
    for said in (done.stderr, capsys.readouterr().err):
        assert said.count("Working on the processor: ") == 1
        assert f"{why} the Tesla V100" in said.replace(" and cannot use", "")
