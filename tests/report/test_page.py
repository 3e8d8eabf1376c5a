import re
from html.parser import HTMLParser

import pytest
from example_run import BIAS, CALIBRATION, NOTHING_DEFINED, PROBE, benchmark
from hypothesis import HealthCheck, given, settings
from markup import HOSTILE, MARKDOWN

from toxicity.bench.runs import published_rows
from toxicity.core.console import printable
from toxicity.evaluation.calibration import HOW_MANY_WOULD_DO
from toxicity.report.figures import FIGURES
from toxicity.report.page import SHOWN_COMMENT_CHARACTERS, Comment, report_html, report_markdown

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
    page = report_markdown(row(), {}, EMPTY)
    rows = table(page, "Machine")
    assert rows[0] == ["p100", "1", "0:00:02", "0:01:40", "0:00:04", "0.96819"]
    assert [cells[0] for cells in rows[1:]] == ["V100 (published)", "V100 (published)", "P100 (published)"]
    assert "This run used another protocol, so neither its times nor its AUC can be compared with theirs." in page


def test_the_token_budget_of_a_run_is_told():
    cut = row(protocol=benchmark()["protocol"] | {"max_tokens_per_batch": 14_080})
    assert "precision no, at most 14,080 tokens at a time" in report_markdown(cut, {}, EMPTY)
    assert "tokens at a time" not in report_markdown(row(), {}, EMPTY)


def test_the_published_protocol_is_known_as_such():
    published = published_rows()[0]
    same = row(protocol=benchmark()["protocol"] | published["protocol"] | {"epochs": 2.0})
    assert "This run used the same protocol." in report_markdown(same, {}, EMPTY)


def test_metrics_with_their_interval():
    metrics = {
        "auc_interval": [0.961234, 0.9723],
        **{"average_precision": 0.8, "log_loss": 0.1, "brier_score": 0.02, "expected_calibration_error": 0.01},
        "bias": BIAS,
    }
    assert table(report_markdown(row(metrics), {}, EMPTY), "Metric") == [
        ["ROC AUC", "0.96819"],
        ["ROC AUC, 95 % interval", "0.96123 to 0.97230"],
        ["Final score, over 8 of 9 identities", "0.93000"],
        ["Average precision", "0.80000"],
        ["Log loss", "0.10000"],
        ["Brier score", "0.02000"],
        ["Expected calibration error", "0.01000"],
    ]


def test_bias_of_each_identity():
    reasons = {"bias.identities.jewish.subgroup_auc": "0 toxic rows, fewer than 10"}
    page = report_markdown(row({"bias": BIAS, "undefined": reasons}), {}, EMPTY)
    rows = table(page, "Identity")
    assert rows[0] == ["male", "1,234", "56", "0.90000", "0.80000", "0.97000"]
    assert rows[4] == ["jewish", "4", "0", "undefined", "undefined", "0.96000"]
    assert rows[-1] == ["power mean", "", "", "0.91000", "0.85000", "0.97000"]
    assert "- `bias.identities.jewish.subgroup_auc`: 0 toxic rows, fewer than 10" in page
    assert "Final score, over 0 of 9 identities: undefined" in report_markdown(
        row({"bias": NOTHING_DEFINED}), {}, EMPTY
    )


def test_why_bias_was_not_measured():
    assert "Not measured: the data have no identity columns." in report_markdown(row(), {}, EMPTY)
    page = report_markdown(row({"undefined": {"bias": "no row has its identities annotated"}}), {}, EMPTY)
    assert "Not measured: no row has its identities annotated." in page


def test_thresholds():
    page = report_markdown(row(calibration=CALIBRATION), {}, EMPTY)
    assert table(page, "Wanted") == [
        ["precision 0.8", "0.6000", "0.6500", "79.0 %", "50.0 %", "5.0 %"],
        ["precision 0.95", "undefined", "undefined", "undefined", "undefined", "undefined"],
    ]
    assert "- Precision 0.95: no threshold has this precision." in page
    assert "labelled toxic from 0.6000 on, the one for a precision of 0.8." in page
    assert ["Log loss", "0.20000", "0.10000"] in table(page.split("with a temperature of 1.3100")[1], "Metric")
    assert ["temperature scaling", "0.10000", "+0.10000", "0.02000"] in table(page, "Method")
    assert "With 90 % confidence, each threshold keeps what is wanted of it" in page
    assert "on all 201 validation comments" in page
    unreached = CALIBRATION | {"precision_target": None, "threshold": 0.5}
    told = "labelled toxic from 0.5000 on, as none is certified for a precision of 0.9."
    assert told in report_markdown(row(calibration=unreached), {}, EMPTY)


def test_scores_that_stay_as_they_are_and_those_for_another_share_of_toxic_comments():
    page = report_markdown(row(calibration=CALIBRATION | {"method": "raw", "temperature": 1.0}), {}, EMPTY)
    assert "The scores stay as they are: no method beats them" in page
    assert "20.0 %, precision is lower, unless `--prior` says how many" in page
    page = report_markdown(row(calibration=CALIBRATION | {"prior": 0.02}), {}, EMPTY)
    assert "Scores and thresholds are for 2.0 % toxic comments" in page


@pytest.mark.parametrize("known", [{}, {"calibration": None, "probe": None}], ids=["keys that are not there", "None"])
def test_what_is_not_known_is_left_out(known):
    undefined = dict.fromkeys(["auc", "auc_interval", "average_precision", "bias", "log_loss"])
    page = report_markdown(row({**undefined, "undefined": {"auc": "all 20 rows are civil"}}, **known), {}, EMPTY)
    assert ["ROC AUC", "undefined"] in table(page, "Metric")
    assert "- `auc`: all 20 rows are civil" in page
    assert "No thresholds were chosen" in page
    assert "None." in page.split("### Most toxic")[1]
    assert "None" not in page.split("## Comments")[0]


