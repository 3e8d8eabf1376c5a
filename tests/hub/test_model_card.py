import copy
import itertools
import json
import re

import pytest
import yaml
from hub_server import _card_errors
from huggingface_hub import ModelCard

from toxicity.core.schema import IDENTITIES, SUBTYPES
from toxicity.hub.model_card import write_card

CELLS = {"rows": 1234, "toxic_rows": 56, "subgroup_auc": 0.91, "bpsn_auc": 0.92, "bnsp_auc": None}
FULL = {
    "schema_version": 1,
    "machine": {"label": "v100", "device_name": "Tesla V100"},
    "protocol": {
        "recipe": "reference",
        "dataset": "google/civil_comments",
        "model": "google-bert/bert-base-uncased",
        "config_overrides": None,
        "train_rows": 1_000_000,
        "validation_rows": 500_000,
        "validation_positives": 40_000,
        "max_seq_length": 220,
        "epochs": 1.0,
        "seed": 1234,
        "mixed_precision": "fp16",
        "optimiser": {"optim": "adamw_torch", "batch_size": 64, "learning_rate": 2e-5},
    },
    "timing": {
        "tokenizer_seconds": 100.0,
        "tokenizer_cache_hit": False,
        "training_seconds": 3600.0,
        "inference_seconds": 600.0,
    },
    "metrics": {
        "auc": 0.97,
        "auc_interval": [0.9691, 0.9709],
        "average_precision": 0.8,
        "log_loss": 0.1,
        "brier_score": 0.02,
        "expected_calibration_error": 0.01,
        "bias": {
            "final_score": 0.9312345,
            "subgroup_auc": 0.9,
            "bpsn_auc": 0.91,
            "bnsp_auc": None,
            "identities_counted": 9,
            "identities": dict.fromkeys(IDENTITIES, CELLS),
        },
        "subtypes": dict.fromkeys(SUBTYPES, 0.95) | {"threat": None},
        "undefined": {"bias.identities.jewish.bnsp_auc": "3 toxic rows, fewer than 10"},
    },
    "calibration": {
        "fitted_rows": 250_000,
        "held_out_rows": 250_000,
        "temperature": 1.25,
        "held_out": {
            "log_loss": {"before": 0.11, "after": 0.1},
            "brier_score": {"before": 0.03, "after": 0.02},
            "expected_calibration_error": {"before": 0.02, "after": 0.01},
        },
        "thresholds": [
            {
                "precision_target": 0.8,
                "threshold": 0.6,
                "pipeline_threshold": 0.62406,
                "precision": 0.801,
                "recall": 0.7,
                "flagged": 0.06,
            },
            {
                "precision_target": 0.95,
                "threshold": None,
                "pipeline_threshold": None,
                "precision": None,
                "recall": None,
                "flagged": None,
                "reason": "no threshold reaches it",
            },
        ],
        "precision_target": 0.8,
        "threshold": 0.6,
    },
    "probe": {
        "templates": 66,
        "texts": 1800,
        "thresholds": {"0.8": 0.6},
        "identities": {
            name: {
                "shift": 0.0123,
                "interval": [0.01, 0.02],
                "shift_by_tone": {"neutral": 0.01, "friendly": 0.01, "hostile": 0.01},
                "false_positive_rate": {"0.8": 0.125},
            }
            for name in IDENTITIES
        },
        "unmarked": {"mean_score": 0.1, "false_positive_rate": {"0.8": 0.03}},
        "largest_shift": ["muslim", 0.2112],
    },
}


@pytest.fixture
def card_of(tmp_path):
    """The card of a benchmark, and its metadata."""

    def write(benchmark, **options):
        folder = tmp_path / "toxic-comments"
        (folder / "report").mkdir(parents=True, exist_ok=True)
        write_card(folder, benchmark, **options)
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert list(_card_errors(text)) == []
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
        "| v100    | 1      | 0:01:40        | 1:00:00       | 0:10:00        | 0.97000   |",
        "0.96910 to 0.97090",
        "0.93123",
        "| homosexual gay or lesbian     | 1,234 | 56         | 0.91000      | 0.92000  | undefined |",
        "| power mean                    |       |            | 0.90000      | 0.91000  | undefined |",
        "| 0.8              | 0.6000    | 0.6241           | 80.1 %    | 70.0 %    | 6.0 %     |",
        "| 0.95             | undefined | undefined        | undefined | undefined | undefined |",
        "Precision 0.95: no threshold reaches it",
        "at most 12.5 % (male)",
        "`bias.identities.jewish.bnsp_auc` is undefined: 3 toxic rows, fewer than 10",
        "ROC AUC of threat",
        "1.2500",
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
        ("metrics", "subtypes"),
        ("metrics", "undefined"),
        ("calibration",),
        ("calibration", "held_out", "log_loss", "after"),
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
    odds = (0.6 / 0.4) ** 1.25  # those of sigmoid(temperature · logit(threshold))
    assert float(re.search(r">= ([\d.]+)", example)[1]) == pytest.approx(odds / (1 + odds), abs=1e-6)
    text, _ = card_of(without(FULL, "calibration"))
    assert ">= 0.5 " in text


def test_the_benchmark_is_not_changed(card_of):
    before = json.dumps(FULL)
    card_of(FULL)
    assert json.dumps(FULL) == before
