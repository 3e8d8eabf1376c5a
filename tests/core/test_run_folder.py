from pathlib import Path

from toxicity.core.run_folder import RunFolder


def test_the_files_of_the_contract(tmp_path, monkeypatch):
    run = RunFolder("runs/mine")
    assert run.benchmark == Path("runs/mine/report/benchmark.json")
    assert (run.report, run.card) == (Path("runs/mine/report"), Path("runs/mine/README.md"))
    assert run.checkpoint(40) == Path("runs/mine/checkpoint-40")
    assert str(run) == "runs/mine"
    assert run.default_repo == "mine"
    monkeypatch.chdir(tmp_path)
    assert RunFolder(".").default_repo == tmp_path.name
