"""`POST /v1/moderations` in the shape of OpenAI's, for clients that are written for it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from toxicity.core.label_names import synonyms_of
from toxicity.core.schema import TOXIC_THRESHOLD
from toxicity.serve.errors import ApiError
from toxicity.serve.limits import MAX_TEXT_BYTES, MAX_TEXTS
from toxicity.serve.scores import Text
from toxicity.serve.service import Service

# Category → the labels it is judged by, each under the first of its names in `synonyms_of`. For the others no model of
# this package has a label.
CATEGORIES = {
    "harassment": ("target", "severe_toxicity", "insult", "obscene"),
    "harassment/threatening": ("threat",),
    "hate": ("identity_attack",),
    "hate/threatening": (),
    "illicit": (),
    "illicit/violent": (),
    "self-harm": (),
    "self-harm/instructions": (),
    "self-harm/intent": (),
    "sexual": ("sexual_explicit",),
    "sexual/minors": (),
    "violence": ("threat",),
    "violence/graphic": (),
}
_MAIN_CATEGORY = "harassment"


class Part(BaseModel):
    """A part of one text. Images cannot be scored."""

    type: Literal["text"]
    text: Text


def _kind(given: object) -> str:
    if isinstance(given, str):
        return "text"
    return "parts" if isinstance(given, list) and given and isinstance(given[0], dict) else "texts"


_List = Field(min_length=1, max_length=MAX_TEXTS)
Input = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[list[Text], _List, Tag("texts")]
    | Annotated[list[Part], _List, Tag("parts")],
    Discriminator(_kind),
]


class Moderated(BaseModel):
    """What to score."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": [{"input": ["You are kind."]}]})
    input: Annotated[Input, Field(description="A text, a list of texts, or the parts of one text.")]
    model: Annotated[Any, Field(description="Not used: the one model of this service answers.")] = None


class Result(BaseModel):
    """What is said of one text."""

    flagged: Annotated[bool, Field(description="Whether any category is true.")]
    categories: Annotated[
        dict[str, bool],
        Field(description="Category to whether a label of it reaches its threshold; false where there is no label."),
    ]
    category_scores: Annotated[
        dict[str, float], Field(description="Category to the largest probability of its labels; 0 where there is none.")
    ]
    category_applied_input_types: Annotated[
        dict[str, list[str]], Field(description='["text"], or [] for a category that the model has no label for.')
    ]


class Moderations(BaseModel):
    """One result for each text, in their order."""

    id: str
    model: str
    results: list[Result]


def routes(service: Service) -> APIRouter:
    """The route of this module."""
    router = APIRouter(prefix="/v1")
    columns = columns_of(service.labels)
    thresholds = [service.thresholds.get(label, TOXIC_THRESHOLD) for label in service.labels]

    @router.post("/moderations")
    async def moderations(request: Moderated) -> Moderations:
        """Score texts as OpenAI's moderations endpoint does, by the categories that the model has labels for.

        `harassment` is the largest of toxicity, insult and obscenity, `hate` an attack on an identity,
        `harassment/threatening` and `violence` a threat, `sexual` what is sexually explicit. All thirteen categories
        are in the answer, since typed clients need them; those that the model has no label for are false and 0.
        """
        scores = await service.batcher.score(_texts(request.input))
        results = [_result(row, columns, thresholds) for row in scores.tolist()]
        return Moderations(id=f"modr-{uuid.uuid4().hex}", model=service.name, results=results)

    return router


def columns_of(labels: Sequence[str]) -> dict[str, list[int]]:
    """Category → numbers of the labels it is judged by; of labels with other names the main one is harassment."""
    named = [(synonyms_of(label) or ("",))[0] for label in labels]
    columns = {
        category: [column for column, name in enumerate(named) if name in wanted]
        for category, wanted in CATEGORIES.items()
    }
    if not named[0]:
        columns[_MAIN_CATEGORY].insert(0, 0)
    return columns


def _texts(given: str | list[str] | list[Part]) -> list[str]:
    """The texts to score; the parts of one text are lines of it."""
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], str):
        return given
    text = "\n".join(part.text for part in given)
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ApiError(400, f"Invalid value at `input`: its parts are longer than {MAX_TEXT_BYTES:,} bytes.")
    return [text]


def _result(row: Sequence[float], columns: Mapping[str, Sequence[int]], thresholds: Sequence[float]) -> Result:
    categories = {name: any(row[column] >= thresholds[column] for column in of) for name, of in columns.items()}
    return Result(
        flagged=any(categories.values()),
        categories=categories,
        category_scores={name: max((row[column] for column in of), default=0.0) for name, of in columns.items()},
        category_applied_input_types={name: ["text"] if of else [] for name, of in columns.items()},
    )
