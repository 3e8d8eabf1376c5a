import dataclasses
import json
import subprocess
import sys

import pytest
from builders import ROOT
from cards import V100, put_in

from benchmarks import gpu
from benchmarks.gpu_report import contract, is_correct, print_report
from benchmarks.task import Task
from benchmarks.trainers import stock_model
from toxicity.core.errors import RequestError
from toxicity.models.flops import BERT_BASE

CONTRACT = {
    *("training_mfu", "scoring_mfu", "training_vs_hf_padded", "training_vs_hf_best", "scoring_vs_hf_best"),
    *("kernel_launches_per_part", "attention_padding", "auc_difference"),
}
MACHINE = {
    "machine": {"label": "x1", "device_name": "Card X1", "torch": "2.11.0"},
    "precision": "fp16",
    "matmul_flops": {"fp16": 1e14, "no": 1e13},
}
COSTS = {"seconds": 0.1, "kernels": 640.0, "copies": 3.0, "device_busy": 0.5}
NUMBERS = {
    "machine": MACHINE,
    "packed_road": {"ok": True, "precisions": {"no": {"chosen": {"logits": 1e-7, "gradients": None}, "log": []}}},
    "loss_curves": {"ok": True, "largest_difference": 1e-6, "steps": 30},
    "overflow": {"ok": True, "skipped_steps": 9, "steps": 24, "scores_refused": "RequestError: no"},
    "resume": {
        **{"ok": True, "bit_by_bit": False},
        **{"largest_difference": 1e-6, "largest_difference_of_two_whole_runs": 2e-6},
    },
    "profile": {"parts": 1, "training_part": COSTS, "step": COSTS, "scoring": COSTS | {"kernels": None}},
}


# Of a failure on a GPU.
LOG = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
torch.AcceleratorError: CUDA error: no kernel image is available
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""
environments = []


def contender(name):
    seconds = {"ours": 1.0, "ours_compiled": 0.5, "hf_padded": 4.0, "hf_dynamic": 3.0, "hf_best": 2.0}[name]
    run = {"training_seconds": seconds, "scoring_seconds": seconds / 2, "trained_rows": 192, "scored_rows": 192}
    padding = dict.fromkeys(("padding_linear", "padding_attention"), 0.25)
    padding |= {f"scoring_{key}": 0.0 for key in ("padding_linear", "padding_attention")}
    return run | {"peak_memory_bytes": 1, "auc": 0.9, "peak": 1e14} | (padding if name.startswith("ours") else {})


@pytest.fixture
def run_steps(monkeypatch, tmp_path, capsys):
    """Runs the benchmark with results made up, or the failures given: `hangs`, or an exit code."""

    def run(*flags, failures=None, seconds=0.0):
        steps = []

        def step(command, timeout, env, **options):
            name = command[3]
            steps.append(name)
            environments.append(env)
            clock.now += min(seconds, timeout)
            left = json.loads((tmp_path / "x1.json").read_text()) if (tmp_path / "x1.json").exists() else None
            kept.append(left)
            failure = (failures or {}).get(name, 0)
            if failure == "hangs":
                clock.now += timeout
            if failure == "hangs" or seconds > timeout:
                raise subprocess.TimeoutExpired(command, timeout)
            result = NUMBERS.get(name) or contender(name)
            return subprocess.CompletedProcess(command, failure, f"log\n{json.dumps(result)}\n", LOG)

        kept, clock = [], Clock()
        environments.clear()
        monkeypatch.setattr(gpu, "time", clock)
        monkeypatch.setattr(gpu.psutil, "Process", lambda: clock)
        monkeypatch.setattr(gpu.subprocess, "run", step)
        monkeypatch.setattr(gpu, "random_rows", lambda count, size, seed: Rows())
        monkeypatch.setattr(gpu, "tokens_of", lambda task: {"train": 12_000, "validation": 13_000})
        monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--folder", str(tmp_path), *map(str, flags)])
        monkeypatch.setattr(gpu, "stock_model", lambda task: stock_model(dataclasses.replace(task, model_shape="tiny")))
        code = gpu.main()
        *table, last = capsys.readouterr().out.splitlines()
        return code, steps, kept, json.loads((tmp_path / "x1.json").read_text()), json.loads(last), "\n".join(table)

    return run