def test_the_probe_and_the_pictures():
    page = report_markdown(row(probe=PROBE), {"probe.png": b"", "timing.png": b""}, EMPTY)
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
    page = report_markdown(made, {}, {"Most toxic": [hostile, hostile]})
    plain = report_markdown(
        made | {"protocol": protocol | dict.fromkeys(["model", "dataset", "recipe"], "x")},
        {},
        {"Most toxic": [Comment("x", "x", True, 0.9)] * 2},
    )
    tokens = MARKDOWN.parse(page)
    assert [token.type for token in tokens] == [token.type for token in MARKDOWN.parse(plain)]
    assert re.findall(r"<[^>]*>", MARKDOWN.render(page)) == re.findall(r"<[^>]*>", MARKDOWN.render(plain))
    assert page.replace("\n", "").isprintable()
    codes = [child.content for token in tokens for child in token.children or [] if child.type == "code_inline"]
    if text.strip(" ") and "\\" not in text:
        assert codes.count(printable(text, SHOWN_COMMENT_CHARACTERS)) >= 2


class Elements(HTMLParser):
    """Start and end tags with their attributes, declarations and comments, and the text of each kind of element."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *attributes))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.tags.append(f"/{tag}")

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else None, data))

    def handle_other(self, content):
        self.tags.append(("other", content))

    handle_comment = handle_decl = handle_pi = unknown_decl = handle_other

    def rows(self):
        """Texts of the cells of all tables, row after row, and of code spans."""
        return [text for element, text in self.texts if element in ("td", "code")]


SECTION = {"rows": 90, "positives": 9, "auc": 0.9, "bias": BIAS, "calibration": CALIBRATION}
LABELS = {"toxic": SECTION, "insult": SECTION | {"undefined": {"auc_interval": "9 toxic rows, fewer than 10"}}}
FULL = row({"bias": BIAS, "undefined": {"a": "b"}, "labels": LABELS}, calibration=CALIBRATION, probe=PROBE)


def test_the_html_says_what_the_markdown_says():
    pictures = dict.fromkeys(FIGURES, b"\x89PNG")
    html, markdown = report_html(FULL, pictures, EMPTY), report_markdown(FULL, pictures, EMPTY)
    elements = Elements(html)
    words = " ".join(text for _, text in elements.texts)
    for name in ("Machine", "Metric", "Wanted", "Identity", "Label"):
        for cells in table(markdown, name):
            for cell in filter(None, cells):
                assert cell.strip("`") in elements.rows()
    for line in markdown.splitlines():
        if line.startswith("#"):
            assert line.lstrip("# ") in words
    assert "from 0.6000 on, the one for a precision of 0.8." in words
    assert "0.95: no threshold has this precision." in words
    assert [dict(tag[1:])["alt"] for tag in elements.tags if tag[0] == "img"] != []
    assert {dict(tag[1:])["alt"] for tag in elements.tags if tag[0] == "img"} == {
        figure.title for figure in FIGURES.values()
    }
    assert html.count("<figcaption>") == len(FIGURES)


def test_the_html_is_one_file_that_asks_for_nothing():
    html = report_html(FULL, {"roc.png": b"\x89PNG\r\n"}, EMPTY)
    elements = Elements(html)
    attributes = [
        attribute for tag in elements.tags if isinstance(tag, tuple) and tag[0] != "other" for attribute in tag[1:]
    ]
    assert [value for name, value in attributes if name in ("src", "href")] == ["data:image/png;base64,iVBORw0K"]
    assert not {tag[0] for tag in elements.tags} & {"script", "link", "iframe", "object", "form"}
    style = next(text for element, text in elements.texts if element == "style")
    assert not re.search(r"url\(|@import", style)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in attributes


@pytest.mark.parametrize("known", [{}, {"calibration": None, "probe": None}], ids=["keys that are not there", "None"])
def test_what_is_not_known_is_left_out_of_the_html(known):
    undefined = dict.fromkeys(["auc", "auc_interval", "average_precision", "bias", "log_loss"])
    elements = Elements(report_html(row(undefined, **known), {}, EMPTY))
    words = [text for _, text in elements.texts]
    assert "undefined" in words
    told = "No thresholds were chosen, and the scores were not calibrated; the log of the run says why."
    assert f"{told} {HOW_MANY_WOULD_DO}" in words
    assert [text for text in words if "None" in text] == ["None."] * 2
    assert not [tag for tag in elements.tags if tag[0] == "img"]


@given(HOSTILE)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_names_ids_and_comments_of_strangers_are_only_text_in_the_html(text):
    def page(name):
        protocol = benchmark()["protocol"] | dict.fromkeys(["model", "dataset", "recipe"], name)
        comments = {"Most toxic": [Comment(name, name, True, 0.9)] * 2}
        return report_html(FULL | {"protocol": protocol}, {}, comments)

    html = page(text)
    elements, plain = Elements(html), Elements(page("x"))
    assert elements.tags == plain.tags
    assert html.replace("\n", "").isprintable()
    shown = printable(text, SHOWN_COMMENT_CHARACTERS)
    if shown.strip() and "\\" not in text:
        assert [data for element, data in elements.texts if element == "code"].count(shown) >= 2
