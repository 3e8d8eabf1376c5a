import re

import pytest
from example_run import BIAS, CALIBRATION, NOTHING_DEFINED, PROBE, benchmark
from hypothesis import HealthCheck, given, settings
from markup import HOSTILE, MARKDOWN

from toxicity.bench.runs import published_rows
from toxicity.core.console import printable
from toxicity.report.page import SHOWN_CHARACTERS, Comment, Picture, report_page

EMPTY = {"Most toxic": [], "Least toxic": []}


def row(metrics=None, **more):
    made = benchmark() | more
    made["metrics"] = made["metrics"] | (metrics or {})
    return made


def table(page, first_header):
    """Cells of the table whose first column is headed so."""
    lines = page.split("\n| " + first_header)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_row_stands_beside_the_published_ones():
    page = report_page(row(), [], EMPTY)
    rows = table(page, "Machine")
    assert rows[0] == ["p100", "1", "0:00:02", "0:01:40", "0:00:04", "0.96819"]
    assert [cells[0] for cells in rows[1:]] == ["V100 (published)", "V100 (published)", "P100 (published)"]
    assert "another than that of the published runs" in page


def test_the_published_protocol_is_known_as_such():
    published = published_rows()[0]
    same = row(protocol=benchmark()["protocol"] | published["protocol"] | {"epochs": 2.0})
    assert "It is the protocol of the published runs." in report_page(same, [], EMPTY)


def test_metrics_with_their_interval():
    metrics = {
        "auc_interval": [0.961234, 0.9723],
        **{"average_precision": 0.8, "log_loss": 0.1, "brier_score": 0.02, "expected_calibration_error": 0.01},
        **{"subtypes": {"severe_toxicity": 0.99, "threat": None}, "bias": BIAS},
    }
    assert table(report_page(row(metrics), [], EMPTY), "Metric") == [
        ["ROC AUC", "0.96819"],
        ["ROC AUC, 95 % interval", "0.96123 to 0.97230"],
        ["Final score, over 8 of 9 identities", "0.93000"],
        ["Average precision", "0.80000"],
        ["Log loss", "0.10000"],
        ["Brier score", "0.02000"],
        ["Expected calibration error", "0.01000"],
        ["ROC AUC of severe toxicity", "0.99000"],
        ["ROC AUC of threat", "undefined"],
    ]


def test_bias_of_each_identity():
    reasons = {"bias.identities.jewish.subgroup_auc": "0 toxic rows, fewer than 10"}
    page = report_page(row({"bias": BIAS, "undefined": reasons}), [], EMPTY)
    rows = table(page, "Identity")
    assert rows[0] == ["male", "1,234", "56", "0.90000", "0.80000", "0.97000"]
    assert rows[4] == ["jewish", "4", "0", "undefined", "undefined", "0.96000"]
    assert rows[-1] == ["power mean", "", "", "0.91000", "0.85000", "0.97000"]
    assert "- `bias.identities.jewish.subgroup_auc`: 0 toxic rows, fewer than 10" in page
    assert "Final score, over 0 of 9 identities: undefined" in report_page(row({"bias": NOTHING_DEFINED}), [], EMPTY)


def test_why_bias_was_not_measured():
    assert "Not measured: the data have no identity columns." in report_page(row(), [], EMPTY)
    page = report_page(row({"undefined": {"bias": "no row has its identities annotated"}}), [], EMPTY)
    assert "Not measured: no row has its identities annotated." in page


def test_thresholds():
    page = report_page(row(calibration=CALIBRATION), [], EMPTY)
    assert table(page, "Wanted precision") == [
        ["0.8", "0.6000", "0.6500", "79.0 %", "50.0 %", "5.0 %"],
        ["0.95", "undefined", "undefined", "undefined", "undefined", "undefined"],
    ]
    assert "- 0.95: no threshold has this precision." in page
    assert "labelled toxic from 0.6000 on, the one for a precision of 0.8." in page
    assert ["Log loss", "0.20000", "0.10000"] in table(page.split("The temperature is 1.3100")[1], "Metric")
    unreached = CALIBRATION | {"precision_target": None, "threshold": 0.5}
    assert "labelled toxic from 0.5000 on." in report_page(row(calibration=unreached), [], EMPTY)


@pytest.mark.parametrize("known", [{}, {"calibration": None, "probe": None}], ids=["keys that are not there", "None"])
def test_what_is_not_known_is_left_out(known):
    undefined = dict.fromkeys(["auc", "auc_interval", "average_precision", "bias", "subtypes", "log_loss"])
    page = report_page(row({**undefined, "undefined": {"auc": "all 20 rows are civil"}}, **known), [], EMPTY)
    assert ["ROC AUC", "undefined"] in table(page, "Metric")
    assert "- `auc`: all 20 rows are civil" in page
    assert "Neither thresholds nor a temperature" in page
    assert "None." in page.split("### Most toxic")[1]
    assert "None" not in page.split("## Comments")[0]


def test_the_probe_and_the_pictures():
    page = report_page(row(probe=PROBE), [Picture("probe.png", "Shift"), Picture("timing.png", "Time")], EMPTY)
    assert "## The same sentences about different people" in page
    assert "66 templates" in page
    images = re.findall(r'<img src="([^"]+)"', MARKDOWN.render(page))
    assert images == ["timing.png", "probe.png"]


@given(HOSTILE)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_names_ids_and_comments_of_strangers_are_only_text(text):
    protocol = benchmark()["protocol"] | dict.fromkeys(["model", "dataset", "recipe"], text)
    hostile = Comment(text, text, True, 0.9)
    made = row({"bias": BIAS}, protocol=protocol, calibration=CALIBRATION, probe=PROBE)
    page = report_page(made, [], {"Most toxic": [hostile, hostile]})
    plain = report_page(
        made | {"protocol": protocol | dict.fromkeys(["model", "dataset", "recipe"], "x")},
        [],
        {"Most toxic": [Comment("x", "x", True, 0.9)] * 2},
    )
    tokens = MARKDOWN.parse(page)
    assert [token.type for token in tokens] == [token.type for token in MARKDOWN.parse(plain)]
    assert re.findall(r"<[^>]*>", MARKDOWN.render(page)) == re.findall(r"<[^>]*>", MARKDOWN.render(plain))
    assert page.replace("\n", "").isprintable()
    codes = [child.content for token in tokens for child in token.children or [] if child.type == "code_inline"]
    if text.strip(" ") and "\\" not in text:
        assert codes.count(printable(text, SHOWN_CHARACTERS)) >= 2