class Rows:
    def save_to_disk(self, path):
        pass


class Clock:
    """In place of the module `time`, and of this process."""

    now = 1e9

    def time(self):
        return self.now

    def create_time(self):
        return 1e9


def test_the_last_line_has_the_numbers_of_the_contract(run_steps):
    code, steps, _, record, last, table = run_steps("--tiny")
    assert (code, record["complete"], last["correct"]) == (0, True, True)
    assert steps == ["machine", *gpu.CHECKS, "profile", *gpu.CONTENDERS]
    assert last.keys() >= CONTRACT
    assert None not in last.values()
    assert (last["training_vs_hf_padded"], last["scoring_vs_hf_best"], last["kernel_launches_per_part"]) == (4, 2, 640)
    assert last["attention_padding"] == 0.25
    assert "no figures of a GPU" in record["note"]
    assert record["note"] in table
    assert "bit by bit" not in table


def test_results_are_on_disk_after_every_step(run_steps):
    kept = run_steps("--tiny")[2]
    assert kept[:2] == [None, None], "the machine names the file"
    assert [len(record["steps"]) for record in kept[2:]] == list(range(2, 10))
    assert kept[-1]["contenders"].keys() == {"ours", "hf_padded", "hf_best"}
    assert kept[-1]["result"]["training_vs_hf_padded"] == 4


@pytest.mark.parametrize(
    ("failures", "code", "correct", "shown"),
    [
        ({"resume": 1}, 1, False, "exit code 1: torch.AcceleratorError: CUDA error: no kernel image is available"),
        ({"hf_best": 1}, 1, True, "exit code 1: torch.AcceleratorError: CUDA error: no kernel image is available"),
        ({"resume": "hangs"}, 1, False, "cut off after 160 s"),
        ({"hf_best": "hangs"}, 1, True, "cut off after 160 s"),
    ],
)
def test_what_fails_is_told_and_the_rest_is_measured(run_steps, failures, code, correct, shown):
    got, steps, _, record, last, table = run_steps("--tiny", failures=failures)
    assert (got, last["correct"], record["complete"]) == (code, correct, False)
    assert steps[-1] == gpu.CONTENDERS[-1]
    assert [name for name, note in record["steps"].items() if "log" in note] == [
        name for name in record["steps"] if name.split(": ")[-1] in failures
    ]
    assert shown in table
    assert last["training_vs_hf_padded"] == 4
    assert (last["training_vs_hf_best"] is None) == ("hf_best" in failures)


@pytest.mark.parametrize(
    ("visible", "device", "card"),
    [(None, "cuda", "0"), ("2,3", "cuda", "2"), ("MIG-1f", "cuda", "MIG-1f"), ("2", "cpu", "")],
)
def test_steps_see_one_card_and_no_network(run_steps, monkeypatch, visible, device, card):
    put_in(monkeypatch, V100)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    run_steps("--tiny", "--device", device)
    assert {(step["CUDA_VISIBLE_DEVICES"], step["HF_HUB_OFFLINE"]) for step in environments} == {(card, "1")}
    assert "HF_HOME" in environments[0]


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (LOG, "torch.AcceleratorError: CUDA error: no kernel image is available"),
        ("Fatal Python error: Segmentation fault\n\nThread 0x1\n  File x\n", "Fatal Python error: Segmentation fault"),
        ("KeyError: 'a'\n\nDuring handling ...\nValueError: b\nmore\n", "ValueError: b"),
        ("Killed\n", "Killed"),
        ("", "it wrote no message"),
    ],
)
def test_the_error_of_a_step_is_named(log, error):
    assert gpu.error_in(log) == error


@pytest.mark.parametrize("created", [0.0, 1e9 - 3600, 1e9 + 3600])
def test_a_clock_that_was_set_costs_a_minute_at_most(monkeypatch, created):
    monkeypatch.setattr(gpu, "time", Clock())
    monkeypatch.setattr(Clock, "create_time", lambda self: created)
    monkeypatch.setattr(gpu.psutil, "Process", Clock)
    assert 8 * 60 - 65 <= gpu.Record(8, on_cpu=False).seconds_left() <= 8 * 60 - 5


