"""Refusals of the service, all in the JSON form of Google's APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


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
        error = {"code": self.code, "message": self.message, "status": STATUS[self.code]}
        return {"error": error | ({"details": list(self.details)} if self.details else {})}
