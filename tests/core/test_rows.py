import pytest

from toxicity.core.console import h_mm_ss
from toxicity.core.markdown import markdown_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (2081, "0:34:41"), (20970, "5:49:30"), (59.6, "0:01:00"), (360000, "100:00:00")],
)
def test_h_mm_ss(seconds, text):
    assert h_mm_ss(seconds) == text


def test_columns_line_up():
    assert markdown_table(("a", "bb"), [("ccc", "d")]).splitlines() == ["| a   | bb |", "|-----|----|", "| ccc | d  |"]
