"""API keys: who may call."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from toxicity.core.errors import RequestError
from toxicity.serve.errors import ApiError

HEADERS = (b"x-goog-api-key", b"x-api-key")
# What orchestrators ask, which have no key.
FREE = ("/healthz", "/readyz")


class Keys:
    """The keys that are accepted. None of them is kept, only their digests, which are all of one length.

    Attributes:
        required: whether there are any; without them everybody may call.
    """

    def __init__(self, path: Path | None) -> None:
        """Read a file with a key a line; blank lines and those that begin with `#` are left out.

        Raises:
            RequestError: for a file that cannot be read, or holds no key.
        """
        self.required = path is not None
        self._digests = [_digest(key) for key in _keys_in(path)] if path else []

    def accept(self, key: str | None) -> bool:
        """Whether this is one of the keys. How long it takes does not tell which, nor how much of it is right."""
        given = _digest(key or "")
        # A sum, as `any` would stop at the first.
        return not self.required or sum(hmac.compare_digest(given, known) for known in self._digests) > 0


def _keys_in(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = "is no UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise RequestError(f"--api_keys {path} {reason}: name a text file with a key a line.") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise RequestError(f"--api_keys {path} holds no key: write one a line, such as from `openssl rand -hex 32`.")
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def with_keys(app: ASGIApp, keys: Keys) -> ASGIApp:
    """The same application, which refuses requests without a key that is accepted (403); `FREE` addresses need none.

    A key is given as `?key=`, in one of `HEADERS`, or as `Authorization: Bearer`.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in FREE and not any(map(keys.accept, [*_given(scope)])):
            raise ApiError(403, "API key not valid. Please pass a valid API key.")
        await app(scope, receive, send)

    return call if keys.required else app


def _given(scope: Scope) -> Iterator[str]:
    for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
        if name == "key":
            yield value
    for name, value in scope["headers"]:
        if name in HEADERS:
            yield value.decode("latin-1")
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            yield value[7:].strip().decode("latin-1")
