"""What may be told in public of a run: no path of this machine, no token."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from huggingface_hub import get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

# A text that is a path from one of its beginnings: /, //, \\, ~, ., .. or a drive.
ROOTED_PATH = re.compile(r"(?:file:)?(?:/|\\\\|(?:~[\w.-]*|\.{1,2}|[A-Za-z]:)[/\\]).*", re.DOTALL)
# One that is three or more names deep, as no id on the Hub is, in the way of Windows; LOCAL_PATH knows the other way.
DEEP_PATH = re.compile(r"[\w.@+-]+(?:\\[\w.@+-]+){2,}")

# The same within a text, where folders may have spaces in their names, and URLs are passed over.
_NAME = r"[^\s/\\\"'`|<>:,;()]+"
_NAMES = rf"(?:[/\\]+(?:{_NAME}(?:[ ](?![.~]){_NAME}){{0,4}}(?=[/\\])|{_NAME}))"
LOCAL_PATH = re.compile(
    rf"""
    (?P<url>\b(?!file:)[A-Za-z][\w+.-]+://[^/\s]\S*)
    | (?<![\w./\\~-]) (?:file:)?
      (?:
        (?:~(?:[A-Za-z_][\w.-]*)?|\.{{1,2}}|[A-Za-z]:) {_NAMES}+   # from home, from here, from a drive
        | (?=/|\\\\) {_NAMES}{{2,}}                                # from a root: one name alone may be a unit
        | [\w.@+-]+ (?:/{_NAME}){{2,}}                             # three names deep
      )
      [/\\]*
    """,
    re.VERBOSE,
)
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
# Keys of a tokenizer's config.
AS_IT_IS = re.compile(r".*_tokens?|added_tokens_decoder|chat_template")


def is_hub_id(name: str) -> bool:
    """Whether a model or dataset is one of the Hub, as far as its name and this disk tell."""
    return _may_be_hub_id(name) and not Path(name).exists()


def public_name(name: str, is_local: bool | None = None) -> str:
    """What a model or dataset is called in public: an id on the Hub as it is, a local path by its last part.

    Args:
        name: as it was asked for.
        is_local: whether it was on the disk of the run; None where that is not known and this disk is to tell.
    """
    if is_hub_id(name) if is_local is None else not is_local and _may_be_hub_id(name):
        return name
    return PureWindowsPath(name).name or name


def public_benchmark(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of what `benchmark.json` holds, with local paths cut down to their last part.

    `protocol.model_is_local` and `protocol.dataset_is_local`, where it has them, say whether the one or the other was
    on the disk of the run: `models/mine` could be an id as well.
    """
    copy = _each_text(benchmark, _without_paths)
    for key in ("model", "dataset"):
        if isinstance(copy.get("protocol", {}).get(key), str):
            is_local = benchmark["protocol"].get(f"{key}_is_local")
            copy["protocol"][key] = public_name(benchmark["protocol"][key], is_local)
    return copy


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a model's or tokenizer's config with local paths cut down to their last part.

    A pretrained checkpoint may bring keys of its own. Tokens and what is made of them may look like paths, and stay.
    """
    return {key: item if AS_IT_IS.fullmatch(key) else _each_text(item, _without_paths) for key, item in config.items()}


def redacted(text: str) -> str:
    """A text without tokens of the Hub, this machine's and others."""
    try:
        token = get_token()
    except Exception:  # it may be fetched from elsewhere, which is what went wrong then
        token = None
    return TOKEN.sub("…", text.replace(token, "…") if token else text)


def _may_be_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    return value


def _without_paths(text: str) -> str:
    """A text with local paths, those within it and itself if it is one, cut down to their last part."""
    if ROOTED_PATH.fullmatch(text) or DEEP_PATH.fullmatch(text):
        return PureWindowsPath(text).name or text
    return LOCAL_PATH.sub(lambda path: path[0] if path["url"] else PureWindowsPath(path[0]).name, text)
