import os
import subprocess
import sys
import textwrap
from time import perf_counter

import pytest
import torch

from toxicity.hardware import cpu, machine
from toxicity.hardware import precision as precision_module
from toxicity.hardware.cpu import prepare_cpu
from toxicity.hardware.machine import describe_machine, measure_matmul_peak


def test_a_cpu_is_described():
    machine = describe_machine(torch.device("cpu"), 1)
    assert machine["label"] == "cpu"
    assert machine["device_name"]
    assert machine["compute_capability"] is None
    assert machine["device_count"] == 1
    assert 1 <= machine["cpu_count"] <= os.cpu_count()


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "no")])
def test_bf16_is_for_processors_that_have_it(monkeypatch, capsys, native, expected):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr(cpu, "has_bf16_instructions", lambda: native)
    prepare_cpu()
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == expected
    assert ("no bf16 instructions" in capsys.readouterr().err) != native


def test_this_processor_is_looked_at():
    assert precision_module.has_bf16_instructions() in (True, False)


def test_the_one_thread_of_a_plain_launch_becomes_all_cores():
    code = (
        "import torch; from toxicity.hardware.cpu import prepare_cpu; prepare_cpu();"
        "from toxicity.hardware.machine import describe_machine;"
        "print(torch.get_num_threads(), describe_machine(torch.device('cpu'), 1)['cpu_count'])"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    threads, cores = output.stdout.split()
    assert threads == cores


@pytest.mark.skipif(not cpu._has_glibc(), reason="the settings are glibc's")
@pytest.mark.parametrize("prepared", [True, False])
def test_memory_that_is_freed_is_kept_for_the_next_step(prepared):
    code = f"""
        import psutil, torch
        from toxicity.hardware.cpu import prepare_cpu
        if {prepared}:
            prepare_cpu()
        before = psutil.Process().memory_info().rss
        buffer = torch.ones(50_000_000)
        del buffer
        print(psutil.Process().memory_info().rss - before)
    """
    output = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert (int(output.stdout) > 150_000_000) is prepared


@pytest.mark.skipif(not precision_module.has_bf16_instructions(), reason="oneDNN computes bf16 where it is native")
def test_scoring_keeps_few_of_the_kernels_that_are_compiled_for_shapes():
    code = """
        import sys, psutil, torch
        from toxicity.hardware.cpu import prepare_cpu
        prepare_cpu(scoring=sys.argv[1] == "True")
        def multiply(shapes):
            for rows in shapes:
                torch.ones(rows, 64, dtype=torch.bfloat16) @ torch.ones(64, 64, dtype=torch.bfloat16)
            return psutil.Process().memory_info().rss
        print(-multiply(range(1, 300)) + multiply(range(300, 1_000)))
    """
    # Without what another test of this process may have set.
    own = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    grown = {
        scoring: int(subprocess.check_output([sys.executable, "-c", textwrap.dedent(code), str(scoring)], env=own))
        for scoring in (True, False)
    }
    assert grown[True] < grown[False] / 2


def test_the_driver_is_asked_for_what_torch_does_not_tell(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Tesla P100-PCIE-16GB, 560.35.03'\necho 'NVIDIA GB10, 560.35.03'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    machine = describe_machine(torch.device("cpu"), 1)
    assert machine["driver"] == "560.35.03"
    assert machine["driver_gpus"] == ["Tesla P100-PCIE-16GB", "NVIDIA GB10"]


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found", None])
def test_a_machine_without_a_driver(monkeypatch, tmp_path, script):
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    machine = describe_machine(torch.device("cpu"), 1)
    assert (machine["driver"], machine["memory_bytes"], machine["driver_gpus"]) == (None, None, [])
    assert machine["torch"] == torch.__version__


@pytest.mark.parametrize("precision", ["no", "fp16", "bf16"])
def test_the_peak_is_measured_in_a_moment(precision):
    start = perf_counter()
    peak = measure_matmul_peak(torch.device("cpu"), precision)
    assert perf_counter() - start < 5
    assert 1e7 < peak < 1e14


def test_measuring_the_peak_leaves_the_random_numbers_of_training_alone():
    before = torch.get_rng_state()
    assert measure_matmul_peak(torch.device("cpu"), "no") > 0
    assert torch.equal(before, torch.get_rng_state())


def test_the_peak_of_a_full_device_is_that_of_what_had_room(monkeypatch):
    draw, calls = torch.randn, []

    def randn(*sizes, **options):
        calls.append(sizes)
        if sizes[0] > 256:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draw(*sizes, **options)

    monkeypatch.setattr(torch, "randn", randn)
    monkeypatch.setattr(machine, "PEAK_PROBE_SECONDS", float("inf"))
    assert measure_matmul_peak(torch.device("cpu"), "no") > 0
    assert calls[-1] == (512, 512)
