"""`comments:analyze`: answers and errors as Perspective gave them."""

import json

import numpy as np
import pytest
from label_models import LABELS_2018, save_label_model
from serving import client_of, error_of, service_of

from toxicity.predict.scorer import Scorer

ANALYZE = "/v1alpha1/comments:analyze"
TEXT = "  You are kind. 😀 You stupid liar!\n\nDr. Smith is e.g. a name."
SENTENCES = ["You are kind.", "😀 You stupid liar!", "Dr. Smith is e.g. a name."]
TOXICITY = {"TOXICITY": {}}


@pytest.fixture(scope="module")
def scorer(tmp_path_factory, tiny_config, tokenizer):
    folder = save_label_model(tmp_path_factory.mktemp("six") / "model", tiny_config, tokenizer)
    return Scorer(str(folder), device="cpu", runtime="torch")


@pytest.fixture(scope="module")
def client(scorer):
    with client_of(service_of(scorer, languages=("en", "pt"))) as client:
        yield client


def analyzed(client, text=TEXT, attributes=TOXICITY, **fields):
    body = {"comment": {"text": text}, "requestedAttributes": attributes} | fields
    answer = client.post(ANALYZE, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def value_of(scores, attribute="TOXICITY"):
    return scores["attributeScores"][attribute]["summaryScore"]["value"]


def test_the_answer(client, scorer):
    (score,) = scorer([TEXT])
    scored = {"value": pytest.approx(score, abs=1e-6), "type": "PROBABILITY"}
    assert analyzed(client, clientToken="a token\n😀") == {
        "attributeScores": {
            "TOXICITY": {"summaryScore": scored, "spanScores": [{"begin": 0, "end": len(TEXT), "score": scored}]}
        },
        "languages": ["en"],
        "detectedLanguages": ["en"],
        "clientToken": "a token\n😀",
    }


def test_each_attribute_has_the_scores_of_its_label(client, scorer):
    names = ["TOXICITY", "SEVERE_TOXICITY", "PROFANITY", "THREAT", "INSULT", "IDENTITY_ATTACK", "OBSCENE"]
    names.append("INSULT_EXPERIMENTAL")
    labels = [*LABELS_2018, "obscene", "insult"]
    found, expected = analyzed(client, attributes={name: {} for name in names}), scorer.by_label([TEXT])
    assert [*found["attributeScores"]] == names
    np.testing.assert_allclose(
        [value_of(found, name) for name in names], [expected[label][0] for label in labels], atol=1e-6
    )


def test_sentences_have_spans_of_their_own(client, scorer):
    found = analyzed(client, attributes={"INSULT": {}, "THREAT": None}, spanAnnotations=True)["attributeScores"]
    expected = scorer.by_label([TEXT, *SENTENCES])
    for attribute, label in {"INSULT": "insult", "THREAT": "threat"}.items():
        spans, summary = found[attribute]["spanScores"], found[attribute]["summaryScore"]["value"]
        assert [TEXT[span["begin"] : span["end"]] for span in spans] == SENTENCES
        values = [summary, *(span["score"]["value"] for span in spans)]
        np.testing.assert_allclose(values, expected[label], atol=1e-6)


def test_a_comment_of_one_sentence_is_scored_once(client, monkeypatch, scorer):
    scored = []
    probabilities = scorer.probabilities
    monkeypatch.setattr(scorer, "probabilities", lambda rows: scored.append(len(rows)) or probabilities(rows))
    found = analyzed(client, " You are kind.\n", spanAnnotations=True)["attributeScores"]["TOXICITY"]
    assert found["spanScores"] == [{"begin": 1, "end": 14, "score": found["summaryScore"]}]
    assert sum(scored) == 1


@pytest.mark.parametrize("below", [-0.01, 0, 0.01, None])
def test_attributes_below_their_threshold_are_left_out(client, below):
    scores = analyzed(client, attributes={"TOXICITY": {}, "INSULT": {}})
    threshold = None if below is None else value_of(scores, "INSULT") + below
    attributes = {"INSULT": {"scoreThreshold": threshold, "scoreType": "PROBABILITY"}}
    found = analyzed(client, attributes=attributes)
    if below == 0.01:  # alone, there is no key at all
        assert found == {"languages": ["en"], "detectedLanguages": ["en"]}
    else:
        assert value_of(found, "INSULT") == value_of(scores, "INSULT")
    both = analyzed(client, attributes={"TOXICITY": {}} | attributes)
    assert [*both["attributeScores"]] == ["TOXICITY", "INSULT"][: 1 + (below != 0.01)]


@pytest.mark.parametrize(
    ("fields", "languages"),
    [
        ({}, ["en"]),
        ({"languages": None}, ["en"]),
        ({"languages": []}, ["en"]),
        ({"languages": ["pt"]}, ["pt"]),
        ({"languages": ["en-US", "PT_br"]}, ["en-US", "PT_br"]),
    ],
)
def test_languages_that_are_known(client, fields, languages):
    found = analyzed(client, **fields)
    assert (found["languages"], found["detectedLanguages"]) == (languages, languages)


@pytest.mark.parametrize(
    ("languages", "named"),
    [(["de"], "de"), (["en", "de", "fr-CA"], "de, fr-CA"), (["english"], "english"), ([""], ""), (["e\nn"], "e\\nn")],
)
def test_languages_that_are_not(client, languages, named):
    body = {"comment": {"text": TEXT}, "requestedAttributes": {"INSULT": {}, "TOXICITY": {}}, "languages": languages}
    error = error_of(client.post(ANALYZE, json=body), 400, "INVALID_ARGUMENT")
    assert error["message"] == f"Attribute INSULT does not support request languages: {named}"
    assert error["details"] == [
        {
            "@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error",
            "errorType": "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
            "languageNotSupportedByAttributeError": {
                "detectedLanguages": languages,
                "requestedLanguages": languages,
                "attribute": "INSULT",
            },
        }
    ]


def test_what_is_not_supported_can_be_dropped(client):
    drop = {"dropUnsupportedAttributes": True}
    assert [*analyzed(client, attributes={"SPAM": {}, "INSULT": {}}, **drop)["attributeScores"]] == ["INSULT"]
    found = analyzed(client, languages=["de"], **drop)
    assert found == {"languages": ["de"], "detectedLanguages": ["de"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"context": {"entries": [{"text": "x" * 2**20, "type": "PLAIN_TEXT"}, {}, {"text": "<p>", "type": "HTML"}]}},
        {"context": {"articleAndParentComment": {"article": {"text": "a"}, "parentComment": {"text": "b"}}}},
        {"context": {"entries": [], "articleAndParentComment": {"article": {"text": "a"}}}},
        {"context": {}},
        {"context": None},
        {"sessionId": "1", "communityId": "c", "doNotStore": True},
        {"doNotStore": None, "spanAnnotations": None, "clientToken": None},
        {"unknown": {"field": 1}},
    ],
)
def test_what_makes_no_difference(client, fields):
    assert analyzed(client, **fields) == analyzed(client)


