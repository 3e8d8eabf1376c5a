"""The API of our own: `POST /v1/score` and `GET /v1/model`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from toxicity.serve.limits import MAX_TEXT_BYTES, MAX_TEXTS
from toxicity.serve.service import Service


def _scorable(text: str) -> str:
    if not text or text.isspace():
        raise PydanticCustomError("blank", "the text is blank")
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise PydanticCustomError("too_long", f"the text is longer than {MAX_TEXT_BYTES:,} bytes")
    return text


Text = Annotated[
    str,
    AfterValidator(_scorable),
    # For the OpenAPI document; in characters, as that has no bytes.
    Field(json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT_BYTES, "pattern": r"\S"}),
]


class Texts(BaseModel, extra="forbid"):
    """Comments to score."""

    texts: Annotated[
        list[Text], Field(max_length=MAX_TEXTS, description=f"Each of at most {MAX_TEXT_BYTES:,} bytes, and not blank.")
    ]


class Score(BaseModel):
    """What the model says of one comment."""

    probability: Annotated[float, Field(description="Calibrated probability that it is toxic.")]
    label: Annotated[int, Field(description="1 from the threshold on, else 0.")]
    threshold: float
    kinds: Annotated[dict[str, float], Field(description="Probability of each further label of the model.")]


class Scores(BaseModel):
    """One result for each text, in their order."""

    results: list[Score]


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(prefix="/v1")

    @router.post("/score")
    async def score(request: Texts) -> Scores:
        """Score comments: the probability of toxicity of each, and of what kind it is."""
        main, *kinds = service.labels
        threshold = service.thresholds[main]
        scores = await service.batcher.score(request.texts)
        return Scores(
            results=[
                Score(
                    probability=row[0],
                    label=int(row[0] >= threshold),
                    threshold=threshold,
                    kinds=dict(zip(kinds, row[1:], strict=True)),
                )
                for row in scores.tolist()
            ]
        )

    @router.get("/model")
    async def model() -> dict[str, Any]:
        """The model that answers."""
        return service.described()

    return router
