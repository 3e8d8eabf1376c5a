import pytest

from toxicity.launching import processes_asked_for, start_missing_processes


@pytest.mark.parametrize(
    ("command", "processes"),
    [
        ("python -m accelerate.commands.launch --num_processes 2 run_toxicity.py", 2),
        ("/venv/bin/accelerate launch --cpu --num-processes=4 run_toxicity.py --seed 3", 4),
        ("/venv/bin/accelerate launch run_toxicity.py", 1),
        ("/venv/bin/accelerate launch --config_file accelerate_configs/multi_gpu.yaml run_toxicity.py", 2),
        ("/venv/bin/accelerate launch --config_file nowhere.yaml run_toxicity.py", 1),
        ("bash run.sh --num_processes 2", 1),
    ],
)
def test_what_the_launcher_was_asked_for(command, processes, monkeypatch):
    from processes import ROOT

    monkeypatch.chdir(ROOT)
    assert processes_asked_for(command.split()) == processes


@pytest.mark.parametrize("variable", ["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"])
def test_one_of_several_starts_no_others(monkeypatch, variable):
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv(variable, "0")
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("it did"))
    monkeypatch.setattr("toxicity.launching.processes_asked_for", lambda _: 2)
    start_missing_processes()


def test_one_alone_starts_the_others(monkeypatch):
    for variable in ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setattr("toxicity.launching.processes_asked_for", lambda _: 2)
    monkeypatch.setattr("sys.argv", ["run_toxicity.py", "--seed", "3"])
    started = []
    monkeypatch.setattr("os.execv", lambda _, command: started.append(command))
    start_missing_processes()
    assert started[0][-4:] == ["--nproc_per_node=2", "run_toxicity.py", "--seed", "3"]
