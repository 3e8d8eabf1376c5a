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
