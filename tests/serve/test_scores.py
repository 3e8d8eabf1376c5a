"""The API of our own."""

import numpy as np
import pytest
from builders import make_comments
from serving import TEXTS, client_of, error_of, service_of

from toxicity.serve.limits import MAX_TEXT_BYTES, MAX_TEXTS


def test_scores_are_those_of_the_scorer(client, scorer):
    texts = [text for text, _ in make_comments(60)]
    results = client.post("/v1/score", json={"texts": texts}).json()["results"]
    expected = scorer.by_label(texts)
    found = [[result["probability"], *result["kinds"].values()] for result in results]
    np.testing.assert_allclose(found, np.stack([*expected.values()], axis=1), atol=1e-6)
    threshold = scorer.threshold
    assert [result["label"] for result in results] == [int(score >= threshold) for score in expected["toxic"]]
    assert {result["threshold"] for result in results} == {threshold}
    assert {tuple(result["kinds"]) for result in results} == {("insult", "threat")}


def test_the_threshold_is_the_one_that_was_asked_for(scorer):
    with client_of(service_of(scorer, threshold_for="0.8")) as client:
        (result,) = client.post("/v1/score", json={"texts": TEXTS[:1]}).json()["results"]
        assert result["threshold"] == scorer.thresholds["0.8"] != scorer.threshold
        assert client.get("/v1/model").json()["thresholds"]["toxic"] == scorer.thresholds["0.8"]


def test_no_texts_have_no_results(client):
    assert client.post("/v1/score", json={"texts": []}).json() == {"results": []}


@pytest.mark.parametrize("text", ["😀 thank you", "a\x00b", "x" * MAX_TEXT_BYTES, "a\ud7ffb", "\ufeffx", "ﷺ" * 6000])
def test_any_text_is_scored(client, scorer, text):
    (result,) = client.post("/v1/score", json={"texts": [text]}).json()["results"]
    assert result["probability"] == pytest.approx(scorer([text])[0], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "`texts`: Field required"),
        ([], "`body`: Input should be"),
        ({"texts": "one"}, "`texts`: Input should be a valid list"),
        ({"texts": [1]}, "`texts.0`: Input should be a valid string"),
        ({"texts": ["a", None]}, "`texts.1`: Input should be a valid string"),
        ({"texts": ["a"], "text": "b"}, "`text`: Extra inputs are not permitted"),
        ({"texts": ["a", ""]}, "`texts.1`: the text is blank"),
        ({"texts": [" \n\u2003"]}, "`texts.0`: the text is blank"),
        ({"texts": ["x" * (MAX_TEXT_BYTES + 1)]}, "`texts.0`: the text is longer than 20,480 bytes"),
        ({"texts": ["ü" * MAX_TEXT_BYTES]}, "`texts.0`: the text is longer than 20,480 bytes"),
        ({"texts": ["x" * 1_000_000]}, "`texts.0`: the text is longer than 20,480 bytes"),
        ({"texts": ["x"] * (MAX_TEXTS + 1)}, "`texts`: List should have at most 1000 items"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(client, body, message):
    error = error_of(client.post("/v1/score", json=body), 400, "INVALID_ARGUMENT")
    assert message in error["message"]


def test_what_was_sent_is_not_sent_back(client):
    answer = client.post("/v1/score", json={"texts": [{"secret words": "more of them"}], "x" * 5_000: 1})
    error = error_of(answer, 400, "INVALID_ARGUMENT")
    assert "secret" not in answer.text
    assert len(answer.text) < 1_000
    violations = error["details"][0]["fieldViolations"]
    assert [violation["field"] for violation in violations] == ["texts.0", "x" * 100]


def test_the_model_is_described_without_its_path(client, scorer, labels_dir):
    answer = client.get("/v1/model")
    described = answer.json()
    assert described["labels"] == ["toxic", "insult", "threat"]
    assert described["digest"] == scorer.weights_digest
    assert described["calibration"].keys() == described["thresholds"].keys() == {"toxic", "insult", "threat"}
    assert str(labels_dir.parent) not in answer.text
