import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from builders import ROOT

from toxicity.core.errors import RequestError
from toxicity.hardware.preflight import has_kernels, main, require_working_machine, require_working_sharing

CUDA_126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CUDA_128 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
CUDA_130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def machine(name, label, capability, architectures=CUDA_126, torch="2.7.1+cu126", cuda="12.6"):
    return {
        "label": label,
        "device_name": name,
        "compute_capability": capability,
        "device_count": 1,
        "cpu_count": 8,
        "driver": "560.35.03",
        "driver_gpus": [name],
        "torch": torch,
        "cuda": cuda,
        "wheel_architectures": architectures,
    }


K80 = machine("Tesla K80", "k80", "3.7")
P100 = machine("Tesla P100-PCIE-16GB", "p100", "6.0")
V100 = machine("Tesla V100-SXM2-32GB", "v100", "7.0")
T4 = machine("Tesla T4", "t4", "7.5")
A100 = machine("NVIDIA A100 80GB PCIe", "a100", "8.0")
RTX_2080 = machine("NVIDIA GeForce RTX 2080 Ti", "2080", "7.5")
B200 = machine("NVIDIA B200", "b200", "10.0")
NO_GPU = machine("AMD EPYC", "cpu", None, [], "2.13.0+cpu", None) | {"driver": None, "driver_gpus": []}
P100_WITH_CPU_TORCH = NO_GPU | {"driver": "560.35.03", "driver_gpus": ["Tesla P100-PCIE-16GB"]}
P100_WITH_OLD_DRIVER = P100_WITH_CPU_TORCH | {"driver": "450.80.02", "torch": "2.7.1+cu126", "cuda": "12.6"}

