"""What the Hub requires of a model card's metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

LICENSES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-sa-3.0", "other", "unknown")


def card_errors(content: str, kind: str = "model") -> Iterator[str]:
    """What is wrong with the metadata, by the specification of cards (hub-docs, modelcard.md, spaces-config-reference).

    `kind` is `model` or `space`.
    """
    block = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", content, re.DOTALL)
    if not block:
        return  # a card without metadata is allowed
    try:
        metadata = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        yield f"the metadata are not YAML: {error}"
        return
    if not isinstance(metadata, dict):
        yield "the metadata are not a mapping"
        return
    if kind == "space":
        yield from _space_errors(metadata)
    if "license" in metadata and metadata["license"] not in LICENSES:
        yield f'"license" must be one of {LICENSES}'
    for key in ("base_model", "datasets", "models"):
        names = metadata.get(key, [])
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII):
                yield f'"{key}" with value "{name}" is not valid. Use an id of the Hub.'
    if not re.fullmatch(r"[a-z]{2,3}", str(metadata.get("language", "en"))):
        yield '"language" must be an ISO 639 code'
    for model in metadata.get("model-index", []):
        if not model.get("name") or not model.get("results"):
            yield '"model-index" needs a name and results'
        for result in model.get("results", []):
            if not result.get("task", {}).get("type"):
                yield '"model-index" result without a task type'
            if not all(result.get("dataset", {}).get(key) for key in ("type", "name")):
                yield '"model-index" result without type and name of its dataset'
            for metric in result.get("metrics", []) or [{}]:
                if not metric.get("type") or not isinstance(metric.get("value"), int | float | str):
                    yield '"model-index" metric without type and value'


def _space_errors(metadata: dict) -> Iterator[str]:
    if metadata.get("sdk") not in ("gradio", "docker", "static"):
        yield '"sdk" must be one of gradio, docker, static'
    if metadata.get("sdk") == "gradio" and not re.fullmatch(r"\d+\.\d+\.\d+", str(metadata.get("sdk_version"))):
        yield '"sdk_version" must be a version of gradio'
    if not re.fullmatch(r"\d\.\d+(\.\d+)?", str(metadata.get("python_version", "3.10"))):
        yield '"python_version" must be a version of Python'
    for key in ("title", "app_file"):
        if not isinstance(metadata.get(key), str):
            yield f'"{key}" must be a text'
