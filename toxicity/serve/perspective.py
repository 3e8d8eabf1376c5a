"""The calls that Perspective answered, `comments:analyze` and `comments:suggestscore`, with its names and errors."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from toxicity.core.attributes import attributes_of
from toxicity.core.console import printable
from toxicity.serve import suggestions
from toxicity.serve.attributes import label_of
from toxicity.serve.errors import ApiError
from toxicity.serve.limits import MAX_TEXT_BYTES
from toxicity.serve.messages import (
    PROBABILITY,
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    AttributeScores,
    Comment,
    Context,
    Score,
    SpanScore,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
    TextEntry,
    refusal,
)
from toxicity.serve.sentences import sentence_spans
from toxicity.serve.service import Service

MOST_ENTRY_BYTES = 2**20
# Of a suggestion: each may hold the whole text.
MOST_ROWS = 100
_PLAIN = (None, "TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT")
_PROBABILITY = (None, "SCORE_TYPE_UNSPECIFIED", PROBABILITY)


class _Route(APIRoute):
    """A route that refuses what is no message of its kind as Perspective did."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                # The place and the kind of the fault, without what was sent there, which may be a comment.
                path = printable(".".join(str(part) for part in first["loc"][1:]), 60)
                fault = first.get("ctx", {}).get("error") or first["msg"]
                message = f"Invalid JSON payload received{path and f' at {path!r}'}: {fault}."
                raise refusal("INVALID_REQUEST", message) from None

        return handler


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(route_class=_Route)
    languages, path = service.settings.languages, service.settings.suggestions
    labels, columns = attributes_of(service.labels), {label: n for n, label in enumerate(service.labels)}
    if path:
        suggestions.require_writable(path)

    @router.post("/v1alpha1/comments:analyze", response_model=AnalyzeCommentResponse)
    async def analyze(request: AnalyzeCommentRequest) -> Response:
        """Score a comment, as `comments:analyze` of Perspective does."""
        text = _text_of(request)
        requested = request.requested_attributes
        if not requested:
            raise refusal("NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes")
        drop = bool(request.drop_unsupported_attributes)
        found = {name: columns.get(label_of(name, labels, drop)) for name in requested}
        for name, parameters in requested.items():
            if parameters and parameters.score_type not in _PROBABILITY:
                raise _score_type_refused(parameters.score_type, name)
        asked = _languages_of(request, languages, next(iter(requested)), drop)
        wanted = {name: column for name, column in found.items() if column is not None} if asked else {}
        scores = await _scores(service, text, wanted, requested, asked if request.span_annotations else ())
        taken = asked or request.languages
        answer = {"languages": taken, "detectedLanguages": taken} | _token_of(request)
        return _json({"attributeScores": scores} | answer if scores else answer)

    @router.post("/v1alpha1/comments:suggestscore", response_model=SuggestCommentScoreResponse)
    async def suggestscore(request: SuggestCommentScoreRequest) -> Response:
        """Keep the scores that a comment should have, as `comments:suggestscore` of Perspective does.

        They are appended to the file of `--suggestions`; without that flag the answer is 501.
        """
        if path is None:
            raise ApiError(501, "This service keeps no suggestions: it was started without --suggestions FILE.")
        text = _text_of(request)
        if not request.attribute_scores:
            raise refusal("INVALID_REQUEST", "Missing attribute_scores")
        rows = _rows(text, request.attribute_scores, labels, service.labels)
        asked = _languages_of(request, languages, next(iter(request.attribute_scores)))
        if not request.do_not_store:
            now, community = datetime.now(UTC).isoformat(timespec="seconds"), request.community_id
            rows = [{"id": uuid.uuid4().hex, "time": now, "communityId": community} | row for row in rows]
            try:
                await asyncio.to_thread(suggestions.append, path, rows)
            except OSError:  # a lock that is held for too long is one, too
                raise ApiError(503, "The suggestion could not be stored.") from None
        requested = {"requestedLanguages": request.languages} if request.languages else {}
        return _json({"detectedLanguages": asked} | requested | _token_of(request))

    return router


def _text_of(request: Comment) -> str:
    """The text of the comment."""
    comment = request.comment or TextEntry()
    text = comment.text or ""
    if not text or text.isspace():
        raise refusal("COMMENT_EMPTY", "Comment must be non-empty.")
    # No character takes less than one byte, and a text of megabytes need not be encoded to be refused.
    if len(text) > MAX_TEXT_BYTES or len(text.encode()) > MAX_TEXT_BYTES:
        raise refusal("COMMENT_TOO_LONG", "Comment text too long.")
    if comment.type not in _PLAIN:
        raise refusal("INVALID_REQUEST", "Currently, only 'PLAIN_TEXT' comments are supported")
    if request.context:
        _require_context(request.context)
    return text