def test_a_check_that_is_not_passed_ends_with_1(run_steps, monkeypatch):
    monkeypatch.setitem(NUMBERS, "resume", NUMBERS["resume"] | {"ok": False})
    code, *_, last, table = run_steps("--tiny")
    assert (code, last["correct"]) == (1, False)
    assert ["resume", "NO"] in [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()]


MEASURED = ["machine", *gpu.CHECKS, "profile", *gpu.CONTENDERS]


@pytest.mark.parametrize(
    ("minutes", "steps", "rounds"),
    [
        (60, [*MEASURED, *gpu.CONTENDERS * (gpu.MOST_ROUNDS - 1), "ours", "hf_best", "ours_compiled"], gpu.MOST_ROUNDS),
        (8, [*MEASURED, "ours"], 1),
        (10, [*MEASURED, *gpu.CONTENDERS], 2),
        (4.5, MEASURED[:7], 0),
        (2.5, MEASURED[:4], 0),
        (2.1, MEASURED[:3], 0),
    ],
)
def test_rounds_and_extras_fill_the_time(run_steps, minutes, steps, rounds):
    code, got, _, record, last, _ = run_steps("--minutes", minutes, seconds=40)
    assert got == steps
    assert (code, record.get("rounds", 0)) == (0, rounds)
    assert record["seconds"] <= 60 * minutes
    assert record.get("extras", {}).keys() == {60: {"fp32", "compiled"}, 8: {"fp32"}}.get(minutes, set())
    assert (last["training_vs_hf_best"] is None) == ("hf_best" not in steps)


def test_what_triton_cannot_compile_for_is_no_failure(run_steps, monkeypatch):
    monkeypatch.setitem(MACHINE["machine"], "compute_capability", "6.0")
    code, steps, *_ = run_steps("--minutes", 60)
    assert (code, steps[-2:]) == (0, ["ours", "hf_best"])


def test_rows_are_as_many_as_the_card_can_take():
    assert gpu.fitting_rows(BERT_BASE, None) == gpu.fitting_rows(BERT_BASE, 1e12) == 64 * gpu.FEWEST_STEPS
    middle = gpu.fitting_rows(BERT_BASE, 1e14)
    assert middle % 64 == 0
    assert 64 * gpu.FEWEST_STEPS < middle < 64 * gpu.MOST_STEPS == gpu.fitting_rows(BERT_BASE, 1e16)


def test_without_a_gpu_it_says_what_works(monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    monkeypatch.setattr(gpu, "unused_gpu", lambda: None)
    with pytest.raises(RequestError, match="no GPU that torch can use.* --device cpu --tiny"):
        gpu.main()
    monkeypatch.setattr(gpu, "unused_gpu", lambda: "the card is hidden.")
    with pytest.raises(RequestError, match="the card is hidden."):
        gpu.main()


def test_a_record_of_nothing_but_the_machine_can_be_shown(capsys):
    task = dataclasses.asdict(Task("", 1, "no", "tiny")) | {"rows": 1, "tokens": {"train": 1}}
    record = {**MACHINE, "steps": {"machine": {}}, "correctness": {}, "task": task}
    print_report(record)
    assert "Card X1" in capsys.readouterr().out
    assert is_correct(record) is None
    assert set(contract(record).values()) == {None}


@pytest.mark.long
def test_everything_runs_on_a_cpu(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--device",
        "cpu",
        "--tiny",
        "--precision",
        "no",
        "--minutes",
        "30",
    ]
    done = subprocess.run([*command, "--folder", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert {name for name in CONTRACT if last[name] is None} == {"kernel_launches_per_part"}
    assert json.loads((tmp_path / "cpu.json").read_text())["complete"]


def test_a_card_without_kernels_is_refused(run_steps, monkeypatch):
    put_in(monkeypatch, dataclasses.replace(V100, torch="2.13.0+cu130", architectures=("sm_75", "sm_80")))
    with pytest.raises(RequestError, match="has no kernels for the Tesla V100.*make setup GPU=v100"):
        run_steps("--tiny", "--device", "cuda")
