"""The report of a run of several labels."""

import re

import matplotlib.image
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from example_run import LOG_HISTORY, benchmark, labelled_run
from hypothesis import HealthCheck, given, settings
from markup import HOSTILE, MARKDOWN
from sklearn.metrics import roc_auc_score

from toxicity.core.console import printable
from toxicity.report.page import Comment, report_html, report_markdown
from toxicity.report.write import write_report

NAMES = ("toxicity", "insult", "threat")
# Of the last one there is one class alone.
SHARES = [0.2, 0.1, 0.0]


@pytest.fixture(scope="module")
def made():
    return labelled_run(NAMES, 2000, SHARES)


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    """The folder of a report, and what was printed."""
    validation, evaluation, row = made
    folder = tmp_path_factory.mktemp("run")
    write_report(folder, row, validation, evaluation, LOG_HISTORY)
    return folder / "report"


@pytest.fixture(scope="module")
def page(written):
    return (written / "report.md").read_text(encoding="utf-8")


def tables(page, first_header):
    """Cells of each table whose first column is headed so."""
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.split("\n\n")[0].splitlines()[2:]]
        for part in page.split("\n| " + first_header)[1:]
    ]


def test_predictions_have_a_column_for_each_label_and_null_where_nobody_said(made, written):
    _, evaluation, row = made
    found = pyarrow.parquet.read_table(written / "predictions.parquet")
    assert found.column_names == [
        "id",
        "label",
        "score",
        "label_insult",
        "score_insult",
        "label_threat",
        "score_threat",
    ]
    for place, (name, ending) in enumerate(zip(NAMES, ("", "_insult", "_threat"), strict=True)):
        label, score = found[f"label{ending}"], found[f"score{ending}"].to_numpy()
        assert label.type == pa.int8()
        assert [row for row, value in enumerate(label.to_pylist()) if value is None] == [*range(place, 2000, 10)]
        said = label.is_valid().to_numpy()
        truth = label.drop_null().to_numpy()
        section = row["metrics"]["labels"][name]
        assert [len(truth), truth.sum()] == [section["rows"], section["positives"]]
        if section["auc"] is not None:
            assert roc_auc_score(truth, score[said]) == pytest.approx(section["auc"], abs=1e-12)
        np.testing.assert_allclose(score, 1 / (1 + np.exp(-evaluation.logits[:, place].astype(np.float64))), rtol=1e-12)


def test_one_table_holds_all_labels(made, page):
    first, *_ = tables(page, "Label")
    sections = made[2]["metrics"]["labels"]
    assert [cells[0] for cells in first] == ["`toxicity`", "`insult`", "`threat`"]
    toxicity = sections["toxicity"]
    fitted = toxicity["calibration"]
    at = next(row for row in fitted["thresholds"] if row["precision_target"] == 0.9)
    low, high = toxicity["auc_interval"]
    assert first[0][1:] == [
        f"{toxicity['rows']:,}",
        f"{toxicity['positives']:,}",
        f"{toxicity['auc']:.5f}",
        f"{low:.4f} to {high:.4f}",
        *(f"{toxicity[key]:.4f}" for key in ("average_precision", "log_loss", "expected_calibration_error")),
        fitted["method"] + (f" {fitted['temperature']:.3f}" if fitted["method"] == "temperature" else ""),
        f"{at['threshold']:.4f}",
        *(f"{100 * at[key]:.1f} %" for key in ("precision", "recall")),
    ]
    undefined = ["undefined"]
    assert first[2][1:6] == ["1,800", "0", *3 * undefined]
    assert first[2][8:] == [*undefined, "0.5000", *2 * undefined]
    assert f"Mean AUC {made[2]['metrics']['mean_auc']:.5f} over 2 of 3 labels" in page
    assert "- Labels: `toxicity` (the main one), `insult`, `threat`" in page
    assert "- `threat`, `auc, auc_interval, average_precision`: all 1,800 rows are civil" in page


def test_thresholds_bias_and_probe_of_each_label_are_compact(made, page):
    _, thresholds, bias, probe = tables(page, "Label")
    sections = made[2]["metrics"]["labels"]
    rows = sections["insult"]["calibration"]["thresholds"]
    shown = [
        "undefined" if row["threshold"] is None else f"{row['threshold']:.4f} ({100 * row['recall']:.1f} %)"
        for row in rows
    ]
    assert thresholds[1] == ["`insult`", *shown]
    assert thresholds[2][1:] == 4 * ["undefined"]
    means = sections["insult"]["bias"]
    assert bias[1][1:] == [
        *(f"{means[key]:.5f}" for key in ("final_score", "subgroup_auc", "bpsn_auc", "bnsp_auc")),
        f"{means['identities_counted']} of 9",
    ]
    assert bias[2][1:] == [*4 * ["undefined"], "0 of 9"]
    assert probe[0] == ["`toxicity`", "psychiatric or mental illness", "+0.080", "+0.060 to +0.100"]
    assert len(tables(page, "Identity")) == 2, "single identities are shown for the main label only"


