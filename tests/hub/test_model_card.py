import copy
import itertools
import json
import re

import pytest
import yaml
from example_run import full_benchmark
from hub_cards import card_errors
from huggingface_hub import ModelCard

from toxicity.hub.model_card import write_card

FULL = full_benchmark()


@pytest.fixture
def card_of(tmp_path):
    """The card of a benchmark, and its metadata."""

    def write(benchmark, **options):
        folder = tmp_path / "toxic-comments"
        (folder / "report").mkdir(parents=True, exist_ok=True)
        write_card(folder, benchmark, **options)
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert list(card_errors(text)) == []
        lines = text.splitlines()
        for line, following in itertools.pairwise(lines):
            assert not following.startswith("|") or line.startswith("|") or not line, "tables stand by themselves"
        return text, yaml.safe_load(text.split("---\n")[1])

    return write


def without(benchmark, *path):
    changed = copy.deepcopy(benchmark)
    part = changed
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = None
    return changed


def test_the_metadata_say_what_the_hub_wants_to_know(card_of, tmp_path):
    _, metadata = card_of(FULL, repo="me/toxic-bert", dataset_name="google/civil_comments", dataset_revision="abc")
    assert metadata | {"model-index": ...} == {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["toxicity", "content-moderation", "bias"],
        "base_model": "google-bert/bert-base-uncased",
        "datasets": ["google/civil_comments"],
        "metrics": ["roc_auc"],
        "model-index": ...,
    }
    results = ModelCard.load(tmp_path / "toxic-comments" / "README.md").data.eval_results
    assert {result.metric_type: result.metric_value for result in results} == {
        "roc_auc": 0.97,
        "final_score": 0.9312345,
    }
    assert {(result.dataset_type, result.dataset_revision) for result in results} == {("google/civil_comments", "abc")}
    assert metadata["model-index"][0]["name"] == "toxic-bert"


def test_a_final_score_over_fewer_identities_is_not_called_that_of_the_competition(card_of):
    benchmark = copy.deepcopy(FULL)
    benchmark["metrics"]["bias"]["identities_counted"] = 8
    text, metadata = card_of(benchmark)
    assert [metric["type"] for metric in metadata["model-index"][0]["results"][0]["metrics"]] == ["roc_auc"]
    assert "Final score, over 8 of 9 identities" in text
    assert "Final score of Jigsaw" not in text


def test_the_numbers_are_in_it(card_of):
    text, _ = card_of(FULL, repo="me/toxic-bert", dataset_name="google/civil_comments")
    for shown in (
        "| v100    | 1      | 0:00:02        | 0:01:40       | 0:00:04        | 0.97000   |",
        "0.96910 to 0.97090",
        "0.93123",
        "| homosexual gay or lesbian     | 1,234 | 56         | 0.90000      | 0.80000   | 0.97000   |",
        "| power mean                    |       |            | 0.91000      | 0.85000   | undefined |",
        "| precision 0.8  | 0.6000    | 0.6500           | 79.0 %    | 50.0 %    | 5.0 %     |",
        "| precision 0.95 | undefined | undefined        | undefined | undefined | undefined |",
        "Precision 0.95: no threshold has this precision",
        "With 90 % confidence, each threshold keeps what is wanted of it on comments like these",
        "at most 12.5 % (male)",
        "`bias.identities.jewish.bpsn_auc` is undefined: 0 toxic rows, fewer than 10",
        "1.3100",
        "The comments of the data are under CC0.",
    ):
        assert shown in text
    assert "None" not in text
    assert "nan" not in text.lower().replace("nanotube", "")


@pytest.mark.parametrize(
    "path",
    [
        ("metrics", "auc"),
        ("metrics", "auc_interval"),
        ("metrics", "average_precision"),
        ("metrics", "bias"),
        ("metrics", "bias", "final_score"),
        ("metrics", "bias", "identities", "muslim", "subgroup_auc"),
        ("metrics", "undefined"),
        ("calibration",),
        ("calibration", "cross_validated", "log_loss", "after"),
        ("probe",),
        ("protocol", "validation_positives"),
        ("protocol", "optimiser"),
    ],
    ids=".".join,
)
def test_what_is_not_known_is_undefined_and_breaks_nothing(card_of, path):
    text, _ = card_of(without(FULL, *path))
    assert "None" not in text


