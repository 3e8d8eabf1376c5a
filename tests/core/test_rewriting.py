"""Rewritings of texts: each by hand, at its rate, and the same every time."""

import random

import pytest

from toxicity.core.rewriting import (
    EMOJIS,
    LOOK_ALIKES,
    NEIGHBOURS,
    REWRITINGS,
    capitals,
    doubled,
    emojis,
    homoglyphs,
    leetspeak,
    rewrite,
    spaced,
    typos,
)

TEXT = " ".join(f"{word} of a" for word in ["idiot", "wonderful", "Nobody", "garden", "gespräch", "привет"] * 200)
NOTHING = random.Random(0)


@pytest.mark.parametrize(
    ("of_word", "word", "expected"),
    [
        (leetspeak, "idiots", "1d1075"),
        (leetspeak, "Tease", "73453"),
        (spaced, "idiot", "i d i o t"),
        (capitals, "Straße", "STRASSE"),
        (homoglyphs, "axe", "\u0430\u0445\u0435"),
        (homoglyphs, "Nut", "\u039dut"),
    ],
)
def test_what_is_written_without_a_draw(of_word, word, expected):
    assert of_word(word, NOTHING) == expected


@pytest.mark.parametrize(
    ("of_word", "word", "all_there_are"),
    [
        (doubled, "abc", {"aabc", "abbc", "abcc"}),
        (emojis, "abc", {f"abc{emoji}" for emoji in EMOJIS}),
        # Of each letter but the last: swapped, left out, or one of the keys around it.
        (typos, "pal", {"apl", "pla", "al", "pl", "oal", "lal"} | {f"p{key}l" for key in "qwsz"}),
        (typos, "Äbc", {"bÄc", "Äcb", "bc", "Äc", "Äbc"} | {f"Ä{key}c" for key in "vghn"}),
        (typos, "PAL", {"APL", "PLA", "AL", "PL", "OAL", "LAL"} | {f"P{key}L" for key in "QWSZ"}),
    ],
)
def test_what_is_drawn_is_one_of_these(of_word, word, all_there_are):
    draw = random.Random(0)
    assert {of_word(word, draw) for _ in range(400)} == all_there_are


def test_neighbouring_keys_are_each_others():
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert set(NEIGHBOURS["q"]) == set("wa")
    assert set(NEIGHBOURS["m"]) == set("njk")
    assert all(key in NEIGHBOURS[other] for key, others in NEIGHBOURS.items() for other in others)
    assert len(NEIGHBOURS) == 26


def test_look_alikes_are_letters_of_other_scripts_and_of_the_same_case():
    for latin, other in LOOK_ALIKES.items():
        assert not chr(other).isascii()
        assert chr(other).isalpha()
        assert chr(other).isupper() is chr(latin).isupper()


@pytest.mark.parametrize("name", REWRITINGS)
def test_the_rate_is_the_share_of_words_of_three_letters(name):
    rate = REWRITINGS[name].rate
    # Nothing but letters, so that it tells which words were rewritten.
    marked = rewrite(TEXT, name, 1)
    parts, kept = TEXT.split(" of a"), marked.split(" of a")
    if name == "capitals":
        assert marked == TEXT.upper()
        return
    assert len(parts) == len(kept)
    changed = [before != after for before, after in zip(parts, kept, strict=True)]
    # Leetspeak and look-alikes have nothing to change in the Cyrillic words.
    possible = 5 / 6 if name in ("leetspeak", "homoglyphs") else 1
    assert sum(changed) / len(changed) == pytest.approx(rate * possible, abs=0.04)


@pytest.mark.parametrize("name", REWRITINGS)
def test_it_depends_on_text_name_and_seed_alone(name):
    random.seed(1)
    state = random.getstate()
    first = rewrite(TEXT, name, 1)
    assert rewrite(TEXT, name, 1) == first
    assert random.getstate() == state
    assert name == "capitals" or rewrite(TEXT, name, 2) != first


@pytest.mark.parametrize("text", ["", " ", "of a 12 3x ... \U0001f600", "snake_case_ab"[:2]])
@pytest.mark.parametrize("name", [name for name in REWRITINGS if name != "capitals"])
def test_a_text_without_words_is_as_it_was(name, text):
    assert rewrite(text, name, 1) == text
