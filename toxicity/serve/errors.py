"""Refusals of the service, all in the JSON form of Google's APIs."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxicity.core.errors import RequestError

# HTTP status → its name in google.rpc.Code.
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# What starlette has no sentence for.
MESSAGES = {
    404: "There is no such address. Those there are: /openapi.json",
    405: "This address does not take this method.",
}
SHOWN_VIOLATIONS = 10
SHOWN_CHARACTERS = 100

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that is refused. The message is for its sender, and never holds what somebody wrote in a comment.

    Args:
        code: HTTP status.
        message: a sentence.
        details: of Google's form, each with its `@type`.
        headers: of the answer, such as `Retry-After`.
    """

    def __init__(
        self, code: int, message: str, *details: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.details, self.headers = code, message, details, dict(headers or {})

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        status = STATUS.get(self.code, "INVALID_ARGUMENT" if self.code < 500 else "INTERNAL")
        error = {"code": self.code, "message": self.message, "status": status}
        return {"error": error | ({"details": list(self.details)} if self.details else {})}


class ErrorStatus(BaseModel):
    """What was wrong."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]] = []


class ErrorAnswer(BaseModel):
    """A refusal, for the OpenAPI document."""

    error: ErrorStatus


def answer_in_one_form(app: FastAPI) -> None:
    """Make the refusals of the framework answer in the form of `ApiError`."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        message = MESSAGES.get(error.status_code, str(error.detail))
        return response_of(ApiError(error.status_code, message, headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return response_of(invalid_values(error))


def invalid_values(error: RequestValidationError) -> ApiError:
    """The refusal of a request that is not of the documented form: which fields, and what they should be."""
    violations = [
        # Names of fields may be those of a map, which the client chose.
        {"field": ".".join(map(str, found["loc"][1:]))[:SHOWN_CHARACTERS] or "body", "description": found["msg"]}
        for found in error.errors()[:SHOWN_VIOLATIONS]
    ]
    first = violations[0]
    return ApiError(
        400,
        f"Invalid value at `{first['field']}`: {first['description']}.",
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations},
    )


def response_of(error: ApiError) -> JSONResponse:
    """The answer that tells the client of it."""
    return JSONResponse(error.to_json(), error.code, error.headers)


def with_refusals(app: ASGIApp) -> ASGIApp:
    """The same application, which answers where `app` raises: `ApiError` as it is, all else with 500 and a log line.

    The line says what was raised and where. An exception's message may quote what a user wrote, so it is not logged.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, note_start)
        except ApiError as refusal:
            error = refusal
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failure:  # a panic of code in Rust is no Exception, and its message quotes texts
            logger.error(f"A request failed: {_told(failure)}")
            error = ApiError(500, "The service failed at this request. Its log says where.")
        else:
            return None
        # An answer that has begun is cut off by the server when this returns.
        return None if started else await response_of(error)(scope, receive, send)

    return call


def log_failed_task(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Log what failed in the event loop outside of a request, in the same words; to be its exception handler."""
    error = context.get("exception")
    logger.error(f"The server failed outside of a request: {_told(error) if error else 'it was not told where'}")


def _told(error: BaseException) -> str:
    """An exception in words that are all of the programs' and none of their users'."""
    if isinstance(error, RequestError):  # of the package itself, which names the fix and quotes no comment
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = ", ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-3:])
    cause = error.__cause__ or error.__context__
    return f"{type(error).__name__} at {where}" + (f", after {_told(cause)}" if cause else "")
