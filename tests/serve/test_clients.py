"""Clients that exist, unmodified but for the address, against the service in a process of its own.

`pytest -s tests/serve/test_clients.py` shows what they send and get.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from serving import ServeRun

from toxicity.predict.scorer import Scorer

KEY, WRONG_KEY = "key-of-the-forum", "key-of-nobody"
TEXT = "You are kind. 😀 You stupid liar!"
SENTENCES = ["You are kind.", "😀 You stupid liar!"]
JAVASCRIPT = Path(__file__).parent / "javascript"
# No proxy is to stand between the clients and loopback.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
REQUEST = {"comment": {"text": TEXT}, "requestedAttributes": {"TOXICITY": {}, "INSULT": {}}, "spanAnnotations": True}
ENGLISH_ONLY = "Attribute TOXICITY does not support request languages: de"


@pytest.fixture(scope="module")
def running(labels_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    (folder / "keys.txt").write_text(f"{KEY}\n")
    run = ServeRun(
        *(folder, "--model", labels_dir, "--api_keys", folder / "keys.txt"),
        *("--suggestions", folder / "suggested.jsonl"),
    )
    run.suggested = folder / "suggested.jsonl"
    yield run
    run.terminate()
    assert run.ended() == 0, run.errors
    assert not any(written in run.errors for written in ("stupid", KEY, WRONG_KEY)), run.errors


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def expected(labels_dir):
    """Label → scores of `TEXT` and of its sentences."""
    return Scorer(str(labels_dir), device="cpu", runtime="torch").by_label([TEXT, *SENTENCES])


def show(who, called, answered):
    print(f"\n{who}\n> {called}\n< {json.dumps(answered, ensure_ascii=False)}")


def require_scores(answer, expected):
    """Check the scores of TOXICITY and INSULT and of their spans."""
    for attribute, label in {"TOXICITY": "toxic", "INSULT": "insult"}.items():
        scores = answer["attributeScores"][attribute]
        values = [scores["summaryScore"]["value"], *(span["score"]["value"] for span in scores["spanScores"])]
        np.testing.assert_allclose(values, expected[label], atol=1e-6)
        assert [TEXT[span["begin"] : span["end"]] for span in scores["spanScores"]] == SENTENCES


def built(running, key=KEY):
    return pytest.importorskip("googleapiclient.discovery").build(
        *("commentanalyzer", "v1alpha1"),
        developerKey=key,
        discoveryServiceUrl=f"{running.url}/discovery/v1/apis/commentanalyzer/v1alpha1/rest",
        static_discovery=False,
    )


def test_google_api_python_client_analyzes(running, expected):
    body = {
        "comment": {"text": TEXT},
        "requestedAttributes": {"TOXICITY": {}, "INSULT": {"scoreThreshold": 0}},
        "spanAnnotations": True,
        "languages": ["en"],
        "clientToken": "7",
    }
    answer = built(running).comments().analyze(body=body).execute()
    show("google-api-python-client", f"comments().analyze(body={body})", answer)
    require_scores(answer, expected)
    assert (answer["languages"], answer["clientToken"]) == (["en"], "7")


def test_google_api_python_client_is_refused(running):
    errors = pytest.importorskip("googleapiclient.errors")
    comments = built(running).comments()
    body = {"comment": {"text": TEXT}, "requestedAttributes": {"TOXICITY": {}}, "languages": ["de"]}
    with pytest.raises(errors.HttpError) as refused:
        comments.analyze(body=body).execute()
    assert (refused.value.status_code, refused.value.reason) == (400, ENGLISH_ONLY)
    show("google-api-python-client", f"comments().analyze(body={body})", refused.value.error_details)
    (detail,) = refused.value.error_details
    assert detail["errorType"] == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"
    assert detail["languageNotSupportedByAttributeError"]["detectedLanguages"] == ["de"]
    with pytest.raises(errors.HttpError, match="API key not valid") as refused:
        built(running, WRONG_KEY)
    assert refused.value.status_code == 403


def test_google_api_python_client_suggests(running):
    comments = built(running).comments()
    before = len(running.suggested.read_text().splitlines())
    scores = {"summaryScore": {"value": 1}, "spanScores": [{"begin": 0, "end": 13, "score": {"value": 0}}]}
    body = {
        "comment": {"text": TEXT},
        "attributeScores": {"TOXICITY": scores},
        "communityId": "forum",
        "clientToken": "8",
    }
    answer = comments.suggestscore(body=body).execute()
    show("google-api-python-client", f"comments().suggestscore(body={body})", answer)
    assert answer == {"clientToken": "8", "detectedLanguages": ["en"]}
    rows = [json.loads(line) for line in running.suggested.read_text().splitlines()[before:]]
    assert [(row["text"], row["toxic"]) for row in rows] == [(TEXT, 1), (SENTENCES[0], 0)]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.skipif(not (JAVASCRIPT / "node_modules").is_dir(), reason="perspective-api-client is not: npm ci")
def test_perspective_api_client_of_npm(running, expected):
    calls = [
        [REQUEST, {}],
        [TEXT, {"attributes": ["insult", "toxicity_experimental"]}],
        [TEXT, {}],
        [REQUEST | {"languages": ["de"]}, {}],
        [" ", {}],
        ["a" * 30_000, {"truncate": True, "attributes": ["flirtation"]}],
        ["a" * 30_000, {"validate": False}],
    ]
    answers = called_by_node(running, KEY, calls)
    for (text, options), answer in zip(calls, answers, strict=True):
        shown = text if len(str(text)) < 300 else f"{text[:10]}…"
        show("perspective-api-client", f"analyze({json.dumps(shown, ensure_ascii=False)}, {options})", answer)
    spans, two, one, german, blank, lacking, long = answers
    require_scores(spans, expected)
    assert [*two["attributeScores"]] == ["INSULT", "TOXICITY_EXPERIMENTAL"]
    assert one["attributeScores"]["TOXICITY"]["summaryScore"]["value"] == pytest.approx(expected["toxic"][0], abs=1e-6)
    assert (german["name"], german["status"], german["message"]) == ("ResponseError", 400, ENGLISH_ONLY)
    assert (blank["message"], blank["details"][0]["errorType"]) == ("Comment must be non-empty.", "COMMENT_EMPTY")
    assert lacking["message"] == "Unknown requested attribute: FLIRTATION. This model has TOXICITY, INSULT, THREAT."
    assert (long["message"], long["details"][0]["errorType"]) == ("Comment text too long.", "COMMENT_TOO_LONG")
    (refused,) = called_by_node(running, WRONG_KEY, calls[:1])
    assert (refused["status"], refused["message"]) == (403, "API key not valid. Please pass a valid API key.")


def called_by_node(running, key, calls):
    return json.loads(printed("node", JAVASCRIPT / "analyze.js", running.url, key, json.dumps(calls)))


def printed(*command, given=None):
    """What a command prints, to which no proxy is known."""
    done = subprocess.run(
        command, input=given, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_openai_python(running, expected):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as client:
        answer = client.moderations.create(input=[TEXT, SENTENCES[0]], model="omni-moderation-latest")
        show("openai", f"moderations.create(input={[TEXT, SENTENCES[0]]})", answer.model_dump(by_alias=True))
        for number, result in enumerate(answer.results):
            scores = max(expected["toxic"][number], expected["insult"][number]), expected["threat"][number]
            found = result.category_scores
            assert (found.harassment, found.violence) == pytest.approx(scores, abs=1e-6)
            assert not result.categories.self_harm_intent
        with pytest.raises(openai.BadRequestError, match="Input should be 'text'"):
            client.moderations.create(input=[{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=WRONG_KEY, max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError):
            client.moderations.create(input=TEXT)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(running, expected):
    address = f"{running.url}/v1alpha1/comments:analyze"
    answer = curl(f"{address}?key={KEY}", REQUEST)
    show("curl", f"{address}?key={KEY} {json.dumps(REQUEST, ensure_ascii=False)}", answer)
    require_scores(answer, expected)
    missing = curl(f"{address}?key={KEY}", REQUEST | {"requestedAttributes": {}})
    assert missing["error"]["details"][0]["errorType"] == "NO_REQUESTED_ATTRIBUTES"
    for key in (f"?key={WRONG_KEY}", ""):
        error = curl(f"{address}{key}", REQUEST)["error"]
        assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")


def curl(address, body):
    flags = ["--silent", "--show-error", "--header", "Content-Type: application/json", "--data", "@-"]
    return json.loads(printed("curl", *flags, address, given=json.dumps(body)))
