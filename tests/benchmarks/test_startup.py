import pytest
from builders import ROOT

from benchmarks.startup import modules_of, ratios


def test_ratios_are_how_many_times_as_fast():
    seconds = {"help own": 2.0, "help all_imports": 6.0, "dry_run own": 3.0, "dry_run all_imports": 6.0}
    assert ratios(seconds) == pytest.approx({"help_vs_all_imports": 3.0, "dry_run_vs_all_imports": 2.0})


def test_every_import_of_the_script_counts_wherever_it_is():
    modules = modules_of((ROOT / "run_toxicity.py").read_text(encoding="utf-8"))
    assert {"toxicity.core.errors", "toxicity.data.sources", "toxicity.training.trainer", "transformers"} <= {*modules}
