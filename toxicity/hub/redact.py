"""Remove local paths and tokens from what is published.

Configs of pretrained checkpoints carry keys of their own, so there is no list of harmless keys: every text is searched.
"""

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
# A Windows path of three or more names, deeper than any id on the Hub; LOCAL_PATH covers the one with slashes.
DEEP_PATH = re.compile(r"[\w.@+-]+(?:\\[\w.@+-]+){2,}")

# The same inside a longer text. Folder names may contain spaces; URLs are left alone.
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
# Keys of a tokenizer's config whose values may look like paths and are none.
KEPT_KEYS = re.compile(r".*_tokens?|added_tokens_decoder|chat_template")
# Keys of a model's config whose values are names of its labels, in the section of this package too.
LABEL_KEYS = ("id2label", "toxic_label")


def is_hub_id(name: str, is_local: bool | None = None) -> bool:
    """Whether a name can be that of a model or dataset on the Hub: valid as an id, and no local path.

    `is_local` tells whether it was a path on the machine of the run; None if unknown, to look on this machine.
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not (Path(name).exists() if is_local is None else is_local)


def public_name(name: str, is_local: bool | None = None) -> str:
    """Public name of a model or dataset: an id on the Hub (see `is_hub_id`) as it is, a local path by its last part."""
    return name if is_hub_id(name, is_local) else PureWindowsPath(name).name or name


def public_benchmark(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a benchmark with local paths cut to their last part.

    Names of labels are published as they are, as in a model's config: a part of a name would be another label.
    `protocol.model_is_local` and `protocol.dataset_is_local`, where present, decide whether a name such as
    `models/mine` is a path or an id on the Hub.
    """
    copy = _each_text(benchmark, _without_paths)
    if "labels" in benchmark.get("protocol", {}):
        copy["protocol"]["labels"] = benchmark["protocol"]["labels"]
    for key in ("model", "dataset"):
        if isinstance(copy.get("protocol", {}).get(key), str):
            is_local = benchmark["protocol"].get(f"{key}_is_local")
            copy["protocol"][key] = public_name(benchmark["protocol"][key], is_local)
    return copy


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a model's or tokenizer's config with local paths cut to their last part. Tokens and labels are kept."""
    kept = {key: item for key, item in config.items() if KEPT_KEYS.fullmatch(key)}
    return {key: kept.get(key, item) for key, item in _each_text(config, _without_paths).items()}


def redacted(text: str) -> str:
    """A text with access tokens of the Hub replaced by `…`, this machine's own and any other."""
    try:
        token = get_token()
    except Exception:  # a token may come from a remote store that fails
        token = None
    return TOKEN.sub("…", text.replace(token, "…") if token else text)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: item if key in LABEL_KEYS else _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    return value


def _without_paths(text: str) -> str:
    """A text with the local paths in it cut to their last part."""
    if ROOTED_PATH.fullmatch(text) or DEEP_PATH.fullmatch(text):
        return PureWindowsPath(text).name or text
    return LOCAL_PATH.sub(lambda path: path[0] if path["url"] else PureWindowsPath(path[0]).name, text)
