"""Tables of comments in other writing and of other sources, in the report and the card."""

import pytest
from example_run import benchmark, full_benchmark
from markup import MARKDOWN

from toxicity.core.markdown import UNDEFINED, code_cell
from toxicity.core.rewriting import REWRITINGS
from toxicity.hub.model_card import write_card
from toxicity.report.further_tables import eval_files_table, flagged_range, robustness_table, signed, worst_rewriting
from toxicity.report.page import report_html, report_markdown


def rewriting(name, auc_change=-0.01, flagged_change=0.02):
    auc = None if auc_change is None else 0.98 + auc_change
    return {
        "rate": REWRITINGS[name].rate,
        **{"auc": auc, "auc_change": auc_change, "flagged": 0.2 + flagged_change, "flagged_change": flagged_change},
    }


ROBUSTNESS = {
    **{"rows": 1250, "threshold": 0.45, "auc": 0.98, "flagged": 0.2},
    "rewritings": {
        "capitals": rewriting("capitals", 0.0, 0.0),
        "emojis": rewriting("emojis", -0.0312345, -0.05),
        "typos": rewriting("typos", -0.000001, 0.0004),
    },
}
SECTION = {
    **{"rows": 1200, "positives": 300, "auc": 0.87654321, "auc_interval": [0.86, 0.89], "average_precision": 0.7},
    **{"log_loss": 0.31, "flagged": 0.25, "precision": 0.8, "recall": 0.66, "threshold": 0.45, "undefined": {}},
}
NOTHING = dict.fromkeys(("auc", "auc_interval", "average_precision", "log_loss", "flagged", "precision", "recall"))


def test_changes_are_shown_with_their_sign():
    table = robustness_table(ROBUSTNESS)
    assert table.rows == [
        ("as they are", "", "0.98000", "", "20.0 %", ""),
        ("capitals", "100 %", "0.98000", "0.00000", "20.0 %", "0.0 points"),
        ("emojis", "30 %", "0.94877", "−0.03123", "15.0 %", "−5.0 points"),
        ("typos", "10 %", "0.98000", "0.00000", "20.0 %", "0.0 points"),
    ]
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert worst_rewriting(ROBUSTNESS) == ("emojis", "−0.03123")
    assert flagged_range(ROBUSTNESS) == "15.0 % to 20.0 %"
    assert (signed(0.05, 1), signed(0.06, 1), signed(None, 1)) == ("+0.1", "+0.1", UNDEFINED)


def test_a_file_is_a_row_and_each_of_several_labels_too():
    files = {"forum": SECTION, "wiki": SECTION | NOTHING}
    table = eval_files_table(files, code_cell)
    shown = ("1,200", "300", "0.87654", "0.8600 to 0.8900", "0.7000", "0.3100", "25.0 %", "80.0 %", "66.0 %")
    assert table.rows[0] == ("`forum`", *shown)
    assert table.rows[1] == ("`wiki`", "1,200", "300", *[UNDEFINED] * 7)
    of_labels = eval_files_table(
        {"forum": SECTION | {"labels": {"toxic": SECTION, "a|b": SECTION | NOTHING}}}, code_cell
    )
    assert [row[:2] for row in of_labels.rows] == [("`forum`", "`toxic`"), ("`forum`", "`a¦b`")]
    assert {len(row) for row in of_labels.rows} == {len(of_labels.header)}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a|b", "`x` **y**", "![](https://x.example)\n# x"])
def test_names_of_labels_are_no_markup(name):
    row = benchmark() | {"eval_files": {"forum": SECTION | {"labels": {name: SECTION, "x": SECTION}}}}
    assert name not in report_html(row, {}, {}) or "<" not in name
    found = MARKDOWN.parse(report_markdown(row, {}, {}).split("## Comments of other sources")[1].split("## ")[0])
    kinds = {child.type for token in found for child in token.children or ()}
    assert kinds <= {"text", "code_inline", "softbreak"}
    assert {token.type for token in found if token.type.endswith("_open")} == {
        f"{kind}_open" for kind in ("paragraph", "table", "thead", "tbody", "tr", "th", "td")
    }


def test_report_and_card_leave_out_what_was_not_measured(tmp_path):
    row = full_benchmark()
    told = ("other ways", "other sources")
    write_card(tmp_path, row)
    pages = [report_markdown(row, {}, {}), report_html(row, {}, {}), (tmp_path / "README.md").read_text()]
    assert not [text for text in told for page in pages if text in page]
    row |= {"robustness": ROBUSTNESS, "eval_files": {"forum": SECTION}}
    write_card(tmp_path, row)
    pages = [report_markdown(row, {}, {}), report_html(row, {}, {}), (tmp_path / "README.md").read_text()]
    assert all(text in page for text in told for page in pages)
    assert "at worst the AUC changes by −0.03123 (emojis, 30 % of the words); it flags 20.0 % of them" in pages[2]
    of_one_class = {name: found | {"auc": None, "auc_change": None} for name, found in ROBUSTNESS["rewritings"].items()}
    write_card(tmp_path, row | {"robustness": ROBUSTNESS | {"auc": None, "rewritings": of_one_class}})
    assert "other ways: it flags 20.0 % of them as they are" in (tmp_path / "README.md").read_text()
