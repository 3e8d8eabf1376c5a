"""`comments:suggestscore`, and the file it writes."""

import errno
import json
import os
import stat
from datetime import datetime

import numpy as np
import pytest
from processes import start
from serving import client_of, error_of, service_of
from suggesting import append_many

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.data.sources import label_targets_of, load_splits
from toxicity.serve import suggestions

SUGGEST = "/v1alpha1/comments:suggestscore"
TEXT = "You are kind. You stupid liar!"
LABELS = ("toxic", "insult", "threat")


def scored(value, **span):
    return span | {"score": {"value": value}} if span else {"summaryScore": {"value": value}}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "suggested.jsonl"


@pytest.fixture
def suggest(scorer, file):
    with client_of(service_of(scorer, suggestions=file)) as client:

        def call(scores, text=TEXT, **fields):
            return client.post(SUGGEST, json={"comment": {"text": text}, "attributeScores": scores} | fields)

        yield call


def rows_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_suggestion_is_a_row(suggest, file):
    answer = suggest({"TOXICITY": scored(1)}, text="é 😀\n\x00", clientToken="t", communityId="forum", sessionId="1")
    assert (answer.status_code, answer.json()) == (200, {"detectedLanguages": ["en"], "clientToken": "t"})
    (row,) = rows_of(file)
    assert len(row.pop("id")) == 32
    assert datetime.fromisoformat(row.pop("time")).tzinfo
    assert row == {"text": "é 😀\n\x00", "toxic": 1, "insult": None, "threat": None, "communityId": "forum"}


def test_spans_are_rows_of_their_text(suggest, file):
    insult = {"summaryScore": {"value": 0.25, "type": "PROBABILITY"}, "spanScores": [scored(1, begin=14, end=30)]}
    both = {"INSULT": insult, "TOXICITY_EXPERIMENTAL": {"spanScores": [scored(0, end=13), scored(1, begin=14, end=30)]}}
    answer = suggest(both, languages=["en-GB"])
    assert answer.json() == {"detectedLanguages": ["en-GB"], "requestedLanguages": ["en-GB"]}
    assert [(row["text"], row["toxic"], row["insult"]) for row in rows_of(file)] == [
        (TEXT, None, 0.25),
        ("You stupid liar!", 1, 1),
        ("You are kind.", 0, None),
    ]


def test_a_span_without_a_place_is_the_whole_text(suggest, file):
    assert suggest({"THREAT": {"spanScores": [{"score": {"value": 0.5}}]}}).status_code == 200
    assert [(row["text"], row["threat"]) for row in rows_of(file)] == [(TEXT, 0.5)]


@pytest.mark.usefixtures("cache_dir")
def test_the_file_can_be_trained_on(suggest, file):
    texts = [f"{TEXT} {number}" for number in range(40)]
    for number, text in enumerate(texts):
        assert suggest({"TOXICITY": scored(number % 2), "THREAT": scored(number / 40)}, text=text).status_code == 200
    split = load_splits(DataArguments(train_file=str(file)))
    assert sorted([*split.train["text"], *split.validation["text"]]) == sorted(texts)
    suggest({"INSULT": scored(1)})
    suggest({"INSULT": scored(0)}, text="another")
    several = load_splits(DataArguments(train_file=str(file), label_column_names=[*LABELS]))
    targets = np.concatenate([label_targets_of(part, LABELS) for part in (several.train, several.validation)])
    assert targets.shape == (42, 3)
    assert np.isnan(targets).sum(axis=0).tolist() == [2, 40, 2]


def test_what_is_not_to_be_stored_is_not(suggest, file):
    assert suggest({"TOXICITY": scored(1)}, doNotStore=True, clientToken="t").json()["clientToken"] == "t"
    assert suggest({"TOXICITY": scored(1)}, do_not_store=True).status_code == 200
    assert file.read_bytes() == b""


def test_without_a_file_suggestions_are_not_implemented(client):
    body = {"comment": {"text": TEXT}, "attributeScores": {"TOXICITY": scored(1)}}
    assert "--suggestions" in error_of(client.post(SUGGEST, json=body), 501, "UNIMPLEMENTED")["message"]


