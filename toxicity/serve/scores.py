"""The API of our own: `POST /v1/score` and `GET /v1/model`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from toxicity.serve.service import Service


class Texts(BaseModel):
    """Comments to score."""

    texts: list[str]


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(prefix="/v1")

    @router.post("/score")
    async def score(request: Texts) -> dict[str, Any]:
        """Score comments: the probability of toxicity of each, and of what kind it is."""
        main, *kinds = service.labels
        scores = await service.batcher.score(request.texts)
        return {
            "results": [
                {
                    "probability": row[0],
                    "label": int(row[0] >= service.thresholds[main]),
                    "threshold": service.thresholds[main],
                    "kinds": dict(zip(kinds, row[1:], strict=True)),
                }
                for row in scores.tolist()
            ]
        }

    @router.get("/model")
    async def model() -> dict[str, Any]:
        """The model that answers."""
        return service.described()

    return router
