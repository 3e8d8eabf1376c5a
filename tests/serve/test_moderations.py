"""`/v1/moderations` in OpenAI's shape."""

import json

import pytest
from label_models import save_label_model
from serving import TEXTS, client_of, error_of, service_of

from toxicity.core.label_names import LABELS_2018
from toxicity.core.schema import SUBTYPES
from toxicity.predict.scorer import Scorer
from toxicity.serve.moderations import CATEGORIES, columns_of

ADDRESS = "/v1/moderations"


def results_of(client, given, **fields):
    answer = client.post(ADDRESS, json={"input": given} | fields)
    assert answer.status_code == 200, answer.text
    # What is missing or of another type would be an error.
    pytest.importorskip("openai.types").ModerationCreateResponse.model_validate(answer.json(), strict=True)
    return answer.json()["results"]


def test_the_answer(client, scorer):
    for text, found in zip(TEXTS, results_of(client, TEXTS, model="omni-moderation-latest"), strict=True):
        scores = {label: score[0] for label, score in scorer.by_label([text]).items()}
        over = {label: scores[label] >= fitted.threshold for label, fitted in scorer.calibrations.items()}
        expected = dict.fromkeys(CATEGORIES, 0) | {"harassment": max(scores["toxic"], scores["insult"])}
        expected |= {"violence": scores["threat"], "harassment/threatening": scores["threat"]}
        assert found["category_scores"] == pytest.approx(expected, abs=1e-6)
        flags = dict.fromkeys(CATEGORIES, False) | {"harassment": over["toxic"] or over["insult"]}
        assert found["categories"] == flags | {"violence": over["threat"], "harassment/threatening": over["threat"]}
        assert found["flagged"] == any(over.values())
        types = {name: ["text"] if expected[name] else [] for name in CATEGORIES}
        assert found["category_applied_input_types"] == types


@pytest.mark.parametrize(
    ("lowered", "categories"),
    [
        ((), set()),
        (("toxic",), {"harassment"}),
        (("insult",), {"harassment"}),
        (("threat",), {"harassment/threatening", "violence"}),
    ],
)
def test_flags_go_by_the_threshold_of_each_label(scorer, lowered, categories):
    service = service_of(scorer)
    vars(service)["thresholds"] = {label: 0.0 if label in lowered else 1.1 for label in service.labels}
    with client_of(service) as client:
        (found,) = results_of(client, TEXTS[0])
    flagged = {name for name, flag in found["categories"].items() if flag}
    assert found["flagged"] == bool(lowered)
    assert flagged == categories


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        (["x"], {"harassment": [0]}),
        (["hate", "sexism"], {"harassment": [0]}),
        (["toxic"], {"harassment": [0]}),
        (["insult", "toxic"], {"harassment": [0, 1]}),
        (
            LABELS_2018,
            {"harassment": [0, 1, 2, 4], "harassment/threatening": [3], "hate": [5], "violence": [3]},
        ),
        (
            ["target", *SUBTYPES],
            {"harassment": [0, 1, 2, 4], "harassment/threatening": [5], "hate": [3], "violence": [5], "sexual": [6]},
        ),
    ],
)
def test_categories_of_labels(labels, columns):
    assert {name: of for name, of in columns_of(labels).items() if of} == columns


def test_a_model_of_one_label(tmp_path, tiny_config, tokenizer):
    folder = save_label_model(tmp_path / "model", tiny_config, tokenizer, names=("LABEL_1",), calibrated=False)
    scorer = Scorer(str(folder), device="cpu", runtime="torch")
    with client_of(service_of(scorer, model=str(folder))) as client:
        answer = client.post(ADDRESS, json={"input": "thank you"}).json()
        assert answer["model"] == "model"
        assert answer["id"].startswith("modr-")
        (found,) = answer["results"]
        assert found["category_scores"]["harassment"] == pytest.approx(scorer(["thank you"])[0], abs=1e-6)
        assert found["flagged"] == found["categories"]["harassment"] == (found["category_scores"]["harassment"] >= 0.5)


def test_parts_are_one_text(client):
    parts = [{"type": "text", "text": TEXTS[0]}, {"type": "text", "text": TEXTS[1]}]
    assert results_of(client, parts) == results_of(client, "\n".join(TEXTS))


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "`input`: Field required"),
        ({"input": None}, "`input.texts`: Input should be a valid list"),
        ({"input": 3}, "`input.texts`: Input should be a valid list"),
        ({"input": {"text": "stupid"}}, "`input.texts`: Input should be a valid list"),
        ({"input": [1, 2]}, "`input.texts.0`: Input should be a valid string"),
        ({"input": [[1, 2]]}, "`input.texts.0`: Input should be a valid string"),
        ({"input": ["stupid", {"type": "text", "text": "a"}]}, "`input.texts.1`: Input should be a valid string"),
        ({"input": [{"type": "text", "text": "stupid"}, "a"]}, "`input.parts.1`: Input should be a"),
        ({"input": ""}, "`input.text`: the text is blank"),
        ({"input": []}, "`input.texts`: List should have at least 1 item"),
        ({"input": ["stupid", " \n"]}, "`input.texts.1`: the text is blank"),
        ({"input": [{"type": "text", "text": ""}]}, "`input.parts.0.text`: the text is blank"),
        ({"input": [{"type": "text"}]}, "`input.parts.0.text`: Field required"),
        ({"input": [{"type": "text", "text": "a"}, IMAGE]}, "`input.parts.1.type`: Input should be 'text'"),
        ({"input": ["x" * 20_481]}, "`input.texts.0`: the text is longer than 20,480 bytes"),
        ({"input": "é" * 10_241}, "`input.text`: the text is longer than 20,480 bytes"),
        ({"input": [{"type": "text", "text": "x" * 20_000}] * 2}, "`input`: its parts are longer than 20,480 bytes"),
        ({"input": ["x"] * 1001}, "`input.texts`: List should have at most 1000 items"),
    ],
)
def test_errors(client, body, message):
    answer = client.post(ADDRESS, content=json.dumps(body), headers={"Content-Type": "application/json"})
    error = error_of(answer, 400, "INVALID_ARGUMENT")
    assert message in error["message"]
    assert "stupid" not in answer.text