def _require_context(context: Context) -> None:
    parents = context.article_and_parent_comment
    if context.entries and parents:
        message = "Context can have either entries or article_and_parent_comment, but both fields were populated."
        raise refusal("INVALID_REQUEST", message)
    entries = [*(context.entries or ()), *((parents.article, parents.parent_comment) if parents else ())]
    if any(entry and entry.text and len(entry.text.encode()) > MOST_ENTRY_BYTES for entry in entries):
        raise refusal("INVALID_REQUEST", f"An entry of the context has more than {MOST_ENTRY_BYTES:,} bytes")


def _languages_of(request: Comment, known: Sequence[str], attribute: str, drop: bool = False) -> list[str]:
    """The languages that a comment is said to be in, without any the first of the model's; [] if `drop` and unknown.

    A code says what its first part does: `en-US` is `en`. What is no code at all is no language of the model's either.
    """
    if not request.languages:
        return [known[0]]
    asked = request.languages
    unknown = [code for code in asked if _primary(code) not in map(_primary, known)]
    if not unknown or drop:
        return [] if unknown else asked
    raise refusal(
        "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
        f"Attribute {attribute} does not support request languages: {printable(', '.join(unknown))}",
        languageNotSupportedByAttributeError={
            "detectedLanguages": asked,
            "requestedLanguages": asked,
            "attribute": attribute,
        },
    )


def _primary(code: str) -> str:
    return re.split("[-_]", code, maxsplit=1)[0].casefold()


async def _scores(
    service: Service, text: str, wanted: Mapping[str, int], requested: Mapping[str, Any], languages: Sequence[str]
) -> dict[str, Any]:
    """The `attributeScores` of the answer: {} if all are below their thresholds.

    Args:
        wanted: attribute → column of the scores.
        requested: attribute → its parameters.
        languages: of the sentences, each of which is scored, too; () for the text alone.
    """
    if not wanted:
        return {}
    spans = sentence_spans(text, _primary(languages[0])) if languages else []
    # A text of one sentence is scored once.
    parts = [text[begin:end] for begin, end in spans] if len(spans) > 1 else []
    summary, *of_parts = (await service.batcher.score([text, *parts])).tolist()
    if not parts:
        # Attributes had a span over the whole text anyway, which some clients read in place of the summary.
        spans, of_parts = spans or [(0, len(text))], [summary]
    answer = {}
    for name, column in wanted.items():
        threshold = requested[name].score_threshold if requested[name] else None
        if threshold is None or summary[column] >= threshold:
            scored = zip(spans, of_parts, strict=True)
            answer[name] = {
                "spanScores": [
                    {"begin": begin, "end": end, "score": _score(row[column])} for (begin, end), row in scored
                ],
                "summaryScore": _score(summary[column]),
            }
    return answer


def _score(value: float) -> dict[str, Any]:
    return {"value": value, "type": PROBABILITY}


def _rows(
    text: str, suggested: Mapping[str, AttributeScores], label_of_each: Mapping[str, str], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows to train on: a text and a score, or None, for each of `labels`; the whole comment and spans in order."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for name, scores in suggested.items():
        label = label_of(name, label_of_each)
        spans = [SpanScore(score=scores.summary_score)] if scores.summary_score else []
        spans += scores.span_scores or []
        if not spans:
            raise refusal("INVALID_REQUEST", f"Attribute {printable(name, 60)} has no score")
        for span in spans:
            begin, end = (0, len(text)) if span.begin is None and span.end is None else (span.begin or 0, span.end or 0)
            if not (0 <= begin < end <= len(text) and text[begin:end].strip()):
                raise refusal("INVALID_REQUEST", f"A span of attribute {printable(name, 60)} is no part of the text")
            if len(rows) == MOST_ROWS and (begin, end) not in rows:
                raise refusal("INVALID_REQUEST", f"More than {MOST_ROWS} parts of the text have scores")
            row = rows.setdefault((begin, end), {"text": text[begin:end]} | dict.fromkeys(labels))
            row[label] = _value(span.score, name)
    return list(rows.values())


def _value(score: Score | None, attribute: str) -> float:
    """The value of a score that was suggested."""
    if score is None or score.value is None or not 0 <= score.value <= 1:
        raise refusal("INVALID_REQUEST", f"A score of attribute {printable(attribute, 60)} is not from 0 to 1")
    if score.type not in _PROBABILITY:
        raise _score_type_refused(score.type, attribute)
    return score.value


def _score_type_refused(score_type: str, attribute: str) -> ApiError:
    message = f"Requested score type {score_type} is not supported by attribute {printable(attribute, 60)}"
    return refusal("INVALID_REQUEST", message)


def _token_of(request: Comment) -> dict[str, str]:
    return {} if request.client_token is None else {"clientToken": request.client_token}


def _json(answer: Mapping[str, Any]) -> Response:
    return Response(json.dumps(answer), media_type="application/json")
