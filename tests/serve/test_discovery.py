"""The discovery document."""

import json

import pytest
from serving import error_of

from toxicity.serve import messages
from toxicity.serve.discovery import document

DIRECTORY, OWN = "/discovery/v1/apis/commentanalyzer/v1alpha1/rest", "/$discovery/rest"


@pytest.mark.parametrize("address", [DIRECTORY, OWN, f"{OWN}?version=v1alpha1"])
def test_the_calls_go_where_the_document_came_from(client, address):
    answer = client.get(address, headers={"Host": "scores.example.org:8443", "X-Forwarded-Host": "elsewhere.example"})
    assert answer.json() == document("http://scores.example.org:8443/")


@pytest.mark.parametrize("host", ["[", "a b", "é", "a/b?c#d", "", "a:b:c", "\x7f"])
def test_an_address_that_is_none(client, host):
    assert client.get(DIRECTORY, headers={"Host": host.encode()}).status_code == 200


def test_there_is_one_version(client):
    error_of(client.get("/$discovery/rest?version=v1"), 404, "NOT_FOUND")


def test_methods_are_built_and_described():
    build = pytest.importorskip("googleapiclient.discovery").build_from_document
    service = build(json.dumps(document("http://127.0.0.1:1/")), developerKey="k")
    request = service.comments().analyze(body={"comment": {"text": "a"}}, prettyPrint=True)
    assert request.uri == "http://127.0.0.1:1/v1alpha1/comments:analyze?prettyPrint=true&key=k&alt=json"
    request = service.comments().suggestscore(body={})
    assert request.uri.startswith("http://127.0.0.1:1/v1alpha1/comments:suggestscore?")
    assert '"requestedAttributes"' in service.comments().analyze.__doc__


def test_schemas_are_those_of_the_messages():
    schemas = pytest.importorskip("googleapiclient.schema").Schemas(document("http://localhost/"))
    classes = {name: part for name, part in vars(messages).items() if isinstance(part, type)}
    names = {name for name, part in classes.items() if part.__module__ == messages.__name__} - {"Message", "Comment"}
    assert {*document("")["schemas"]} == names
    for name in names:
        assert schemas.prettyPrintByName(name)
    request = schemas.get("AnalyzeCommentRequest")["properties"]
    assert request["comment"]["$ref"] == "TextEntry"
    assert request["languages"] == {
        "type": "array",
        "items": {"type": "string"},
        "description": "ISO 639-1 or BCP 47 codes.",
    }
    assert request["requestedAttributes"]["additionalProperties"] == {"$ref": "AttributeParameters"}
    assert request["spanAnnotations"]["type"] == "boolean"
    assert schemas.get("TextEntry")["properties"]["type"]["enum"] == ["TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT", "HTML"]
    span = schemas.get("SpanScore")["properties"]
    assert (span["begin"]["format"], span["score"]) == ("int32", {"$ref": "Score"})
    assert schemas.get("Score")["properties"]["value"]["format"] == "double"
    assert "anyOf" not in json.dumps(document(""))


def test_it_has_what_clients_look_for():
    shown = document("http://localhost/")
    assert {"kind", "id", "name", "version", "rootUrl", "servicePath", "protocol", "schemas"} <= shown.keys()
    for name, method in shown["resources"]["comments"]["methods"].items():
        assert method["id"] == f"commentanalyzer.comments.{name}"
        assert {method["request"]["$ref"], method["response"]["$ref"]} <= shown["schemas"].keys()
    assert {"key", "alt", "prettyPrint"} <= shown["parameters"].keys()
    assert all(part["location"] == "query" and part["description"] for part in shown["parameters"].values())
