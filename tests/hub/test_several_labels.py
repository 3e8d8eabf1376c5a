"""The model card and the publication of a run of several labels."""

import ast
import copy
import json
import re

import numpy as np
import pytest
import torch
import yaml
from builders import make_comments
from example_run import labelled_run
from hub_cards import card_errors
from huggingface_hub import ModelCard, snapshot_download
from hypothesis import HealthCheck, given, settings
from markup import HOSTILE, MARKDOWN
from published_run import LOCAL_FOLDER, REPO
from transformers import BertForSequenceClassification

from toxicity.core.console import printable
from toxicity.evaluation.calibration import Calibration
from toxicity.hub.model_card import write_card
from toxicity.hub.push import push_run
from toxicity.hub.redact import public_benchmark, public_config
from toxicity.report.write import write_report

NAMES = ("toxicity", "insult", "threat")
# Quotes, lines, other scripts, and what looks like local paths.
ODD_NAMES = ("toxic", 'an "insult"', "two\nlines \\ `x`", "\u202e日本語 😀", "/s", "hate/speech/of/groups", "$x$ | <b>")


@pytest.fixture(scope="module")
def made():
    return labelled_run(NAMES, 2000, [0.2, 0.1, 0.0])


def card_of(folder, row, **options):
    (folder / "report").mkdir(parents=True, exist_ok=True)
    write_card(folder, row, **options)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert list(card_errors(text)) == []
    return text, yaml.safe_load(text.split("---\n")[1])


def snippet_of(card):
    return re.search(r"```python\n(.*?)\n```", card, re.DOTALL)[1]


def test_each_label_has_its_result_in_the_metadata(made, tmp_path):
    metrics = made[2]["metrics"]
    _, metadata = card_of(tmp_path / "run", made[2])
    assert metadata["tags"] == ["toxicity", "content-moderation", "bias", "multi-label-classification"]
    assert metadata["metrics"] == ["roc_auc"]
    results = ModelCard.load(tmp_path / "run" / "README.md").data.eval_results
    assert {result.metric_name: (result.metric_type, result.metric_value) for result in results} == {
        "ROC AUC, toxicity": ("roc_auc", metrics["auc"]),
        "ROC AUC, insult": ("roc_auc", metrics["labels"]["insult"]["auc"]),
        "Mean ROC AUC over 2 of 3 labels": ("roc_auc", metrics["mean_auc"]),
        "Final score of Jigsaw Unintended Bias": ("final_score", metrics["bias"]["final_score"]),
    }


def test_the_card_says_which_labels_there_are_and_how_good_each_is(made, tmp_path):
    text, _ = card_of(tmp_path / "run", made[2])
    metrics = made[2]["metrics"]
    for shown in (
        "3 labels, each with a probability of its own",
        "The main one is `toxicity`; the others are `insult`, `threat`.",
        f"{metrics['auc']:.5f} (main label) | {metrics['mean_auc']:.5f} over 2 of 3 labels |",
        f"| `insult`   | 1,800 | {metrics['labels']['insult']['positives']}      |",
        "Of `threat`, `auc, auc_interval, average_precision` is undefined: all 1,800 rows are civil",
        "A label whose calibration is undefined has neither",
        "The power means of each label",
    ):
        assert shown in text
    assert "one label" not in text
    assert "None" not in text.replace("top_k=None", "")


def test_the_example_has_the_threshold_of_each_label_on_the_scale_of_the_pipeline(made, tmp_path):
    text, _ = card_of(tmp_path / "run", made[2], repo="me/labels")
    example = snippet_of(text)
    assert 'pipeline("text-classification", "me/labels", truncation=True, max_length=220, top_k=None)' in example
    thresholds = ast.literal_eval(re.search(r"thresholds = (\{.*?\n\})", example, re.DOTALL)[1])
    assert list(thresholds) == list(NAMES)
    for name, calibration in made[1].calibrations.items():
        assert thresholds[name] == pytest.approx(calibration.pipeline_threshold, abs=1e-5)
    assert thresholds["threat"] == 0.5


def renamed(row, names):
    metrics, sections = row["metrics"], row["metrics"]["labels"].values()
    probes = dict(zip(names, row["probe"]["labels"].values(), strict=True))
    return row | {
        "metrics": metrics | {"labels": dict(zip(names, sections, strict=True))},
        "protocol": row["protocol"] | {"labels": list(names)},
        "probe": row["probe"] | {"labels": probes},
    }


@given(HOSTILE)
@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
def test_names_of_labels_cannot_break_out_of_the_card(made, tmp_path, text):
    names = [f"{text}{place}" for place in range(3)]
    card, metadata = card_of(tmp_path / "run", renamed(made[2], names))
    plain, _ = card_of(tmp_path / "run", renamed(made[2], ["a0", "a1", "a2"]))
    body, plain_body = (page.split("---\n", 2)[2] for page in (card, plain))
    assert [token.type for token in MARKDOWN.parse(body)] == [token.type for token in MARKDOWN.parse(plain_body)]
    assert re.findall(r"<[^>]*>", MARKDOWN.render(body)) == re.findall(r"<[^>]*>", MARKDOWN.render(plain_body))
    assert body.replace("\n", "").isprintable()
    named = [metric["name"] for metric in metadata["model-index"][0]["results"][0]["metrics"]]
    assert named[:2] == [f"ROC AUC, {printable(name)}" for name in names[:2]]
    thresholds = ast.literal_eval(re.search(r"thresholds = (\{.*?\n\})", snippet_of(card), re.DOTALL)[1])
    assert list(thresholds) == names


