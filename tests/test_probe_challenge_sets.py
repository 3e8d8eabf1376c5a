"""The command `python -m toxicity.probe` with challenge sets: HateCheck and template sets."""

import json
import sys

import pandas as pd
import pytest
from label_models import calibration_of, save_label_model

from toxicity.core.errors import RequestError
from toxicity.evaluation.hatecheck import describe_hatecheck
from toxicity.evaluation.template_sets import describe_templates
from toxicity.predict import Scorer
from toxicity.probe import command, main

pytestmark = pytest.mark.usefixtures("cache_dir")

LABELS = ("toxic", "insult", "identity_hate")
CASES = pd.DataFrame(
    {
        "functionality": ["greet_nh"] * 4 + ["order_h"] * 4,
        "test_case": [f"{greeting} {who}." for greeting in ("Hello", "Go away") for who in ("bakers", "cooks") * 2],
        "label_gold": ["non-hateful"] * 4 + ["hateful"] * 4,
        "target_ident": ["bakers", "cooks"] * 4,
    }
)
# Ten sentences of either class for each term, all of them different.
SENTENCES = pd.DataFrame(
    [
        (f"a {term} {trade} is {word}", label)
        for term in ("blind", "tall", "deaf")
        for trade in ("baker", "cook", "tailor", "driver", "waiter", "farmer", "potter", "singer", "painter", "nurse")
        for word, label in (("kind", "NOT_BAD"), ("rotten", "BAD"))
    ],
    columns=["Text", "Label"],
)


@pytest.fixture
def model(tmp_path, tiny_config, tokenizer):
    return save_label_model(tmp_path / "model", tiny_config, tokenizer, LABELS)


@pytest.fixture
def cases(tmp_path):
    return written(tmp_path / "hatecheck.csv", CASES)


@pytest.fixture
def templates(tmp_path):
    return written(tmp_path / "madlibs.csv", SENTENCES)


def written(path, frame):
    frame.to_csv(path)
    return str(path)


def printed(capsys, *flags):
    main([*flags, "--runtime", "torch"])
    output = capsys.readouterr().out
    return output, json.loads(output.splitlines()[-1])


def test_hatecheck_by_the_main_label_and_that_of_hate(model, cases, capsys):
    output, found = printed(capsys, "--model", str(model), "--hatecheck", cases)
    assert [*found] == ["hatecheck"]
    found = found["hatecheck"]
    assert describe_hatecheck(found) in output
    assert [*found["labels"]] == ["toxic", "identity_hate"]
    scores = Scorer(str(model), runtime="torch").by_label(CASES["test_case"].to_list())
    hateful = CASES["label_gold"] == "hateful"
    for name, judged in found["labels"].items():
        assert judged["thresholds"] == calibration_of(LABELS.index(name))["thresholds"]
        for fitted_for, threshold in judged["thresholds"].items():
            right = (scores[name] >= threshold) == hateful
            assert judged["accuracy"][fitted_for] == right.mean()
            for key, column in (("functionalities", "functionality"), ("targets", "target_ident")):
                by_name = {group: row["accuracy"][fitted_for] for group, row in judged[key].items()}
                assert by_name == right.groupby(CASES[column]).mean().to_dict()


def test_templates_by_the_main_label(model, templates, capsys):
    output, found = printed(capsys, "--model", str(model), "--toxic_label", "insult", "--templates", templates)
    assert [*found] == ["templates"]
    found = found["templates"]
    assert describe_templates(found) in output
    assert found["thresholds"] == calibration_of(LABELS.index("insult"))["thresholds"]
    assert (found["rows"], found["toxic_rows"], found["rows_without_term"]) == (60, 30, 20)
    assert [*found["terms"]] == ["blind", "deaf"]  # nobody is known as tall
    scores = Scorer(str(model), toxic_label="insult", runtime="torch")(SENTENCES["Text"].to_list())
    civil = SENTENCES["Label"] == "NOT_BAD"
    rates = {name: (scores[civil] >= threshold).mean() for name, threshold in found["thresholds"].items()}
    assert found["false_positive_rate"] == rates
    assert found["undefined"] == {}


def test_a_column_of_terms_is_heeded(model, tmp_path, capsys):
    terms = [text.split()[1] for text in SENTENCES["Text"]]
    file = written(tmp_path / "terms.csv", SENTENCES.assign(Term=terms))
    _, found = printed(capsys, "--model", str(model), "--templates", file)
    assert [*found["templates"]["terms"]] == ["blind", "deaf", "tall"]


def test_both_together(model, cases, templates, capsys):
    output, found = printed(capsys, "--model", str(model), "--hatecheck", cases, "--templates", templates)
    assert [*found] == ["hatecheck", "templates"]
    assert output.index("HateCheck, `hatecheck.csv`:") < output.index("Templates, `madlibs.csv`:")


def test_an_encoding_is_that_of_a_file(model, tmp_path, capsys):
    file = str(tmp_path / "madlibs.csv")
    SENTENCES.replace("a tall baker is kind", "a tall bäcker is kind").to_csv(file, encoding="cp1252")
    _, found = printed(capsys, "--model", str(model), "--templates", file, "--encoding", "windows-1252")
    assert found["templates"]["rows"] == 60
    for flags, message in (
        (("--templates", file), "--encoding cp1252"),
        (("--templates", file, "--encoding", "utf_9"), "no character encoding"),
        (("--encoding", "cp1252"), "--encoding is that of a file"),
    ):
        with pytest.raises(RequestError, match=message):
            main(["--model", str(model), *flags])


def test_the_log_tells_which_labels_mean_toxic_and_that_terms_were_looked_for(model, templates, capsys):
    main(["--model", str(model), "--runtime", "torch", "--templates", templates])
    told = capsys.readouterr().err
    assert "madlibs.csv: the column `Label` means: toxic `BAD` (30 rows); civil `NOT_BAD` (30 rows)." in told
    assert "madlibs.csv has no column `term`: 2 known terms were found in the sentences." in told
    assert "Scoring the 60 sentences of madlibs.csv." in told


@pytest.mark.parametrize(
    ("flag", "frame", "message"),
    [
        (
            "--hatecheck",
            SENTENCES,
            'has no column test_case, in which --hatecheck has the case; it has "", Text',
        ),
        ("--templates", CASES, "has no column text or phrase or sentence"),
        (
            "--templates",
            SENTENCES[SENTENCES["Label"] == "BAD"],
            "tests.csv: all 30 rows are toxic; a template set needs",
        ),
        ("--templates", SENTENCES.assign(Text="a tall cook"), "tests.csv: none of .* known terms"),
        ("--templates", SENTENCES.assign(term=""), "tests.csv: the column of terms is empty"),
    ],
)
def test_a_file_that_cannot_work_is_refused_before_the_model_is_loaded(
    tmp_path, capsys, monkeypatch, flag, frame, message
):
    file = written(tmp_path / "tests.csv", frame)
    monkeypatch.setattr(sys, "argv", ["toxicity-probe", "--model", "runs/none", flag, file])
    with pytest.raises(RequestError, match=message):
        main()
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("error: ")
