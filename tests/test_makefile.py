import subprocess

from builders import ROOT


def make(*arguments):
    root = ROOT
    return subprocess.run(["make", *arguments], cwd=root, capture_output=True, text=True, check=False)


def test_make_lists_the_machines_it_knows():
    refused = make("bench", "GPU=k80")
    assert refused.returncode == 2
    assert "unknown GPU `k80`; the known ones are" in refused.stderr
    assert "p100" in refused.stderr


def test_make_shows_its_targets():
    shown = make()
    assert shown.returncode == 0
    for target in ("setup", "demo", "test", "bench", "bench-speed", "compare", "estimate"):
        assert f"\n{target} " in f"\n{shown.stdout}"
