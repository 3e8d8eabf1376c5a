import re
import unicodedata

import pytest
from hypothesis import given
from markup import HOSTILE, MARKDOWN

from toxicity.core.console import printable
from toxicity.core.markdown import code_span, collapse_blank_lines, markdown_table


def rendered(text):
    """The code of the one span that a list item with `text` holds, after checking that there is nothing else."""
    tokens = MARKDOWN.parse(f"1. id 5, score 0.97: {code_span(text)}\n2. next\n")
    assert [token.type for token in tokens] == [
        "ordered_list_open",
        *["list_item_open", "paragraph_open", "inline", "paragraph_close", "list_item_close"] * 2,
        "ordered_list_close",
    ]
    before, code = tokens[3].children
    assert (before.type, before.content) == ("text", "id 5, score 0.97: ")
    assert code.type == "code_inline"
    return code.content


@given(HOSTILE)
def test_text_comes_out_as_code_and_nothing_else(text):
    shown = printable(text)
    if shown.strip(" "):
        assert rendered(text) == shown
    else:
        assert set(rendered(text)) == {" "}
    html = MARKDOWN.render(f"- {code_span(text)}\n")
    assert re.findall(r"</?[^>]*>", html) == ["<ul>", "<li>", "<code>", "</code>", "</li>", "</ul>"]


@given(HOSTILE)
def test_nothing_invisible_or_obeyed_by_a_terminal_is_left(text):
    span = code_span(text)
    assert span.isprintable()
    assert len(span.splitlines()) == 1
    assert not {unicodedata.category(character) for character in span} & {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("plain text", "`plain text`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("```", "```` ``` ````"),
        (" both ", "`  both  `"),
        ("", "`   `"),
        ("line\nbreak", r"`line\nbreak`"),
        ("\x1b[31m\u202e", r"`\x1b[31m\u202e`"),
    ],
)
def test_spans(text, span):
    assert code_span(text) == span


def test_long_text_is_cut_before_it_is_fenced():
    assert code_span("`" * 1000, width=4) == "```` ```… ````"


def test_columns_line_up():
    assert markdown_table(("a", "bb"), [("ccc", "d")]).splitlines() == ["| a   | bb |", "|-----|----|", "| ccc | d  |"]


def test_parts_left_out_of_a_template_leave_no_blank_lines():
    assert collapse_blank_lines("\n\n# Title\n\n\n\n- one\n- two\n\n\nend\n\n") == "# Title\n\n- one\n- two\n\nend\n"
