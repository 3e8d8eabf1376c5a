import json
import subprocess

import pytest
import yaml

from benchmarks import ablate
from benchmarks.ablate import (
    BEST_RUN,
    PLAIN,
    PLAIN_RUN,
    RECIPE,
    RUNS,
    as_flags,
    result_of,
    rewritten_table,
    summary,
    table,
)
from toxicity.core.arguments import parse_arguments
from toxicity.core.errors import RunFailure


def results(*pairs):
    return [{"auc": auc, "training_seconds": seconds} for auc, seconds in pairs]


ROWS = {
    PLAIN_RUN: results((0.980, 10), (0.984, 10), (0.982, 20)),
    "head and tail": results((0.985, 9), (0.985, 12), (0.985, 18)),
    "head bias": results((0.986, 10), (0.987, 10), (0.988, 20)),
    "layer-wise decay 0.9": results((0.983, 10), (0.991, 10), (0.987, 20)),
    BEST_RUN: results((0.977, 11), (0.977, 13), (0.977, 20)),
}


def test_a_gain_counts_when_it_beats_the_spread_of_the_seeds():
    plain, small, large, uneven, worse = table(ROWS)
    assert plain == (PLAIN_RUN, "0.98200", "0.98000 0.98400 0.98200", "± 0.00400", "1.00", "")
    assert small[-3:] == ("+0.00300, within the spread", "0.90", "")
    assert large[-3:-1] == ("+0.00500, better", "1.00")
    assert uneven[-3:-1] == ("+0.00500, within the spread", "1.00")
    assert worse[-3:-1] == ("-0.00500, worse", "1.10")


def test_shifts_are_told_by_seed():
    runs = {PLAIN_RUN: [{"auc": 0.9, "training_seconds": 1, "largest_shift": shift} for shift in (0.27, -0.1, None)]}
    assert table(runs)[0][-1] == "+0.270 -0.100"


def test_the_summary_has_the_numbers_of_the_contract():
    assert summary(ROWS) == {
        "plain_auc_mean": pytest.approx(0.982),
        "best_auc_mean": pytest.approx(0.977),
        "auc_spread": pytest.approx(0.004),
        "best_time_vs_plain": pytest.approx(1.1),
    }
    assert summary({PLAIN_RUN: ROWS[PLAIN_RUN]})["best_auc_mean"] is None


def test_other_writing_is_compared_by_mean_and_spread():
    rows = {
        "in other writing": [{"rewritten_aucs": {"typos": auc, "emojis": 0.9}} for auc in (0.8, 0.82, 0.81)],
        "typos 0.1": [{"rewritten_aucs": {"typos": 0.9, "emojis": 0.8}}] * 3,
    }
    assert rewritten_table(rows) == (
        ("", "typos", "emojis"),
        [
            ("in other writing", "0.81000 ± 0.02000", "0.90000 ± 0.00000"),
            ("typos 0.1", "0.90000 ± 0.00000", "0.80000 ± 0.00000"),
        ],
    )


def test_what_was_run_is_taken_from_its_file_if_it_had_the_same_flags(tmp_path, monkeypatch):
    flags = {**PLAIN, "seed": 1}
    recipe = yaml.safe_load(RECIPE.read_text())
    kept = {"flags": flags, "recipe": recipe, "auc": 0.5, "training_seconds": 1.0}
    (tmp_path / "plain-1.json").write_text(json.dumps(kept))
    monkeypatch.setattr(ablate.subprocess, "run", lambda *args, **kwargs: pytest.fail("it was run again"))
    assert result_of(PLAIN_RUN, 1, tmp_path, None) == kept
    with pytest.raises(pytest.fail.Exception):
        result_of("head bias", 1, tmp_path, None)
    (tmp_path / "head-bias-1.json").write_text(json.dumps(kept))
    with pytest.raises(pytest.fail.Exception):
        result_of("head bias", 1, tmp_path, None)


def test_several_labels_are_compared_by_their_mean(tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        found = {"metrics": {"auc": 0.9, "mean_auc": 0.7}, "timing": {"training_seconds": 1.0}}
        (tmp_path / "plain-1").mkdir()
        return subprocess.CompletedProcess(command, 0, json.dumps(found), "")

    monkeypatch.setattr(ablate.subprocess, "run", run)
    more = ["--train_file", "x.csv", "--label_column_names", "toxic", "threat"]
    first = result_of(PLAIN_RUN, 1, tmp_path, None, more)
    assert first["auc"] == 0.7
    assert " ".join(more) in " ".join(commands[0])
    assert result_of(PLAIN_RUN, 1, tmp_path, None, more) == first
    assert len(commands) == 1
    # Other data are another run.
    result_of(PLAIN_RUN, 1, tmp_path, None, ["--train_file", "y.csv"])
    assert len(commands) == 2


def test_a_run_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setitem(RUNS, PLAIN_RUN, {"no_such_flag": 1})
    with pytest.raises(RunFailure, match="unknown flag `--no_such_flag`"):
        result_of(PLAIN_RUN, 1, tmp_path, None)
    assert not list(tmp_path.glob("*.json"))


def test_the_best_is_what_the_sample_recipe_does():
    parsed = parse_arguments(["recipes/sample.yaml"])
    rows = {"max_train_samples", "max_eval_samples"}  # the demo is to be over in minutes
    for flag, value in ((flag, value) for flag, value in RUNS[BEST_RUN].items() if flag not in rows):
        groups = (parsed.data, parsed.model, parsed.objective, parsed.training)
        assert next(getattr(group, flag) for group in groups if hasattr(group, flag)) == value


def test_a_plain_run_has_nothing_of_the_recipe_but_what_every_run_needs():
    needed = {"dataset_name", "model_name_or_path", "output_dir", "per_device_eval_batch_size", "logging_steps"}
    needed |= {"train_sampling_strategy", "optim", "save_strategy", "seed"}
    assert yaml.safe_load(RECIPE.read_text()).keys() - needed <= PLAIN.keys()


@pytest.mark.parametrize("name", RUNS)
def test_every_run_has_flags_that_are_known(name):
    parsed = parse_arguments(["recipes/sample.yaml", *as_flags(RUNS[name])])
    for flag, value in RUNS[name].items():
        group = next(g for g in (parsed.data, parsed.model, parsed.objective, parsed.training) if hasattr(g, flag))
        assert getattr(group, flag) == value
