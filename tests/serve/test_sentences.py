"""Where sentences begin and end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxicity.serve.sentences import MOST_SENTENCES, sentence_spans


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("  \n One.  \n\n\tTwo \n", ["One.", "Two"]),
        ("One.\r\n\r\nTwo.", ["One.", "Two."]),
        ("Dr. Smith came, e.g. today. He left.", ["Dr. Smith came, e.g. today.", "He left."]),
        ("It costs 1.50 at example.org/a.b now. Fine.", ["It costs 1.50 at example.org/a.b now.", "Fine."]),
        ("😀 Hi. 👨‍👩‍👧 Families! é́ Ends", ["😀 Hi.", "👨‍👩‍👧 Families!", "é́ Ends"]),
        ("Nul\x00 here. Then.", ["Nul\x00 here.", "Then."]),
        ("no end", ["no end"]),
        ("", []),
        (" \n\u2003", []),
        # sentencex panics at white space of several bytes between an initial and a full stop.
        ("So says M\u00a0. Me\u2003too.", ["So says M\u00a0. Me\u2003too."]),
    ],
)
def test_sentences(text, sentences):
    assert [text[begin:end] for begin, end in sentence_spans(text, "en")] == sentences


def test_abbreviations_are_those_of_the_language():
    text = "Das gilt z.B. hier. Ja."
    assert [text[begin:end] for begin, end in sentence_spans(text, "de")] == ["Das gilt z.B. hier.", "Ja."]
    assert sentence_spans(text, "xx")


@pytest.mark.parametrize("number", [MOST_SENTENCES, MOST_SENTENCES + 1, 5120])
def test_many_sentences_are_taken_together(number):
    spans = sentence_spans("Hi. " * number, "en")
    assert MOST_SENTENCES / 2 <= len(spans) <= MOST_SENTENCES
    assert (spans[0][0], spans[-1][1]) == (0, 4 * number - 1)


MARKS = [*" .!?\n\r\t\"'()“”«»…。！？\u200d\u0301\x00\x85\u2028\u3000\xa0", "Dr. ", "J. ", "e.g. ", "\n\n", "😀"]


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(MARKS), st.characters(codec="utf-8")), max_size=60).map("".join))
def test_every_character_but_white_space_is_in_one_sentence(text):
    spans = sentence_spans(text, "en")
    places = [place for begin, end in spans for place in range(begin, end)]
    assert places == sorted(set(places))
    assert all(text[place].isspace() for place in set(range(len(text))) - set(places))
    assert all(text[begin:end] == text[begin:end].strip() != "" for begin, end in spans)
