import pytest

from toxicity.core.console import h_mm_ss, printable


def test_plain_text_stays_as_it_is():
    assert printable("Déjà vu, 日本語 🙂") == "Déjà vu, 日本語 🙂"


def test_control_characters_become_visible():
    assert printable("a\nb\t\x1b[31mred\x00\x7f") == r"a\nb\t\x1b[31mred\x00\x7f"


def test_text_cannot_be_turned_around_or_hidden():
    assert printable("a\u202eb\u200bc\ud800") == r"a\u202eb\u200bc\ud800"


def test_long_comments_end_in_an_ellipsis():
    assert printable("x" * 200) == "x" * 200
    assert printable("x" * 201) == "x" * 199 + "…"
    assert len(printable("\x00" * 10**6)) == 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (2081, "0:34:41"), (20970, "5:49:30"), (59.6, "0:01:00"), (360000, "100:00:00")],
)
def test_h_mm_ss(seconds, text):
    assert h_mm_ss(seconds) == text
