import pytest

from toxicity.core.launching import is_launcher, processes_asked_for, start_missing_processes


@pytest.mark.parametrize(
    ("command", "processes"),
    [
        ("python -m accelerate.commands.launch --num_processes 2 run_toxicity.py", 2),
        ("/venv/bin/accelerate launch --cpu --num-processes=4 run_toxicity.py --seed 3", 4),
        ("/venv/bin/accelerate launch run_toxicity.py", 1),
        ("/venv/bin/accelerate launch --config_file accelerate_configs/multi_gpu.yaml run_toxicity.py", 2),
        ("/venv/bin/accelerate launch --config_file nowhere.yaml run_toxicity.py", 1),
        ("bash run.sh --num_processes 2", 1),
        ("bash -c accelerate launch --num_processes 2 run_toxicity.py", 1),
        ("/venv/bin/accelerate launch run_toxicity.py --num_processes 2", 1),
        ("/venv/bin/python /venv/bin/accelerate-launch --num_processes 2 run_toxicity.py", 2),
    ],
)
def test_what_the_launcher_was_asked_for(command, processes, monkeypatch):
    from builders import ROOT

    monkeypatch.chdir(ROOT)
    assert processes_asked_for(command.split()) == processes


def test_a_config_is_found_where_the_launcher_finds_it(tmp_path, monkeypatch):
    config = tmp_path / "my configs" / "two.yaml"
    config.parent.mkdir()
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 3\n")
    assert processes_asked_for(["accelerate", "launch", "--config_file", str(config), "run_toxicity.py"]) == 3
    monkeypatch.setattr("toxicity.core.launching.default_config_file", str(config))
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(config))
    assert processes_asked_for(["accelerate", "launch", "run_toxicity.py"]) == 3
    assert processes_asked_for(["accelerate", "launch", "--cpu", "run_toxicity.py"]) == 1


def test_what_mentions_a_launcher_is_none():
    assert is_launcher(["python3", "-u", "-m", "accelerate.commands.launch", "run_toxicity.py"])
    assert is_launcher(["/venv/bin/python", "/venv/bin/torchrun", "run_toxicity.py"])
    assert not is_launcher(["bash", "-c", "cd accelerate && python run_toxicity.py"])
    assert not is_launcher(["python", "sweep.py", "accelerate"])
    assert not is_launcher([])


@pytest.mark.parametrize("variable", ["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"])
def test_one_of_several_starts_no_others(monkeypatch, variable):
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv(variable, "0")
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("it did"))
    monkeypatch.setattr("toxicity.core.launching.processes_asked_for", lambda _: 2)
    start_missing_processes()


def test_one_alone_starts_the_others(monkeypatch):
    for variable in ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setattr("toxicity.core.launching.processes_asked_for", lambda _: 2)
    monkeypatch.setattr("sys.argv", ["run_toxicity.py", "--seed", "3"])
    started = []
    monkeypatch.setattr("os.execv", lambda _, command: started.append(command))
    start_missing_processes()
    assert started[0][-4:] == ["--nproc_per_node=2", "run_toxicity.py", "--seed", "3"]