REFUSED = {
    "no such kind": (NO_GPU, {"gpu": "k80"}, ["unknown GPU `k80`; the known ones are cpu, p100"]),
    "no GPU": (NO_GPU, {"gpu": "p100"}, ["no GPU", "make bench GPU=cpu"]),
    "no GPU, fp16": (NO_GPU, {"mixed_precision": "fp16"}, ["fp16, which is for GPUs", "make bench GPU=cpu"]),
    "torch for CPUs": (P100_WITH_CPU_TORCH, {"gpu": "p100"}, ["build for CPUs", "Tesla P100", "make setup GPU=p100"]),
    "driver too old": (
        P100_WITH_OLD_DRIVER,
        {"gpu": "p100"},
        ["CUDA 12.6", "driver 450.80.02", "update the driver", "torch==2.7.1"],
    ),
    "K80": (K80, {"gpu": "p100"}, ["no kernels for the Tesla K80 (sm_37)", "Take another machine"]),
    "P100, wrong wheel": (
        P100 | {"torch": "2.9.1+cu128", "wheel_architectures": CUDA_128},
        {"gpu": "p100"},
        ["torch 2.9.1+cu128 has no kernels for the Tesla P100-PCIE-16GB (sm_60)", "make setup GPU=p100"],
    ),
    "V100, wrong wheel, not asked for by name": (
        V100 | {"wheel_architectures": CUDA_130},
        {},
        ["no kernels for the Tesla V100", "make setup GPU=v100"],
    ),
    "newer than the wheel": (B200, {}, ["no kernels for the NVIDIA B200 (sm_100)", "make setup GPU=hopper"]),
    "another card": (T4, {"gpu": "p100"}, ["computes on a Tesla T4 (sm_75)", "GPU=t4", "--allow_other_gpu"]),
    "a card of no kind": (RTX_2080, {"gpu": "t4"}, ["RTX 2080 Ti", "--allow_other_gpu"]),
    "a GPU in place of the CPU": (T4, {"gpu": "cpu"}, ["cpu was asked for", "Tesla T4"]),
    "bf16 on a V100": (V100, {"mixed_precision": "bf16"}, ["no bf16", "sm_80", "accelerate_configs/v100.yaml"]),
    "bf16 on another card": (RTX_2080, {"mixed_precision": "bf16"}, ["no bf16", "--mixed_precision fp16"]),
    "torch.compile on a P100": (P100, {"torch_compile": True}, ["sm_70", "--torch_compile false"]),
    "a kind unheard of": (P100, {"gpu": "k80"}, ["unknown GPU `k80`", "cpu, p100"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_what_mends_it(case):
    described, request, parts = REFUSED[case]
    with pytest.raises(RequestError) as refusal:
        require_working_machine(described, **request)
    assert all(part in str(refusal.value) for part in parts), str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("described", "request_", "label"),
    [
        (P100, {"gpu": "p100", "mixed_precision": "fp16"}, "p100"),
        (P100, {"gpu": "P100"}, "p100"),
        (V100, {"gpu": "v100", "torch_compile": True}, "v100"),
        (A100, {"gpu": "ampere", "mixed_precision": "bf16"}, "ampere"),
        (A100, {"mixed_precision": "bf16"}, "a100"),
        (T4, {"gpu": "p100", "allow_other_gpu": True}, "t4 as p100"),
        (RTX_2080, {"gpu": "t4", "allow_other_gpu": True}, "2080 as t4"),
        (NO_GPU, {"gpu": "cpu", "mixed_precision": "bf16"}, "cpu"),
        (NO_GPU, {"mixed_precision": "fp16", "use_cpu": True}, "cpu"),
        (NO_GPU, {}, "cpu"),
    ],
)
def test_what_works_gets_its_label(described, request_, label):
    assert require_working_machine(described, **request_) == label


def arguments(**changes):
    """Training arguments in one of two processes with a GPU each."""
    return SimpleNamespace(
        **{
            "device": torch.device("cuda", 1),
            "n_gpu": 1,
            "world_size": 2,
            "fsdp": None,
            "max_tokens_per_batch": None,
            "average_tokens_across_devices": True,
            "accelerator_config": SimpleNamespace(split_batches=False),
        }
        | changes
    )


FSDP = {"ACCELERATE_USE_FSDP": "true"}
SHARING_REFUSED = {
    "DataParallel": (
        {"n_gpu": 4, "world_size": 1},
        {},
        ["sees 4 GPUs", "CUDA_VISIBLE_DEVICES=0", "accelerate launch --multi_gpu --num_processes 4"],
    ),
    "FSDP on a CPU": ({"device": torch.device("cpu")}, FSDP, ["FSDP shards a model over GPUs", "--use_fsdp"]),
    "FSDP, cut by tokens": ({"max_tokens_per_batch": "4096"}, FSDP, ["--max_tokens_per_batch", "leave it out"]),
    "FSDP by a flag, cut by tokens": ({"fsdp": True, "max_tokens_per_batch": "auto"}, {}, ["--max_tokens_per_batch"]),
    "FSDP in one process": ({"fsdp": True, "world_size": 1}, {}, ["--fsdp shards a model", "fsdp.yaml"]),
    "a mean of means": ({"average_tokens_across_devices": False}, {}, ["leave out --average_tokens_across_devices"]),
    "batches cut": ({"accelerator_config": SimpleNamespace(split_batches=True)}, {}, ["leave out", "split_batches"]),
}


@pytest.mark.parametrize("case", SHARING_REFUSED)
def test_ways_to_share_the_work_that_cannot_be_right_are_refused(case, monkeypatch):
    changes, environment, parts = SHARING_REFUSED[case]
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RequestError) as refusal:
        require_working_sharing(arguments(**changes))
    assert all(part in str(refusal.value) for part in parts), str(refusal.value)


def test_ways_to_share_the_work_that_are_right(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    alone = {"world_size": 1, "average_tokens_across_devices": False}
    for changes in ({}, {"max_tokens_per_batch": "auto"}, alone, alone | {"n_gpu": 0, "device": torch.device("cpu")}):
        require_working_sharing(arguments(**changes))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    require_working_sharing(arguments())


def test_allowing_another_card_does_not_allow_one_without_kernels():
    with pytest.raises(RequestError, match="no kernels"):
        require_working_machine(K80, "p100", allow_other_gpu=True)


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
        ("9.4", ["gfx942"], True),  # not CUDA: nothing can be said
    ],
)
def test_kernels(capability, architectures, expected):
    assert has_kernels(capability, architectures) is expected


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