def test_names_may_be_spelt_as_in_protocol_buffers(client):
    body = {"comment": {"text": TEXT}, "requested_attributes": {"TOXICITY": {"score_threshold": 0}}}
    answer = client.post(ANALYZE, json=body | {"span_annotations": True, "client_token": "t", "do_not_store": True})
    assert answer.json() == analyzed(client, spanAnnotations=True, clientToken="t")


@pytest.mark.parametrize("text", ["a\x00b", "😀", "ﷺ" * 6826, "x" * 20_480, "\u200b", "\ufeff", "ab\ud7ff\ue000"])
@pytest.mark.parametrize("spans", [False, True])
def test_any_text_is_scored(client, scorer, text, spans):
    found = analyzed(client, text, spanAnnotations=spans)
    assert value_of(found) == pytest.approx(scorer([text])[0], abs=1e-6)


BOTH = {"entries": [{"text": "a"}], "articleAndParentComment": {"article": {"text": "b"}}}
BOTH_REFUSED = "Context can have either entries or article_and_parent_comment, but both fields were populated."


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"comment": None}, "COMMENT_EMPTY", "Comment must be non-empty."),
        ({"comment": {}}, "COMMENT_EMPTY", "Comment must be non-empty."),
        ({"comment": {"text": ""}}, "COMMENT_EMPTY", "Comment must be non-empty."),
        ({"comment": {"text": " \n\u2003"}, "requestedAttributes": {}}, "COMMENT_EMPTY", "Comment must be non-empty."),
        ({"comment": {"text": "x" * 20_481}}, "COMMENT_TOO_LONG", "Comment text too long."),
        ({"comment": {"text": "é" * 10_241}}, "COMMENT_TOO_LONG", "Comment text too long."),
        ({"comment": {"text": "😀" * 250_000}}, "COMMENT_TOO_LONG", "Comment text too long."),
        ({"requestedAttributes": {}}, "NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes"),
        ({"requestedAttributes": None}, "NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes"),
        ({"requestedAttributes": {"TOXIC": {}}}, "INVALID_REQUEST", "Unknown requested attribute: TOXIC"),
        (
            {"requestedAttributes": {"TOXICITY": {}, "SPAM": {}}},
            "INVALID_REQUEST",
            "Unknown requested attribute: SPAM. This model has TOXICITY, SEVERE_TOXICITY, IDENTITY_ATTACK, INSULT, "
            "PROFANITY, THREAT, OBSCENE.",
        ),
        (
            {"requestedAttributes": {"TOXICITY": {"scoreType": "RAW"}}},
            "INVALID_REQUEST",
            "Requested score type RAW is not supported by attribute TOXICITY",
        ),
        (
            {"comment": {"text": "<p>", "type": "HTML"}},
            "INVALID_REQUEST",
            "Currently, only 'PLAIN_TEXT' comments are supported",
        ),
        ({"context": BOTH}, "INVALID_REQUEST", BOTH_REFUSED),
        (
            {"context": {"entries": [{"text": "é" * (2**19 + 1)}]}},
            "INVALID_REQUEST",
            "An entry of the context has more than 1,048,576 bytes",
        ),
    ],
)
def test_errors(client, changes, kind, message):
    body = {"comment": {"text": TEXT}, "requestedAttributes": TOXICITY} | changes
    error = error_of(client.post(ANALYZE, json=body), 400, "INVALID_ARGUMENT")
    assert error["message"] == message
    assert error["details"] == [
        {"@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error", "errorType": kind}
    ]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"comment": "stupid"}, "comment"),
        ({"comment": {"text": ["stupid"]}}, "comment.text"),
        ({"comment": {"text": 3}}, "comment.text"),
        ({"comment": {"text": "a", "type": "stupid"}}, "comment.type"),
        ({"requestedAttributes": ["TOXICITY"]}, "requestedAttributes"),
        ({"requestedAttributes": {"TOXICITY": {"scoreThreshold": "0.5"}}}, "requestedAttributes.TOXICITY.scoreThresh"),
        ({"requestedAttributes": {"TOXICITY": {"scoreThreshold": 10**400}}}, "requestedAttributes.TOXICITY.scoreThr"),
        ({"requestedAttributes": {"TOXICITY": {"scoreType": 1}}}, "requestedAttributes.TOXICITY.scoreType"),
        ({"requestedAttributes": {"TOXICITY": True}}, "requestedAttributes.TOXICITY"),
        ({"languages": "en"}, "languages"),
        ({"languages": ["en", None]}, "languages.1"),
        ({"languages": ["en"] * 101}, "languages"),
        ({"spanAnnotations": "true"}, "spanAnnotations"),
        ({"doNotStore": 1}, "doNotStore"),
        ({"clientToken": 5}, "clientToken"),
        ({"context": {"entries": {"text": "a"}}}, "context.entries"),
        ({"context": {"entries": [None]}}, "context.entries.0"),
    ],
)
def test_wrong_types(client, changes, path):
    body = {"comment": {"text": "stupid"}, "requestedAttributes": TOXICITY} | changes
    error = error_of(client.post(ANALYZE, content=json.dumps(body), headers=JSON), 400, "INVALID_ARGUMENT")
    assert f" at '{path}" in error["message"]
    assert "stupid" not in error["message"]
    assert error["details"][0]["errorType"] == "INVALID_REQUEST"


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("body", ["[]", "3", "null", '"stupid"', ""])
def test_what_is_no_request(client, body):
    error = error_of(client.post(ANALYZE, content=body, headers=JSON), 400, "INVALID_ARGUMENT")
    assert error["message"].startswith("Invalid JSON payload received: ")
    assert "stupid" not in error["message"]


def test_a_body_that_is_cut_off(client):
    error_of(client.post(ANALYZE, content=b'{"comment": {"te', headers=JSON), 400, "INVALID_ARGUMENT")
