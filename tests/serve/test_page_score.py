"""The score of a comment and its words, as the page shows them; without a browser, which not every machine has."""

import re

import pytest

from toxicity.predict.explain.words import Word
from toxicity.serve.page_score import highlighted, picture, told

LABELS, THRESHOLDS = ["toxic", "insult", "threat", "<b>"], {"toxic": 0.5, "insult": 0.6, "threat": 0.7}


def words_of(text, **weights):
    return [Word(word, text.index(word), text.index(word) + len(word), weight) for word, weight in weights.items()]


@pytest.mark.parametrize(
    ("scores", "sentences"),
    [
        ([0.2, 0.1, 0.1, 0.9], ["Civil", "The score, 0.200, is below the threshold of 0.500 for toxic."]),
        ([0.5, 0.1, 0.1, 0.9], ["Toxic", "The score, 0.500, is at or above the threshold of 0.500 for toxic."]),
        # A kind may be found in a comment that is civil as a whole.
        (
            [0.2, 0.6, 0.7, 0.9],
            [
                "Civil",
                "below the threshold of 0.500 for toxic. Kinds at or above their own thresholds: insult, threat.",
            ],
        ),
        ([0.9999, 0.0, 0.0001, 1.0], ["Toxic", "The score, &gt; 0.999, is", "<dd>0.000</dd>", "<dd>&lt; 0.001</dd>"]),
    ],
)
def test_a_score_is_told_in_a_sentence(scores, sentences):
    html = picture(scores, LABELS, THRESHOLDS)
    assert [sentence for sentence in sentences if sentence not in html] == []
    assert ("Kinds at" in html) == any("Kinds at" in sentence for sentence in sentences)
    assert "<b>" not in html
    # A label without a threshold of its own has no line, and is neither toxic nor civil.
    assert html.count('class="mark"') == 3
    assert 'class="bar "' in html


def test_words_are_coloured_by_their_share_of_the_largest_weight():
    text = "you, kind liar"
    assert highlighted(text, words_of(text, you=0.1, kind=-1.0, liar=4.0)) == [
        ("you", None),
        (", ", None),
        ("kind", -0.25),
        (" ", None),
        ("liar", 1.0),
    ]
    assert highlighted(text, words_of(text, you=0.0)) == [("you", None), (", kind liar", None)]
    assert highlighted("?", []) == [("?", None)]


def test_words_are_told_for_those_who_see_no_colours():
    text = "you <kind> liar and fool or rat"
    found = re.sub("<.*?>", "", told(words_of(text, you=0.04, kind=-0.5, liar=4.0, fool=1.0, rat=3.0, **{"<": 2.0})))
    assert found.startswith("More toxic through liar (+4.0), rat (+3.0), &lt; (+2.0). More civil through kind (−0.5).")
    assert "No word by itself" in told(words_of(text, you=0.04))
