import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from varlen_kernels import kernels_on_cpu

from benchmarks import gpu_checks
from benchmarks.gpu_checks import CHECKS, errors, within
from benchmarks.gpu_profile import busy_seconds, costs, profile_steps
from benchmarks.random_rows import LENGTHS, random_rows
from benchmarks.task import Task
from toxicity.models import attention, varlen_attention
from toxicity.models.packing import Layout


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    for seed, split in enumerate(("train", "validation")):
        random_rows(48, 2048, seed).save_to_disk(folder / split)
    return Task(str(folder), 1, "no", "tiny", batch_size=2, eval_batch_size=16, random_tokens=True)


@pytest.fixture(autouse=True)
def own_state():
    AcceleratorState._reset_state(reset_partial_state=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_random_rows_are_as_long_as_real_comments():
    rows = random_rows(4000, 2048, 0)
    counts = np.array(json.loads(LENGTHS.read_text()))
    assert len(counts) == 221
    mean = (np.arange(221) * counts).sum() / counts.sum()
    lengths = np.array(rows["length"][:])
    assert abs(lengths.mean() - mean) < 3
    assert lengths.tolist() == [len(row) for row in rows["input_ids"][:]]
    assert 0.2 < np.mean(rows["labels"][:]) < 0.45
    assert rows[:5] == random_rows(4000, 2048, 0)[:5]
    assert rows[:5] != random_rows(4000, 2048, 1)[:5]


@pytest.mark.parametrize("name", CHECKS)
def test_this_package_passes_the_checks_on_a_cpu(name, task):
    result = CHECKS[name](task)
    assert result["ok"], result
    json.dumps(result, allow_nan=False)


def test_the_road_of_variable_length_is_checked_beside_its_fallback(task, monkeypatch):
    layout = Layout(packed=True, grouping="none")
    monkeypatch.setattr("toxicity.training.trainer.layout_for", lambda *options: layout)
    monkeypatch.setattr(gpu_checks, "precisions_of", lambda place: ["no"])
    monkeypatch.setattr(varlen_attention, "_kernels", {})
    with kernels_on_cpu() as calls:
        found = CHECKS["packed_road"](task)
    assert found["ok"]
    assert found["precisions"]["no"].keys() == {"chosen", "fallback", "stock", "scoring", "layout", "log"}
    assert "_efficient_attention_backward" in calls
    assert any("memory_efficient" in line for line in found["precisions"]["no"]["log"])


BROKEN = {
    "the next comment too": lambda boundaries, scaling: (boundaries[[0, *range(2, len(boundaries), 2)]], scaling),
    "one token of the next comment": lambda boundaries, scaling: (
        torch.cat([boundaries[:1], boundaries[1:-1] + 1, boundaries[-1:]]),
        scaling,
    ),
    "no scale": lambda boundaries, scaling: (boundaries, 1.0),
    "a scale that is off by half": lambda boundaries, scaling: (boundaries, 1.5 * scaling),
}


@pytest.mark.parametrize("fault", [*BROKEN, "a comment that is left out"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_attention_that_is_wrong_is_found(task, monkeypatch, precision, fault):
    def attend(query, key, value, boundaries, longest, dropout, scaling):
        changed = BROKEN[fault](boundaries, scaling) if fault in BROKEN else (boundaries, scaling)
        attended = varlen_attention.attend(query, key, value, changed[0], 2 * longest, dropout, changed[1])
        is_kept = torch.arange(len(attended)) < boundaries[-1 if fault in BROKEN else -2]
        return attended * is_kept[:, None, None]

    monkeypatch.setattr(attention, "attend", attend)
    monkeypatch.setattr("toxicity.training.trainer.layout_for", lambda *options: Layout(packed=True, grouping="none"))
    monkeypatch.setattr(gpu_checks, "precisions_of", lambda place: [precision])
    monkeypatch.setattr(varlen_attention, "_kernels", {})
    with kernels_on_cpu():
        found = CHECKS["packed_road"](task)
    roads = found["precisions"][precision]
    assert not found["ok"]
    assert [roads[road]["ok"] for road in ("chosen", "scoring", "fallback")] == [False, False, True], roads


def test_a_wrong_gradient_of_one_small_parameter_is_found():
    reference = torch.ones(2, 1), {"large": torch.full((10,), 10.0), "small": torch.ones(1)}
    right = reference[0], {name: value * (1 + 1e-6) for name, value in reference[1].items()}
    wrong = reference[0], reference[1] | {"small": torch.zeros(1)}
    broken = reference[0], reference[1] | {"small": torch.full((1,), math.nan)}
    stock = errors(right, reference)
    assert within(stock, stock, (1e-4, 1e-3))
    assert errors(wrong, reference)["worst_parameter"] == "small"
    assert not within(errors(wrong, reference), stock, (1e-4, 1e-3))
    assert errors(broken, reference)["worst_gradient"] is None
    assert not within(errors(broken, reference), stock, (1e-4, 1e-3))
    with pytest.raises(AssertionError, match="small"):
        errors((reference[0], {"large": reference[1]["large"]}), reference)


def test_costs_are_counted_on_the_device():
    def event(category, start, duration, name="x"):
        return {"ph": "X", "cat": category, "ts": start, "dur": duration, "name": name}

    trace = [
        *(event("kernel", start, 4.0, "gemm") for start in (0.0, 2.0, 10.0, 20.0)),
        event("gpu_memcpy", 30.0, 1.0),
        *(event("cuda_runtime", start, 1.0, "cudaLaunchKernel") for start in range(4)),
        event("cuda_runtime", 5.0, 1.0, "cudaStreamSynchronize"),
        *[event("cpu_op", 0.0, 1.0)] * 6,
        {"ph": "M", "name": "process_name"},
    ]
    found = costs([trace, trace], seconds=60e-6, parts=2)
    assert (found["kernels"], found["copies"], found["launches"], found["operators"]) == (2, 0.5, 2, 3)
    assert found["device_seconds"] == pytest.approx(7.5e-6)
    assert found["device_busy"] == pytest.approx(0.25)
    assert found["slowest_kernels"]["gemm"] == pytest.approx(0.008)
    assert busy_seconds([]) == 0.0
    assert costs([[event("cpu_op", 0, 1)]], 1.0, 1)["kernels"] is None


def test_a_training_is_profiled(task):
    found = profile_steps(dataclasses.replace(task, limit=32))
    assert found["parts"] == 1
    assert found["training_part"]["operators"] > 100
    assert found["step"]["seconds"] > 0
    assert found["scoring"]["rows"] == 32