def test_a_run_that_measured_nothing_but_its_times_has_a_card(card_of):
    benchmark = {key: FULL[key] for key in ("machine", "protocol", "timing")} | {"metrics": {"auc": None, "bias": None}}
    text, metadata = card_of(benchmark)
    assert "model-index" not in metadata
    assert "was not measured on the data" in text
    assert "were not calibrated" in text
    assert re.search(r"\| ROC AUC +\| undefined \|", text)


@pytest.mark.parametrize(
    ("model", "base_model", "license_id"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "apache-2.0"),
        ("bert-base-uncased", "bert-base-uncased", "apache-2.0"),
        ("somebody/else", "somebody/else", "unknown"),
        ("/home/jane/bert-base-uncased", None, "unknown"),
    ],
)
def test_a_licence_is_claimed_only_where_it_is_known(card_of, model, base_model, license_id):
    benchmark = FULL | {"protocol": FULL["protocol"] | {"model": model}}
    text, metadata = card_of(benchmark)
    assert metadata.get("base_model") == base_model
    assert metadata["license"] == license_id
    assert "jane" not in text
    assert ("was not known to the program" in text) == (license_id == "unknown")


@pytest.mark.parametrize("name", [None, "sample"])
def test_data_that_did_not_come_from_the_hub_are_no_dataset_of_it(card_of, name):
    benchmark = FULL | {"protocol": FULL["protocol"] | {"dataset": name or "train.csv"}}
    _, metadata = card_of(benchmark, dataset_name=name)
    assert "datasets" not in metadata
    dataset = metadata["model-index"][0]["results"][0]["dataset"]
    assert dataset["type"] == "custom"
    assert dataset["name"] == "train.csv" if name is None else "Wikipedia" in dataset["name"]


def test_a_local_folder_of_data_is_named_by_its_last_part(card_of, tmp_path):
    folder = tmp_path / "civil"
    folder.mkdir()
    benchmark = FULL | {"protocol": FULL["protocol"] | {"dataset": str(folder)}}
    text, metadata = card_of(benchmark, dataset_name=str(folder))
    assert str(tmp_path) not in text
    assert "datasets" not in metadata


def test_pictures_are_shown_where_they_are(card_of, tmp_path):
    (tmp_path / "toxic-comments" / "report").mkdir(parents=True)
    (tmp_path / "toxic-comments" / "report" / "bias.png").write_bytes(b"")
    text, _ = card_of(FULL)
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text) == ["report/bias.png"]


def test_names_of_elsewhere_cannot_break_out_of_the_card(card_of):
    nasty = "x`|<script>alert(1)</script>\n---\n# new\x1b[31m.csv"
    text, metadata = card_of(
        FULL | {"protocol": FULL["protocol"] | {"dataset": nasty, "recipe": nasty, "model": nasty}}
    )
    body = text.split("---\n", 2)[2]
    assert "\x1b" not in text
    assert "\n# new" not in body
    for line in body.splitlines():
        assert "<script>" not in re.sub(r"`[^`]*`", "", line)
    assert metadata["license"] == "unknown"
    rows = [line for line in body.splitlines() if line.startswith("| Recipe")]
    assert len(rows) == 1
    assert rows[0].count("|") == 3


def test_the_example_labels_on_the_scale_of_the_pipeline(card_of):
    text, _ = card_of(FULL, repo="me/toxic-bert")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(example, "card", "exec")
    assert 'pipeline("text-classification", "me/toxic-bert", truncation=True, max_length=220)' in example
    odds = (0.6 / 0.4) ** 1.31  # those of sigmoid(temperature · logit(threshold))
    assert float(re.search(r">= ([\d.]+)", example)[1]) == pytest.approx(odds / (1 + odds), abs=1e-6)
    text, _ = card_of(without(FULL, "calibration"))
    assert ">= 0.5 " in text


def test_the_benchmark_is_not_changed(card_of):
    before = json.dumps(FULL)
    card_of(FULL)
    assert json.dumps(FULL) == before
