"""The benchmark of scoring on Ray: what its commands tell, and what becomes of it."""

import json
import sys
from pathlib import Path

import pyarrow.csv
import pytest

from benchmarks import ray, ray_commands
from benchmarks.memory import process_memory
from benchmarks.ray import files_of, print_table, summarise, write_shards
from benchmarks.ray_commands import COMMANDS, Run, run_job
from benchmarks.rounds import run_module
from toxicity.core.errors import RequestError

CONTRACT = {"vs_two_processes", "same_bytes", "overhead_ms_a_shard", "driver_memory_growth_mb"}


def run_of(rate, seconds):
    return Run(1_000, 1_000 / rate, seconds, 500.0)


RUNS = {
    "one": [run_of(150, 20.0)],
    "two_processes": [run_of(200, 10.0), run_of(100, 12.0), run_of(210, 11.0)],
    "ray": [run_of(190, 22.0), run_of(195, 30.0), run_of(90, 20.0)],
}
SMALL = {"bare": 9.5, "two_processes": 10.0, "ray": 12.5}


def test_the_keys_are_those_of_the_contract():
    found = summarise(RUNS, True, SMALL, {10_000: 512.0, 10: 500.0})
    assert found.keys() >= CONTRACT
    assert found["same_bytes"] is True
    assert found["rows_per_second"] == pytest.approx({"one": 150, "two_processes": 200, "ray": 190})
    assert found["seconds"] == {"one": 20.0, "two_processes": 11.0, "ray": 22.0}
    assert found["vs_two_processes"] == pytest.approx(0.95)
    assert found["vs_two_processes_command"] == 0.5
    assert found["vs_one_process"] == pytest.approx(190 / 150)
    assert (found["overhead_ms_a_shard"], found["overhead_ms_a_shard_two_processes"]) == (3.0, 0.5)
    assert found["driver_memory_growth_mb"] == 12.0
    json.dumps(found)


def test_the_table_has_a_row_for_each(capsys):
    print_table(summarise(RUNS, True, SMALL, {10: 500.0, 10_000: 512.0}))
    shown = capsys.readouterr().out
    assert shown.count("\n") == 2 + 4
    assert "Ray" in shown
    assert "12.50" in shown


def test_shards_have_all_comments_in_turn(tmp_path):
    folder = write_shards(tmp_path / "shards", ["a", "b, c", "d"], 3, 2)
    tables = [pyarrow.csv.read_csv(path) for path in sorted(folder.iterdir())]
    assert [table["text"].to_pylist() for table in tables] == [["a", "b, c"], ["d", "a"], ["b, c", "d"]]
    assert [table["id"].to_pylist() for table in tables] == [[0, 1], [2, 3], [4, 5]]


SAID = "11-26 16:10:00 Scored 12,000 rows of 20 shards in 0:00:30, 1,200 rows/s; details are in out/manifest.json"


@pytest.fixture
def said(monkeypatch):
    """Have the command end with an exit code and say something; the value is the list of commands."""
    commands = []

    def arrange(text, exit_code=0):
        def run(module, log, *command):
            commands.append(command)
            Path(log).write_text(text)
            return {"seconds": 40.0, "exit_code": exit_code, "peak_mb": 512.0}

        monkeypatch.setattr(ray_commands, "run_module", run)
        return commands

    return arrange


@pytest.mark.parametrize("contender", COMMANDS)
def test_the_command_says_how_long_it_scored(said, contender, tmp_path):
    commands = said(SAID)
    assert run_job(contender, "model", tmp_path / "in", tmp_path / "out") == Run(12_000, 10.0, 40.0, 512.0)
    assert [str(part) for part in commands[0][-6:]] == [
        *("--model", "model", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    ]


@pytest.mark.parametrize(("text", "exit_code"), [("error: there is no Ray", 2), (SAID, 1), ("nothing of it", 0)])
def test_a_command_that_fails_ends_the_benchmark_with_what_it_said(said, tmp_path, text, exit_code):
    said(text, exit_code)
    with pytest.raises(SystemExit, match=f"Ray failed with exit code {exit_code}: {text}"):
        run_job("ray", "model", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("differing", [None, "manifest.json", "part-2.parquet"])
def test_one_byte_in_one_round_is_found(monkeypatch, tmp_path, differing):
    def job(name, model, shards, output):
        output.mkdir()
        for file in ("manifest.json", "part-1.parquet", "part-2.parquet"):
            changed = file == differing and output.name == "ray-2"
            (output / file).write_text("b" if changed else "a")
        return run_of(100, 1.0)

    monkeypatch.setattr(ray, "run_job", job)
    runs, same = ray.score_in_rounds(tmp_path, "model", tmp_path, 3)
    assert same is (differing is None)
    assert {name: len(of_one) for name, of_one in runs.items()} == {"one": 1, "two_processes": 3, "ray": 3}
    assert set(files_of(tmp_path)) > {"one/manifest.json", "ray-3/part-1.parquet"}


def test_the_memory_of_a_command_is_its_own(tmp_path):
    code = "import sys; text = bytearray(80 << 20); print('x'); print('said', file=sys.stderr); sys.exit(3)"
    found = run_module("benchmarks.memory", str(tmp_path / "log"), sys.executable, "-c", code)
    assert found["exit_code"] == 3
    assert 80 < found["peak_mb"] < 160
    assert process_memory("VmHWM") / 2**20 > 160  # of this process, which is none of its
    assert found["seconds"] > 0
    assert (tmp_path / "log").read_text() == "said\n"


def test_without_a_model_it_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["ray", "--model", str(tmp_path / "none")])
    with pytest.raises(RequestError, match="run `make demo` first"):
        ray.main()


def test_one_core_is_too_few(monkeypatch, model_dir):
    monkeypatch.setattr(sys, "argv", ["ray", "--model", str(model_dir)])
    monkeypatch.setattr(ray, "usable_cores", lambda: 1)
    with pytest.raises(RequestError, match="a model for each of 2 cores needs as many, and there is 1"):
        ray.main()


@pytest.mark.long
def test_all_of_it(model_dir, monkeypatch, capsys):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    flags = {"rows": 5, "rounds": 1, "small_shards": 6, "small_rounds": 1}
    argv = [str(part) for flag, value in flags.items() for part in (f"--{flag}", value)]
    monkeypatch.setattr(sys, "argv", ["ray", "--model", str(model_dir), *argv, "--memory_shards", "2", "6"])
    monkeypatch.setattr(ray, "usable_cores", lambda: 2)
    for name in ("HF_ASSETS_CACHE", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")  # which is as it was, afterwards
    monkeypatch.delattr("os.sched_setaffinity", raising=False)
    ray.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() >= CONTRACT
    assert found["same_bytes"] is True
    assert found["rows"] == 100
