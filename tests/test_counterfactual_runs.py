"""A run with counterfactual copies, end to end: what it trains on, and what its report and card say."""

import json
import re

import pytest
from builders import make_comments, training_flags, write_csv
from transformers import AutoModelForSequenceClassification

from toxicity.models.flops import encoder_of

TERMS = ["a gay man said", "Muslims said", "some women said", "the weather said"]


@pytest.fixture
def comments(tmp_path):
    rows = [[n, f"{TERMS[n % 4]} {text}", label] for n, (text, label) in enumerate(make_comments(120))]
    return write_csv(tmp_path / "comments.csv", ["id", "text", "target"], rows)


def ran(run_main, checkpoint, comments, folder, capsys, *more, **options):
    run_main(*training_flags(checkpoint, comments, output_dir=folder, **options), *more)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_copies_are_trained_on_paired_and_told(run_main, checkpoint, comments, tmp_path, capsys):
    options = {"counterfactuals": 1, "counterfactual_pairing": 0.5, "identity_rows": 0.6, "max_train_samples": 60}
    benchmark = ran(run_main, checkpoint, comments, tmp_path / "run", capsys, max_eval_samples=30, **options)
    assert benchmark["protocol"]["train_rows"] == 60
    chosen = {name: options[name] for name in ("counterfactuals", "counterfactual_pairing", "identity_rows")}
    assert chosen.items() <= benchmark["protocol"]["options"].items()
    copies = benchmark["counterfactuals"]
    assert copies["comments"] > 36
    # One of each civil comment that names a group; those of toxic ones are left out.
    assert 36 <= copies["copies"] < copies["comments"]
    assert set() < set(copies["terms_probed"]) < set(copies["terms"])
    for name in ("report/report.md", "report/report.html", "README.md"):
        text = " ".join((tmp_path / "run" / name).read_text().split())
        assert (
            "The sentences of the probe were not among them; of its words for people these were put into copies: "
            in text
        )
        assert f"60 comments and {copies['copies']} copies" in text


def test_a_copy_attends_to_itself_alone(run_main, checkpoint, comments, tmp_path, capsys):
    options = {"counterfactuals": 3, "counterfactual_pairing": 0.5, "max_train_samples": 60}
    benchmark = ran(run_main, checkpoint, comments, tmp_path / "run", capsys, **options)
    seconds = benchmark["timing"]["training_seconds"]
    tokens, flops = (benchmark["throughput"][f"training_{of}_per_second"] * seconds for of in ("tokens", "flops"))
    encoder = encoder_of(AutoModelForSequenceClassification.from_pretrained(tmp_path / "run"))
    pairs = (flops / 3 - 2 * encoder.weights * tokens) / (4 * encoder.layers * encoder.width)
    assert tokens * tokens / pairs == pytest.approx(60 + benchmark["counterfactuals"]["copies"])


def test_a_run_without_them_says_nothing_of_them(run_main, checkpoint, comments, tmp_path, capsys):
    benchmark = ran(run_main, checkpoint, comments, tmp_path / "run", capsys)
    assert "counterfactuals" not in benchmark
    assert not {"counterfactuals", "identity_rows", "identity_terms"} & benchmark["protocol"]["options"].keys()
    for name in ("report/report.md", "report/report.html", "README.md"):
        assert "copies" not in (tmp_path / "run" / name).read_text()


def test_a_dry_run_counts_them(run_main, checkpoint, comments, tmp_path, capsys):
    run_main(*training_flags(checkpoint, comments, output_dir=tmp_path / "run", counterfactuals=2), "--dry_run")
    told = r"Copies with another group, among those to train on: (\d+); comments that name a group: (\d+)"
    copies, comments_with_one = map(int, re.search(told, capsys.readouterr().out).groups())
    assert copies == 2 * comments_with_one > 0


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ("groups: {cats: {pets: [a cat]}, dogs: {pets: [a dog]}}", "none of the 80 training comments names a group"),
        ("groups: {cats: {pets: [a cat]}, dogs: {pets: [a cat]}}", "`cat` is in the groups `cats` and `dogs`"),
        ("terms: []", "has no key `groups`"),
    ],
)
def test_what_cannot_work_is_refused(run_main, checkpoint, comments, tmp_path, capsys, terms, message):
    (tmp_path / "terms.yaml").write_text(terms)
    options = {"counterfactuals": 3, "identity_terms": tmp_path / "terms.yaml"}
    with pytest.raises(SystemExit) as stop:
        run_main(*training_flags(checkpoint, comments, output_dir=tmp_path / "run", **options))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