def test_pictures_of_all_labels_are_shown(written, page):
    html = (written / "report.html").read_text(encoding="utf-8")
    for name, title in (("roc", "ROC curve"), ("precision_recall", "Precision and recall")):
        assert matplotlib.image.imread(written / f"{name}_by_label.png").size
        assert f"![{title} of each label]({name}_by_label.png)" in page
        assert f'alt="{title} of each label"' in html
    assert len(html) < 2_000_000


def test_what_nobody_labelled_is_neither_toxic_nor_civil(tmp_path):
    validation, evaluation, row = labelled_run(NAMES, 1000, [0.3] * 3)
    evaluation.logits[::10, 0] = 9.0 + np.arange(100) / 100
    write_report(tmp_path, row, validation, evaluation, [])
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    most, *_ = page.split("### Most toxic")[1].split("###")
    assert most.count("nobody said whether it is toxic") == 5
    errors = page.split("### Worst false positives")[1].split("### Highest")[0]
    assert "nobody" not in errors
    assert len(re.findall(r"^\d\. ", errors, re.MULTILINE)) == 10


def test_comments_of_the_other_labels_are_few_and_the_highest(made, page):
    section = page.split("### Highest scores of the other labels")[1]
    targets = {"insult": made[0]["label insult"][:], "threat": made[0]["label threat"][:]}
    for place, name in enumerate(NAMES[1:], 1):
        listed = section.split(f"- `{name}`\n")[1].split("\n- ")[0].strip().splitlines()
        best = np.argsort(-made[1].logits[:, place], kind="stable")[:3].tolist()
        assert [int(re.search(r"id `(\d+)`", line)[1]) for line in listed] == best
        words = {None: "nobody said", 1.0: "labelled so", 0.0: "not labelled so"}
        for line, row in zip(listed, best, strict=True):
            assert f", {words[targets[name][row]]}, id" in line


def test_the_console_says_what_the_auc_is_of(made, tmp_path, capsys):
    validation, evaluation, row = made
    write_report(tmp_path, row, validation, evaluation, [])
    printed = capsys.readouterr().out
    metrics = row["metrics"]
    assert f"| {metrics['auc']:.5f} (main label) | {metrics['mean_auc']:.5f} over 2 of 3 labels |" in printed
    told = f"toxicity {metrics['auc']:.5f}, insult {metrics['labels']['insult']['auc']:.5f}, threat undefined"
    assert told in printed


def test_no_label_with_an_auc(tmp_path):
    validation, evaluation, row = labelled_run(NAMES, 100, [0.0] * 3, identities=())
    write_report(tmp_path, row, validation, evaluation, [])
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "Mean AUC undefined, as no label has an AUC" in page
    assert tables(page, "Label")[0][0][:4] == ["`toxicity`", "90", "0", "undefined"]


def renamed(row, names):
    """The benchmark with other names for its labels."""
    metrics = row["metrics"]
    labels = dict(zip(names, metrics["labels"].values(), strict=True))
    probe = row["probe"] | {"labels": dict(zip(names, row["probe"]["labels"].values(), strict=True))}
    protocol = row["protocol"] | {"labels": list(names)}
    return row | {"metrics": metrics | {"labels": labels}, "probe": probe, "protocol": protocol}


@given(HOSTILE)
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None
)
def test_names_of_labels_are_only_text(made, text):
    def pages(names):
        comments = {names[1]: [Comment(1, "x", None, 0.9)]}
        return [
            render(renamed(made[2], names), {}, {"Most toxic": []}, comments)
            for render in (report_markdown, report_html)
        ]

    markdown, html = pages([f"{text}{place}" for place in range(3)])
    plain_markdown, plain_html = pages(["a0", "a1", "a2"])
    assert [token.type for token in MARKDOWN.parse(markdown)] == [
        token.type for token in MARKDOWN.parse(plain_markdown)
    ]
    assert re.findall(r"<[^>]*>", MARKDOWN.render(markdown)) == re.findall(r"<[^>]*>", MARKDOWN.render(plain_markdown))
    assert re.findall(r"<[^>]*>", html) == re.findall(r"<[^>]*>", plain_html)
    assert (markdown + html).replace("\n", "").isprintable()
    assert printable(f"{text}0", 60) in html.replace("&lt;", "<") or re.search(r"[&<>'\"\\]", text)


LONG = [f"{'very ' * 39}long {place}" for place in range(3)]


def test_long_names_are_cut(made):
    page = report_html(renamed(made[2], LONG), {}, {}, {})
    assert max(map(len, re.findall(r"<code>([^<]*)</code>", page))) <= 61


def test_one_label_is_reported_as_ever(tmp_path):
    validation, evaluation, row = labelled_run(["toxic"], 500)
    assert len(row["metrics"]["labels"]) == 1
    write_report(tmp_path, row, validation, evaluation, [])
    names = pyarrow.parquet.read_table(tmp_path / "report" / "predictions.parquet").column_names
    assert names == ["id", "label", "score"]
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "## Labels" not in page
    assert "main label" not in page
    assert not list(tmp_path.glob("report/*_by_label.png"))
    bare = row | {"metrics": {name: value for name, value in row["metrics"].items() if name != "labels"}}
    for render in (report_markdown, report_html):
        assert render(row, {}, {}) == render(bare, {}, {})
    assert benchmark()["metrics"] == {"auc": 0.968194, "bias": None}
