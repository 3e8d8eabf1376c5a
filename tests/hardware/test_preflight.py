import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from builders import ROOT
from cards import A100, CARDS, CUDA_126, CUDA_130, H100, K80, NO_CARD, P100, RTX_2080, T4, V100, put_in

from toxicity.core.errors import RequestError
from toxicity.hardware.machine import describe_machine
from toxicity.hardware.preflight import check_machine, main, require_working_machine, require_working_sharing

CUDA_128 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]

REFUSED = {
    "no such kind": (NO_CARD, {"gpu": "k80"}, ["unknown GPU `k80`; the known ones are cpu, p100"]),
    "no GPU": (NO_CARD, {"gpu": "p100"}, ["no GPU", "make bench GPU=cpu"]),
    "no GPU, fp16": (NO_CARD, {"mixed_precision": "fp16"}, ["fp16, which is for GPUs", "make bench GPU=cpu"]),
    "torch for CPUs": (CARDS["build for CPUs"], {"gpu": "v100"}, ["build for CPUs", "V100", "make setup GPU=v100"]),
    "torch for AMD": (
        replace(CARDS["build for CPUs"], hip="6.4"),
        {"mixed_precision": "fp16"},
        ["build for AMD's GPUs", "make setup GPU=v100"],
    ),
    "hidden": (CARDS["hidden"], {"gpu": "v100"}, ["CUDA_VISIBLE_DEVICES='' hides the Tesla V100", "leave it out"]),
    "hidden, fp16": (CARDS["hidden"], {"mixed_precision": "fp16"}, ["CUDA_VISIBLE_DEVICES='' hides the Tesla V100"]),
    "driver too old": (
        replace(CARDS["driver too old"], torch="2.8.0+cu128", cuda="12.8"),
        {"gpu": "p100"},
        ["CUDA 12.8", "driver 450.80.02", "is too old (found version 11000)", "Update the driver", "torch==2.7.1"],
    ),
    "K80": (K80, {"gpu": "p100"}, ["no kernels for the Tesla K80 (sm_37)", "Take another machine"]),
    "P100, wrong wheel": (
        replace(P100, torch="2.9.1+cu128", architectures=CUDA_128),
        {"gpu": "p100"},
        ["torch 2.9.1+cu128 has no kernels for the Tesla P100-PCIE-16GB (sm_60)", "make setup GPU=p100"],
    ),
    "V100, wrong wheel, not asked for by name": (
        replace(V100, architectures=CUDA_130),
        {},
        ["no kernels for the Tesla V100", "make setup GPU=v100"],
    ),
    "newer than the wheel": (
        replace(CARDS["B200"], architectures=CUDA_126),
        {},
        ["no kernels for the NVIDIA B200 (sm_100)", "make setup GPU=blackwell"],
    ),
    "newer than all": (CARDS["of tomorrow"], {}, ["no kernels for the NVIDIA R100 (sm_130)", "GPU=blackwell"]),
    "another card": (T4, {"gpu": "p100"}, ["computes on the Tesla T4 (sm_75)", "GPU=t4", "--allow_other_gpu"]),
    "a card of no kind": (RTX_2080, {"gpu": "t4"}, ["RTX 2080 Ti", "--allow_other_gpu"]),
    "AMD's card for NVIDIA's": (CARDS["MI300X"], {"gpu": "hopper"}, ["on the AMD Instinct MI300X", "nearest kind"]),
    "Apple's for NVIDIA's": (CARDS["Apple GPU"], {"gpu": "t4"}, ["on the Apple M2 Pro", "--allow_other_gpu"]),
    "a GPU in place of the CPU": (T4, {"gpu": "cpu"}, ["cpu was asked for", "Tesla T4", "add --use_cpu"]),
    "Apple's in place of the CPU": (CARDS["Apple GPU"], {"gpu": "cpu"}, ["cpu was asked for", "add --use_cpu"]),
    "bf16 on a V100": (V100, {"mixed_precision": "bf16"}, ["no bf16", "sm_80", "accelerate_configs/v100.yaml"]),
    "bf16 on another card": (RTX_2080, {"mixed_precision": "bf16"}, ["no bf16", "--mixed_precision fp16"]),
    "torch.compile on a P100": (P100, {"torch_compile": True}, ["sm_70", "--torch_compile false"]),
    "a kind unheard of": (P100, {"gpu": "k80"}, ["unknown GPU `k80`", "cpu, p100"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_what_mends_it(case, monkeypatch):
    card, request, parts = REFUSED[case]
    described = describe_machine(put_in(monkeypatch, card), 1)
    with pytest.raises(RequestError) as refusal:
        require_working_machine(described, **request)
    assert all(part in str(refusal.value) for part in parts), str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


WORKS = [
    (P100, {"gpu": "p100", "mixed_precision": "fp16"}, "p100"),
    (P100, {"gpu": "P100"}, "p100"),
    (V100, {"gpu": "v100", "torch_compile": True}, "v100"),
    (A100, {"gpu": "ampere", "mixed_precision": "bf16"}, "ampere"),
    (A100, {"mixed_precision": "bf16"}, "a100"),
    (CARDS["A100, a slice"], {"gpu": "ampere", "mixed_precision": "bf16"}, "ampere mig 1g.5gb"),
    (CARDS["A100, a slice"], {}, "a100 mig 1g.5gb"),
    (CARDS["A100, a slice"], {"gpu": "hopper", "allow_other_gpu": True}, "ampere mig 1g.5gb as hopper"),
    (H100, {"gpu": "hopper", "mixed_precision": "bf16"}, "hopper"),
    (CARDS["B200"], {"gpu": "blackwell", "mixed_precision": "bf16", "torch_compile": True}, "blackwell"),
    (CARDS["MI300X"], {"mixed_precision": "bf16", "torch_compile": True}, "mi300x"),
    (CARDS["MI300X"], {"gpu": "hopper", "allow_other_gpu": True}, "mi300x as hopper"),
    (CARDS["Apple GPU"], {"mixed_precision": "fp16"}, "mps"),
    (T4, {"gpu": "p100", "allow_other_gpu": True}, "t4 as p100"),
    (RTX_2080, {"gpu": "t4", "allow_other_gpu": True}, "2080 as t4"),
    (NO_CARD, {"gpu": "cpu", "mixed_precision": "bf16"}, "cpu"),
    (NO_CARD, {"mixed_precision": "fp16", "use_cpu": True}, "cpu"),
    (NO_CARD, {}, "cpu"),
    (CARDS["hidden"], {}, "cpu"),
]


@pytest.mark.parametrize(("card", "request_", "label"), WORKS)
def test_what_works_gets_its_label(card, request_, label, monkeypatch):
    described = describe_machine(put_in(monkeypatch, card), 1)
    assert require_working_machine(described, **request_) == label


def asked(gpu=None):
    return SimpleNamespace(gpu=gpu, allow_other_gpu=False)


ON_PROCESSOR = {
    "hidden": (CARDS["hidden"], "Working on the processor: CUDA_VISIBLE_DEVICES='' hides the Tesla V100-SXM2-16GB"),
    "driver": (CARDS["driver too old"], "cannot use the Tesla P100-PCIE-16GB of this machine with driver 450.80.02"),
    "build": (CARDS["build for CPUs"], "is a build for CPUs and cannot use the Tesla V100"),
}


@pytest.mark.parametrize("case", ON_PROCESSOR)
def test_a_card_that_is_not_used_is_named_with_the_reason(case, monkeypatch, caplog):
    card, message = ON_PROCESSOR[case]
    here = arguments(device=put_in(monkeypatch, card), n_gpu=0, world_size=1)
    assert check_machine(asked(), here)["label"] == "cpu"
    assert [message in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    # Nothing to say where the processor was asked for.
    assert check_machine(asked("cpu"), here)["label"] == "cpu"
    here.use_cpu = True
    assert check_machine(asked(), here)["label"] == "cpu"
    assert not caplog.records


def test_a_machine_without_a_card_is_told_nothing(monkeypatch, caplog):
    check_machine(asked(), arguments(device=put_in(monkeypatch, NO_CARD), n_gpu=0, world_size=1))
    assert not caplog.records


def test_a_card_that_others_have_filled_is_refused_before_anything_is_read(monkeypatch):
    device = put_in(monkeypatch, CARDS["filled"])
    with pytest.raises(RequestError, match=r"on the Tesla V100-SXM2-16GB: 0\.3 of its 16\.0 GiB are free, and other"):
        check_machine(asked("v100"), arguments(device=device, world_size=1))


def arguments(**changes):
    """Training arguments in one of two processes with a GPU each."""
    return SimpleNamespace(
        **{
            "device": torch.device("cuda", 1),
            "n_gpu": 1,
            "world_size": 2,
            "fsdp": None,
            "is_sharded": False,
            "max_tokens_per_batch": None,
            "average_tokens_across_devices": True,
            "accelerator_config": SimpleNamespace(split_batches=False),
            "mixed_precision": "no",
            "torch_compile": False,
            "use_cpu": False,
        }
        | changes
    )


SHARING_REFUSED = {
    "DataParallel": (
        {"n_gpu": 4, "world_size": 1},
        ["sees 4 GPUs", "CUDA_VISIBLE_DEVICES=0", "accelerate launch --multi_gpu --num_processes 4"],
    ),
    "FSDP on a CPU": (
        {"device": torch.device("cpu"), "is_sharded": True},
        ["FSDP shards a model over GPUs", "--use_fsdp"],
    ),
    "FSDP, cut by tokens": (
        {"max_tokens_per_batch": "4096", "is_sharded": True},
        ["--max_tokens_per_batch", "leave it"],
    ),
    "FSDP in one process": (
        {"fsdp": True, "is_sharded": True, "world_size": 1},
        ["--fsdp shards a model", "fsdp.yaml"],
    ),
    "a mean of means": ({"average_tokens_across_devices": False}, ["leave out --average_tokens_across_devices"]),
    "batches cut": ({"accelerator_config": SimpleNamespace(split_batches=True)}, ["leave out", "split_batches"]),
}


@pytest.mark.parametrize("case", SHARING_REFUSED)
def test_ways_to_share_the_work_that_cannot_be_right_are_refused(case):
    changes, parts = SHARING_REFUSED[case]
    with pytest.raises(RequestError) as refusal:
        require_working_sharing(arguments(**changes))
    assert all(part in str(refusal.value) for part in parts), str(refusal.value)


def test_ways_to_share_the_work_that_are_right():
    alone = {"world_size": 1, "average_tokens_across_devices": False}
    on_cpu = alone | {"n_gpu": 0, "device": torch.device("cpu")}
    for changes in ({}, {"max_tokens_per_batch": "auto"}, {"is_sharded": True}, alone, on_cpu):
        require_working_sharing(arguments(**changes))


def test_allowing_another_card_does_not_allow_one_without_kernels(monkeypatch):
    described = describe_machine(put_in(monkeypatch, K80), 1)
    with pytest.raises(RequestError, match="no kernels"):
        require_working_machine(described, "p100", allow_other_gpu=True)


def test_this_machine_is_ready_for_its_cpu(capsys):
    main(["--gpu", "cpu"])
    assert "ready" in capsys.readouterr().out


def test_the_command_exits_with_2():
    refused = subprocess.run(
        [sys.executable, "-m", "toxicity.hardware.preflight", "--gpu", "v100"],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
