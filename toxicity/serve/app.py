"""The application: its routes, and what stands before them."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from toxicity.serve import moderations, perspective, scores
from toxicity.serve.errors import ApiError
from toxicity.serve.service import Service


def create_app(service: Service) -> FastAPI:
    """The application that answers for `service`."""
    app = FastAPI(title="Toxicity of comments")

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.to_json(), error.code, error.headers)

    app.include_router(scores.routes(service))
    app.include_router(moderations.routes(service))
    app.include_router(perspective.routes(service))
    return app