@pytest.fixture(scope="module")
def published_labels(tmp_path_factory, tiny_config, tokenizer):
    """A run of labels with odd names, as it lies on the disk."""
    folder = tmp_path_factory.mktemp("labels") / "run"
    config = copy.deepcopy(tiny_config)
    config.id2label, config.label2id = dict(enumerate(ODD_NAMES)), {name: row for row, name in enumerate(ODD_NAMES)}
    config.vocab_source = LOCAL_FOLDER
    torch.manual_seed(0)
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    validation, evaluation, row = labelled_run(ODD_NAMES, 600)
    row["protocol"] |= {"model": LOCAL_FOLDER, "max_seq_length": 32}
    path = folder / "config.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"toxicity": evaluation.settings()}))
    write_report(folder, row, validation, evaluation, [])
    write_card(folder, row)
    return folder, evaluation


def test_a_run_of_several_labels_comes_back_from_the_hub(hub, published_labels, tmp_path, capsys):
    folder, evaluation = published_labels
    push_run(folder, "toxic-comments")
    loaded = snapshot_download(REPO, cache_dir=tmp_path / "empty")
    assert LOCAL_FOLDER.encode() not in hub.received()
    assert b"as somebody wrote it" not in hub.received()
    config = json.loads(hub.files(REPO)["config.json"])
    saved = json.loads((folder / "config.json").read_text())
    assert config | {"vocab_source": ...} == saved | {"vocab_source": ...}
    assert config["vocab_source"] == "base"
    benchmark = json.loads(hub.files(REPO)["report/benchmark.json"])
    assert tuple(benchmark["protocol"]["labels"]) == tuple(benchmark["metrics"]["labels"]) == ODD_NAMES
    assert {"report/roc_by_label.png", "report/precision_recall_by_label.png"} <= set(hub.files(REPO))

    example = snippet_of(hub.files(REPO)["README.md"].decode())
    assert f'"{REPO}"' in example
    capsys.readouterr()
    names = {}
    exec(example.replace(f'"{REPO}"', repr(loaded)), names)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("Thank you, that was kind of you.")

    texts = [text for text, _ in make_comments(8)]
    model = BertForSequenceClassification.from_pretrained(folder)
    from transformers import AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, max_length=32, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**inputs).logits.double().numpy()
    for results, row in zip(names["classify"](texts), logits, strict=True):
        scores = {result["label"]: result["score"] for result in results}
        assert [scores[name] for name in ODD_NAMES] == pytest.approx(1 / (1 + np.exp(-row)), abs=1e-5)
        found = {name for name in ODD_NAMES if scores[name] >= names["thresholds"][name]}
        predicted = zip(ODD_NAMES, evaluation.calibrations.values(), row, strict=True)
        assert found == {name for name, scale, logit in predicted if scale.probability(logit) >= scale.threshold}


def test_names_of_labels_are_published_as_they_are():
    config = {
        "id2label": {"0": "/s", "1": "a/b/c"},
        "toxicity": {"toxic_label": "/s", "labels": {"/s": {"threshold": 0.5}, "a/b/c": {}}},
        "vocab": "/home/jane/vocab.txt",
    }
    assert public_config(config) == config | {"vocab": "vocab.txt"}
    row = {"protocol": {"labels": ["/s", "a/b/c"], "model": "/home/jane/base"}, "metrics": {"labels": {"/s": {}}}}
    public = public_benchmark(row)
    assert public == row | {"protocol": {"labels": ["/s", "a/b/c"], "model": "base"}}


def test_reasons_are_kept_and_paths_in_them_are_not():
    section = {"auc": None, "undefined": {"auc": "read from /home/jane/x.csv, all 3 rows are civil"}}
    public = public_benchmark({"protocol": {}, "metrics": {"labels": {"threat": section}}})
    assert public["metrics"]["labels"]["threat"]["undefined"] == {"auc": "read from x.csv, all 3 rows are civil"}


@pytest.mark.parametrize("name", ["toxic", "insult", 'a "b"'])
def test_the_one_label_of_a_run_has_its_name_in_the_card(tmp_path, name):
    row = labelled_run([name], 400)[2]
    text, metadata = card_of(tmp_path / "run", row)
    assert f"one label, `{name}`, with a probability" in text
    assert f'{json.dumps(name)} if result["score"] >=' in snippet_of(text)
    assert "multi-label-classification" not in metadata["tags"]
    assert "main label" not in text
    names = [metric["name"] for metric in metadata["model-index"][0]["results"][0]["metrics"]]
    assert names[0] == "ROC AUC"
    assert Calibration.from_benchmark(row["calibration"]).pipeline_threshold == pytest.approx(
        float(re.search(r">= ([\d.e-]+)", text)[1]), abs=1e-5
    )
