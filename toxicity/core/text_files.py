"""The layout of files of text as a user names it: what separates the columns, and the character encoding."""

from __future__ import annotations

import codecs
import difflib
from encodings.aliases import aliases

from toxicity.core.errors import RequestError

# What cannot be written, or hardly, on a command line.
NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t", "space": " "}


def delimiter_of(given: str) -> str:
    r"""The character that `--delimiter` names: itself, or one of `tab`, `\t` and `space`.

    Raises:
        RequestError: if it is not one character, or one that has another meaning in a CSV file.
    """
    delimiter = NAMED_DELIMITERS.get(given.casefold(), given)
    if len(delimiter) != 1 or delimiter in '"\r\n\0\ufeff':
        raise RequestError(f"--delimiter {given!r} is not one character between columns, such as `;`, or `tab`.")
    return delimiter


def encoding_of(given: str) -> str:
    """Python's name of the character encoding that `--encoding` names.

    Raises:
        RequestError: if Python knows no such encoding of text, naming the nearest one.
    """
    if _encodes_text(given):
        return codecs.lookup(given).name
    near = difflib.get_close_matches(given.casefold().replace("-", "_"), [*aliases, *aliases.values()], n=5)
    nearest = next(filter(_encodes_text, near), None)
    hint = f"; the nearest is {nearest}" if nearest else ""
    raise RequestError(
        f"--encoding {given!r} is no character encoding that Python knows{hint}; such as utf-8, utf-16 or cp1252."
    )


def _encodes_text(name: str) -> bool:
    try:
        "a".encode(name)  # unlike `lookup`, this refuses what encodes no text, such as base64
    except (LookupError, ValueError, TypeError):
        return False
    return True
