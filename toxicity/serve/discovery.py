"""The discovery document, from which Google's client libraries build their methods."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from toxicity.serve.errors import ApiError
from toxicity.serve.messages import (
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
)

NAME, VERSION = "commentanalyzer", "v1alpha1"
# Of all methods.
_PARAMETERS = {
    "alt": {"type": "string", "location": "query", "description": "Form of the answer.", "enum": ["json"]},
    "key": {"type": "string", "location": "query", "description": "API key, where the service asks for one."},
    "prettyPrint": {"type": "boolean", "location": "query", "description": "Accepted, and makes no difference."},
    "quotaUser": {"type": "string", "location": "query", "description": "Accepted, and makes no difference."},
}
# What a schema of a discovery document keeps of one of JSON Schema.
_KEPT = ("type", "description", "enum")


def routes() -> APIRouter:
    """The document, at both addresses where Google serves that of an API."""
    router = APIRouter()

    @router.get(f"/discovery/v1/apis/{NAME}/{VERSION}/rest")
    async def directory(request: Request) -> dict[str, Any]:
        """Describe the calls of Perspective to Google's client libraries."""
        return document(str(request.base_url))

    @router.get("/$discovery/rest")
    async def own(request: Request, version: str = VERSION) -> dict[str, Any]:
        """The same, where the API itself had it."""
        if version != VERSION:
            raise ApiError(404, f"There is no other version than {VERSION}.")
        return document(str(request.base_url))

    return router


def document(root_url: str) -> dict[str, Any]:
    """The discovery document of a service at an address, which ends on a slash."""
    methods = {
        "analyze": _method("analyze", AnalyzeCommentRequest, AnalyzeCommentResponse, "Scores a comment."),
        "suggestscore": _method(
            "suggestscore",
            SuggestCommentScoreRequest,
            SuggestCommentScoreResponse,
            "Keeps the scores that a comment should have.",
        ),
    }
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"{NAME}:{VERSION}",
        "name": NAME,
        "version": VERSION,
        "title": "Scores of comments",
        "description": "Answers the calls of the Perspective API with the scores of a model of one's own.",
        "protocol": "rest",
        "rootUrl": root_url,
        "baseUrl": root_url,
        "servicePath": "",
        "basePath": "",
        "parameters": _PARAMETERS,
        "schemas": _SCHEMAS,
        "resources": {"comments": {"methods": methods}},
    }


def _method(name: str, request: type[BaseModel], response: type[BaseModel], description: str) -> dict[str, Any]:
    path = f"{VERSION}/comments:{name}"
    return {
        "id": f"{NAME}.comments.{name}",
        "path": path,
        "flatPath": path,
        "httpMethod": "POST",
        "description": description,
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": request.__name__},
        "response": {"$ref": response.__name__},
    }


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    """The schemas of models and of all that they hold, each under its name."""
    found: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="{model}")
        found |= {name: {"id": name} | _schema(part) for name, part in schema.pop("$defs", {}).items()}
        found[model.__name__] = {"id": model.__name__} | _schema(schema)
    return found


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of JSON Schema as one of a discovery document, where nothing need be null."""
    if choices := schema.get("anyOf"):
        described = {"description": schema["description"]} if "description" in schema else {}
        return _schema(next(choice for choice in choices if choice.get("type") != "null")) | described
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    kept = {key: schema[key] for key in _KEPT if key in schema}
    if schema["type"] in ("number", "integer"):
        kept["format"] = "double" if schema["type"] == "number" else "int32"
    for key in ("items", "additionalProperties"):
        if key in schema:
            kept[key] = _schema(schema[key])
    if "properties" in schema:
        kept["properties"] = {name: _schema(part) for name, part in schema["properties"].items()}
    return kept


_SCHEMAS = _schemas(
    AnalyzeCommentRequest, AnalyzeCommentResponse, SuggestCommentScoreRequest, SuggestCommentScoreResponse
)
