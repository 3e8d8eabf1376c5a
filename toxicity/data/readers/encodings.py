"""Text in any encoding as a stream of UTF-8."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path

from toxicity.core.errors import RequestError
from toxicity.data.readers.base import printable_path
from toxicity.data.readers.packings import Opened, opened
from toxicity.data.text import text_or_none

# Byte order marks.
UTF_8_MARK = b"\xef\xbb\xbf"
# The longer ones first, as that of UTF-32 begins with that of UTF-16.
MARKS = {
    UTF_8_MARK: "utf-8",
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
READ_BYTES = 2**20
SAMPLE_BYTES = 2**22
# What people have that is not UTF-8; among all encodings that there are, some rare one would often fit better.
COMMON = [
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "cp949"),
]


def utf8_stream(source: Opened, path: Path, encoding: str | None) -> io.BufferedReader:
    """A file's text as UTF-8, without the byte order mark; where there is one, it tells the encoding.

    Bytes that are not in the encoding become bytes that are not UTF-8, so that only their row is unreadable.

    Args:
        source: the file, opened, at its beginning.
        path: for messages.
        encoding: a name that Python knows; UTF-8 by default.

    Raises:
        RequestError: for UTF-16 and UTF-32 without a byte order mark or a name.
    """
    mark = next((mark for mark in MARKS if source.first.startswith(mark)), b"")
    name = MARKS[mark] if mark else codecs.lookup(encoding or "utf-8").name.removesuffix("-sig")
    if not mark and not encoding and (wide := _wide_encoding(source.first)):
        raise RequestError(
            f"{printable_path(path)} is not UTF-8 but {wide}, and has no byte order mark: give --encoding {wide}."
        )
    if name in ("utf-16", "utf-32"):
        likely = _wide_encoding(source.first)
        remedy = f"give --encoding {likely}" if likely else f"if it is {name}, give --encoding {name}-le or {name}-be"
        raise RequestError(f"{printable_path(path)} does not begin with the byte order mark of {name}: {remedy}.")
    source.file.read(len(mark))
    return source.file if name == "utf-8" else io.BufferedReader(_Utf8(source.file, name), READ_BYTES)


def likely_encoding(path: Path) -> str | None:
    """The encoding that a file of text may have, going by its letters; None if there is no telling.

    Args:
        path: a file of text, plain or packed.
    """
    # Here, as most files are UTF-8 and need no guess.
    from charset_normalizer import from_bytes

    with opened(path) as source:
        sample = source.file.read(SAMPLE_BYTES)
    if b"\0" in sample:
        return None  # no file of text, or one of UTF-16, which has a byte order mark or a flag
    # The lines that say something about it; of megabytes of ASCII alone, the guess would take minutes.
    whole = sample if len(sample) < SAMPLE_BYTES else sample[: sample.rfind(b"\n") + 1]
    lines = [line for line in re.split(rb"[\r\n]+", whole) if not line.isascii()]
    if lines and None not in map(text_or_none, lines):
        return "utf-8"
    text = b"\n".join(lines)[: 2**15]
    found = from_bytes(text, cp_isolation=COMMON, preemptive_behaviour=False).best() if lines else None
    if found is None:
        # Single letters with accents among others are of Western Europe; other alphabets have whole words of them.
        words = re.findall(rb"[\x80-\xff]+", text)
        western = [word for word in words if len(word) == 1 and word >= b"\xc0"]
        return "cp1252" if words and len(western) >= 0.9 * len(words) else None
    # Several may stand for the same text; the commonest of them comes first.
    same = (found.encoding, *found.could_be_from_charset)
    return next((name for name in COMMON if name in same), None)


def with_likely_encoding(reason: str, file: str, encoding: str | None = None) -> str:
    """The reason why a row of a file is bad; if it is that it is not UTF-8, with the likely encoding of a local one.

    With `encoding` it is known as what the file was read.
    """
    if not reason.endswith("is not UTF-8"):
        return reason
    told = reason.removesuffix("UTF-8") + (encoding or "UTF-8")
    likely = likely_encoding(Path(file)) if Path(file).is_file() else None
    # The rows may be damaged far behind the beginning.
    if not likely or likely == (encoding or "utf-8"):
        return told
    return f"{told} but {likely}, it seems (--encoding {likely})"


def _wide_encoding(first: bytes) -> str | None:
    """UTF-16 or UTF-32 whose first line is of ASCII letters: of two or four bytes, all but one are NUL."""
    for name, width, place in (("utf-32-le", 4, 0), ("utf-32-be", 4, 3), ("utf-16-le", 2, 0), ("utf-16-be", 2, 1)):
        line = first[: len(first) // width * width].split("\n".encode(name))[0]
        letters = line[place::width]
        if len(letters) > 1 and not letters.count(0) and line.count(0) == len(line) - len(letters):
            return name
    return None


class _Utf8(io.RawIOBase):
    """Bytes of a file in another encoding, as UTF-8."""

    def __init__(self, file: io.BufferedReader, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(_NOT_IN_ENCODING)
        self._held, self._starts = b"", True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._held:
            block = self._file.read(READ_BYTES)
            text = self._decoder.decode(block, final=not block)
            if self._starts and text:
                text, self._starts = text.removeprefix("\ufeff"), False
            self._held = text.encode("utf-8", _NOT_IN_ENCODING)
            if not block:
                break
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def _keep_invalid(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes that cannot be decoded become halves of surrogates, and those become bytes that are not UTF-8."""
    if isinstance(error, UnicodeDecodeError):
        return "".join(chr(0xDC00 + max(byte, 0x80)) for byte in error.object[error.start : error.end]), error.end
    if isinstance(error, UnicodeEncodeError):
        return bytes(max(ord(letter) & 0xFF, 0x80) for letter in error.object[error.start : error.end]), error.end
    raise error


_NOT_IN_ENCODING = "toxicity.keep_invalid"
codecs.register_error(_NOT_IN_ENCODING, _keep_invalid)