@pytest.mark.parametrize(
    ("scores", "fields", "message"),
    [
        ({}, {}, "Missing attribute_scores"),
        (None, {}, "Missing attribute_scores"),
        ({"TOXICITY": {}}, {}, "Attribute TOXICITY has no score"),
        ({"TOXICITY": {"spanScores": []}}, {}, "Attribute TOXICITY has no score"),
        ({"SPAM": scored(1)}, {}, "Unknown requested attribute: SPAM. This model has TOXICITY, INSULT, THREAT."),
        ({"TOXICITY": scored(1.01)}, {}, "A score of attribute TOXICITY is not from 0 to 1"),
        ({"TOXICITY": scored(-1)}, {}, "A score of attribute TOXICITY is not from 0 to 1"),
        ({"TOXICITY": {"summaryScore": {}}}, {}, "A score of attribute TOXICITY is not from 0 to 1"),
        ({"TOXICITY": {"spanScores": [{}]}}, {}, "A score of attribute TOXICITY is not from 0 to 1"),
        ({"TOXICITY": scored("1")}, {}, "at 'attributeScores.TOXICITY.summaryScore.value'"),
        (
            {"TOXICITY": {"summaryScore": {"value": 1, "type": "RAW"}}},
            {},
            "Requested score type RAW is not supported by attribute TOXICITY",
        ),
        *(
            ({"TOXICITY": {"spanScores": [scored(1, **span)]}}, {}, "A span of attribute TOXICITY is no part of the")
            for span in ({"begin": -1, "end": 3}, {"begin": 3, "end": 3}, {"begin": 3}, {"end": 31}, {"begin": 10**30})
        ),
        ({"TOXICITY": {"spanScores": [scored(1, begin=13, end=14)]}}, {}, "A span of attribute TOXICITY is no part of"),
        (
            {"TOXICITY": {"spanScores": [scored(1, begin=n // 30, end=n // 30 + n % 30 + 1) for n in range(120)]}},
            {"text": "x" * 40},
            "More than 100 parts of the text have scores",
        ),
        ({"TOXICITY": scored(1)}, {"text": " "}, "Comment must be non-empty."),
        ({"TOXICITY": scored(1)}, {"text": "x" * 20_481}, "Comment text too long."),
        ({"TOXICITY": scored(1)}, {"languages": ["de"]}, "Attribute TOXICITY does not support request languages: de"),
    ],
)
def test_errors(suggest, file, scores, fields, message):
    assert message in error_of(suggest(scores, **fields), 400, "INVALID_ARGUMENT")["message"]
    assert file.read_bytes() == b""


def full_disk(room):
    """`os.write` on a disk with room for so many bytes."""

    def write(descriptor, data, real=os.write):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[:room])
        room -= written
        return written

    return write


@pytest.mark.parametrize("room", [0, 20, 200])
def test_a_full_disk_leaves_whole_lines(suggest, file, monkeypatch, room):
    suggest({"TOXICITY": scored(1)})
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(suggestions.os, "write", full_disk(room))
        spans = {"spanScores": [scored(1, end=13), scored(0, begin=14, end=30)]}
        error_of(suggest({"TOXICITY": scored(1) | spans}), 503, "UNAVAILABLE")
        assert file.read_bytes() == before
    assert suggest({"TOXICITY": scored(0)}).status_code == 200
    assert len(rows_of(file)) == 2


def test_a_file_that_cannot_be_written_any_more(suggest, file):
    file.unlink()
    file.mkdir()
    error = error_of(suggest({"TOXICITY": scored(1)}), 503, "UNAVAILABLE")
    assert error["message"] == "The suggestion could not be stored."


def test_a_file_that_cannot_be_written_at_all(scorer, tmp_path):
    with pytest.raises(RequestError, match=r"--suggestions .* cannot be written to"):
        client_of(service_of(scorer, suggestions=tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_others_cannot_read_the_file(suggest, file):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    suggest({"TOXICITY": scored(1)})
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_line_that_was_cut_off_stays_alone(file):
    file.write_bytes(b'{"text": "a"}\n{"te')
    suggestions.append(file, [{"text": "b"}, {"text": "c"}])
    assert file.read_bytes() == b'{"text": "a"}\n{"te\n{"text": "b"}\n{"text": "c"}\n'


def test_processes_and_threads_write_whole_lines(file):
    processes = [start(append_many, file, name) for name in "ab"]
    append_many(file, "c")
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(row["text"][:4].strip() for row in rows_of(file)) == sorted(
        f"{name} {number}" for name in "abc" for number in range(20)
    )
