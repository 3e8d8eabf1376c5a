from processes import run


def test_make_lists_the_machines_it_knows():
    refused = run("make", "bench", "GPU=k80")
    assert refused.returncode == 2
    assert "unknown GPU `k80`; the known ones are" in refused.stderr
    assert "p100" in refused.stderr


def test_make_shows_its_targets():
    shown = run("make")
    assert shown.returncode == 0
    for target in ("setup", "demo", "test", "bench", "bench-speed", "chart", "compare", "estimate"):
        assert f"\n{target} " in f"\n{shown.stdout}"


def test_the_name_of_a_machine_may_have_capitals(tmp_path):
    shown = run("make", "--dry-run", "setup", "GPU=P100", f"VENV={tmp_path / 'venv'}")
    assert shown.returncode == 0, shown.stderr
    assert "-c constraints/p100.txt" in shown.stdout


def test_torch_alone_comes_from_an_index_of_its_own(tmp_path):
    index = "https://wheels.example/cpu"
    shown = run("make", "--dry-run", "setup", f"TORCH_INDEX={index}", f"VENV={tmp_path / 'venv'}")
    assert shown.returncode == 0, shown.stderr
    installs = [line for line in shown.stdout.splitlines() if "pip install" in line]
    assert [index in line for line in installs] == [True, False]
    assert f"--no-deps --index-url '{index}' torch -c constraints/cpu.txt" in installs[0]
    assert all("-c constraints/cpu.txt" in line for line in installs)
    without = run("make", "--dry-run", "setup", f"VENV={tmp_path / 'venv'}").stdout
    assert without.count("pip install") == 1
    assert "index" not in without
