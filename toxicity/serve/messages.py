"""What the calls of Perspective take and answer, as pydantic models: the fields and what is documented of them.

Names and meanings are those of its discovery document. As in Google's JSON, `requestedAttributes` may also be spelt
`requested_attributes`, and null means that a field was left out. Fields of other names are ignored, so that clients
that send more than this service knows keep working.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from toxicity.serve.errors import ApiError

ERROR_TYPE = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
PROBABILITY = "PROBABILITY"

TextType = Literal["TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT", "HTML"]
ScoreType = Literal["SCORE_TYPE_UNSPECIFIED", "PROBABILITY", "STD_DEV_SCORE", "PERCENTILE", "RAW"]


def refusal(error_type: str, message: str, **fields: Any) -> ApiError:
    """The error 400 of a call of Perspective, whose detail has `errorType` and further fields."""
    return ApiError(400, message, {"@type": ERROR_TYPE, "errorType": error_type, **fields})


class Message(BaseModel):
    """An object in JSON: its types are taken strictly, so that `"false"` is not taken for true."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, strict=True, allow_inf_nan=False)


class TextEntry(Message):
    """A text and its type."""

    text: Annotated[str | None, Field(description="The text, UTF-8.")] = None
    type: Annotated[TextType | None, Field(description="Only plain text can be scored.")] = None


class ArticleAndParentComment(Message):
    """What a comment is about, and what it replies to."""

    article: TextEntry | None = None
    parent_comment: TextEntry | None = None


class Context(Message):
    """What a comment refers to; either of the two. It is checked, and has no influence on scores."""

    entries: list[TextEntry] | None = None
    article_and_parent_comment: ArticleAndParentComment | None = None


class AttributeParameters(Message):
    """How an attribute is asked for."""

    score_type: Annotated[ScoreType | None, Field(description="Only probabilities are given.")] = None
    score_threshold: Annotated[
        float | None, Field(description="An attribute whose summary score is below it is left out of the answer.")
    ] = None


class Score(Message):
    """A value and what it means."""

    value: Annotated[float | None, Field(description="From 0 to 1.")] = None
    type: Annotated[ScoreType | None, Field(description="PROBABILITY where it is left out.")] = None


class SpanScore(Message):
    """The score of a part of the text, or of all of it where `begin` and `end` are left out."""

    begin: Annotated[int | None, Field(description="Number of Unicode characters before the part.")] = None
    end: Annotated[int | None, Field(description="Number of Unicode characters up to its end.")] = None
    score: Score | None = None


class AttributeScores(Message):
    """The scores of an attribute."""

    summary_score: Annotated[Score | None, Field(description="Of the whole text.")] = None
    span_scores: Annotated[list[SpanScore] | None, Field(description="Of parts of it.")] = None


Languages = Annotated[
    Annotated[list[str], Field(max_length=100)] | None, Field(description="ISO 639-1 or BCP 47 codes.")
]


class Comment(Message):
    """What both requests have."""

    comment: TextEntry | None = None
    context: Context | None = None
    languages: Languages = None
    client_token: Annotated[str | None, Field(description="Given back as it is.")] = None
    session_id: Annotated[str | None, Field(description="Not used.")] = None
    community_id: Annotated[str | None, Field(description="Kept with suggestions, otherwise not used.")] = None
    do_not_store: Annotated[
        bool | None, Field(description="Nothing of the request is kept. Of requests for scores nothing is, ever.")
    ] = None


class AnalyzeCommentRequest(Comment):
    """A comment and the attributes to score it by."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"comment": {"text": "You are kind."}, "requestedAttributes": {"TOXICITY": {}}, "spanAnnotations": True}
            ]
        }
    )
    requested_attributes: Annotated[
        dict[str, AttributeParameters | None] | None, Field(description="Attribute to parameters, usually none.")
    ] = None
    span_annotations: Annotated[bool | None, Field(description="Whether to score each sentence, too.")] = None
    drop_unsupported_attributes: Annotated[
        bool | None, Field(description="Whether to leave out what the model or the language does not have.")
    ] = None


class AnalyzeCommentResponse(Message):
    """The scores of a comment."""

    attribute_scores: Annotated[
        dict[str, AttributeScores] | None, Field(description="Left out if all are below their thresholds.")
    ] = None
    languages: Annotated[list[str] | None, Field(description="Languages that the comment was taken to be in.")] = None
    detected_languages: Annotated[list[str] | None, Field(description="The same, as nothing is detected.")] = None
    client_token: Annotated[str | None, Field(description="Of the request.")] = None


class SuggestCommentScoreRequest(Comment):
    """A comment and the scores it should have."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"comment": {"text": "You are kind."}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}}}
            ]
        }
    )
    attribute_scores: Annotated[
        dict[str, AttributeScores] | None, Field(description="Of the whole text, of parts of it, or both.")
    ] = None


class SuggestCommentScoreResponse(Message):
    """That a suggestion was taken."""

    detected_languages: Annotated[list[str] | None, Field(description="The languages it was taken to be in.")] = None
    requested_languages: Annotated[list[str] | None, Field(description="Of the request.")] = None
    client_token: Annotated[str | None, Field(description="Of the request.")] = None
