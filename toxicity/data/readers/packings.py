"""Files as streams of bytes, unpacked; what a file is, its first bytes say, whatever its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import pyarrow as pa

from toxicity.core.errors import RequestError
from toxicity.data.folders import is_skipped
from toxicity.data.readers.base import printable_path
from toxicity.data.readers.names import is_readable, without_packing

FIRST_BYTES = 512

# The first bytes of a packed file → what opens it, as Python's file or as Arrow's; a zip file holds files.
PYTHON_OPENS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    rb"\x1f\x8b": gzip.open,
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": bz2.open,
    rb"\xfd7zXZ\0": lzma.open,
}
ZSTD = rb"\x28\xb5\x2f\xfd"
ZIP = rb"PK(\x03\x04|\x05\x06|\x07\x08)"

# What no reader reads: the first bytes, what the file is, and what to do.
OTHERS = [
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word document", "save it as CSV"),
    (rb"%PDF-", "a PDF", "give the data that it was made from"),
    (rb"SQLite format 3\0", "an SQLite database", "export its table as CSV"),
    (rb"version https://git-lfs", "a Git LFS pointer and not the data", "fetch them with `git lfs pull`"),
    (rb"FEA1\0", "a Feather file of version 1", "write it again as version 2 or as parquet"),
    (rb"\x80[\x02-\x05]", "a pickle, which could run a program", "save the data as parquet or CSV"),
    (rb"\x93NUMPY", "a NumPy array", "save the data as parquet or CSV"),
    (rb"\x89HDF\r\n", "an HDF5 file", "save the data as parquet or CSV"),
    (rb"(RD[AX][23]\n)?[XAB]\n\0", "a file of R's own", "write it with write.csv"),
    (rb"Obj\x01|ORC[^ -~\s]", "an Avro or ORC file", "save the data as parquet or CSV"),
    (rb"\x7fELF|MZ.{0,64}\0|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe", "a program", "name the data"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a", "a picture", "name the data"),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", "a 7z or RAR archive", "unpack it"),
    (rb".{257}ustar", "a tar archive", "unpack it and name the folder"),
    (
        rb"(?i:(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--))",
        "a web page, perhaps a login",
        "fetch the data again",
    ),
]


class Opened(NamedTuple):
    """A file that can be read from its beginning on, unpacked."""

    file: io.BufferedReader
    first: bytes  # its first bytes, `FIRST_BYTES` of them if there are as many
    name: str  # in lower case and without the ending of a packing; that of the file in an archive
    packed: bool
    share: Callable[[], float]  # returns the fraction of the file on disk that has been read so far


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file, plain or packed with gzip, bzip2, xz, zstd or zip.

    Raises:
        RequestError: for what cannot be a table of comments, saying what it is; for a zip file of several data files.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        size, position = os.fstat(raw.fileno()).st_size, raw.tell
        first, name = raw.peek(FIRST_BYTES)[:FIRST_BYTES], path.name
        unpack = next((unpack for magic, unpack in PYTHON_OPENS.items() if re.match(magic, first)), None)
        if unpack is not None:
            packed = stack.enter_context(unpack(raw))
        elif re.match(ZSTD, first):
            # By its path, as Arrow should hold no Python file: its threads might drop it while the interpreter exits.
            native = stack.enter_context(pa.OSFile(os.fsencode(path)))
            position = native.tell
            packed = stack.enter_context(pa.CompressedInputStream(native, "zstd"))
        elif re.match(ZIP, first):
            archive = stack.enter_context(zipfile.ZipFile(raw))
            member = _data_file(archive, path)
            name = PurePosixPath(member).name
            packed = stack.enter_context(archive.open(member))
        else:
            packed = None
        file = raw if packed is None else stack.enter_context(io.BufferedReader(packed, 2**16))

        def share() -> float:
            return 1.0 if file.closed or not size else min(1.0, position() / size)

        if packed is not None:
            first, name = file.peek(FIRST_BYTES)[:FIRST_BYTES], without_packing(name)
            if any(re.match(magic, first) for magic in (*PYTHON_OPENS, ZSTD, ZIP)):
                raise RequestError(f"{printable_path(path)} is packed twice: unpack it once.")
        for pattern, kind, remedy in OTHERS:
            if re.match(pattern, first, re.DOTALL):
                raise RequestError(f"{printable_path(path)} is {kind}: {remedy}.")
        yield Opened(file, first, name.lower(), packed is not None, share)


def _data_file(archive: zipfile.ZipFile, path: Path) -> str:
    """The name of the only data file in an archive."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    for pattern, kind, remedy in (
        (r"xl/", "an Excel workbook", "save it as CSV"),
        (r"word/|content\.xml$", "an office document", "save its table as CSV"),
        (r"(.*/)?data\.pkl$", "a file of PyTorch, which could run a program", "save the data as parquet or CSV"),
        (r".*\.npy$", "an archive of NumPy arrays", "save the data as parquet or CSV"),
    ):
        if any(re.match(pattern, name) for name in names):
            raise RequestError(f"{printable_path(path)} is {kind}: {remedy}.")
    visible = [name for name in names if not is_skipped(name.replace("\\", "/"))]
    data = [name for name in visible if is_readable(name, in_folder=True)] or visible
    if len(data) != 1:
        found = ", ".join(map(printable_path, data[:5])) or "none"
        more = ", …" if len(data) > 5 else ""
        raise RequestError(f"{printable_path(path)} should hold one data file; it holds {found}{more}: unpack it.")
    return data[0]
