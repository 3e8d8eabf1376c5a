"""API keys: where they may stand, and who is let in."""

import pytest
from serving import TEXTS, client_of, error_of, service_of

from toxicity.core.errors import RequestError
from toxicity.serve.keys import Keys

KEY = "a-long-key"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"# of the forum\n\n{KEY}\n  zweiter-schlüssel \n", encoding="utf-8")
    return path


@pytest.mark.parametrize("content", [b"\xef\xbb\xbffirst\r\nsecond \t\r\n", b"\n\nsecond\n# third\n  first"])
def test_a_key_file_may_be_of_any_editor(tmp_path, content):
    path = tmp_path / "keys.txt"
    path.write_bytes(content)
    keys = Keys(path)
    assert [keys.accept(key) for key in ("first", "second", "third", "", None)] == [True, True, False, False, False]


@pytest.fixture
def guarded(scorer, key_file):
    with client_of(service_of(scorer, api_keys=key_file)) as client:
        yield client


GIVEN = [
    {"params": {"key": KEY}},
    {"headers": {"x-api-key": KEY}},
    {"headers": {"X-Goog-Api-Key": KEY}},
    {"headers": {"Authorization": f"Bearer {KEY}"}},
    {"headers": {"Authorization": f"bearer {KEY}", "x-api-key": "another"}},
]


@pytest.mark.parametrize("given", GIVEN)
def test_a_key_is_taken_wherever_clients_put_it(guarded, given):
    assert guarded.post("/v1/score", json={"texts": TEXTS}, **given).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"params": {"key": ""}},
        {"params": {"key": KEY[:-1]}},
        {"params": {"apikey": KEY}},
        {"params": {"key": "# of the forum"}},
        {"headers": {"Authorization": f"Basic {KEY}"}},
        {"headers": {"x-api-key": "\udcff".encode("utf-8", "surrogateescape")}},
    ],
)
@pytest.mark.parametrize("address", ["/v1/model", "/metrics", "/openapi.json", "/nowhere"])
def test_without_a_key_nothing_is_told(guarded, address, given):
    error = error_of(guarded.get(address, **given), 403, "PERMISSION_DENIED")
    assert error["message"] == "API key not valid. Please pass a valid API key."


def test_health_needs_no_key(guarded):
    assert [guarded.get(address).status_code for address in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.parametrize(
    ("key", "accepted"), [(KEY, True), ("zweiter-schlüssel", True), ("", False), (None, False), ("\udcff", False)]
)
def test_keys_of_the_file_are_accepted(key_file, key, accepted):
    assert Keys(key_file).accept(key) is accepted
    assert Keys(None).accept(key)


def test_a_key_that_is_not_ascii_comes_in_the_address(guarded):
    assert guarded.get("/v1/model", params={"key": "zweiter-schlüssel"}).status_code == 200


@pytest.mark.parametrize(("text", "message"), [(b"# none\n \n", "holds no key"), (b"\xff\n", "is no UTF-8")])
def test_files_without_keys_are_refused(tmp_path, text, message):
    (tmp_path / "keys.txt").write_bytes(text)
    with pytest.raises(RequestError, match=message):
        Keys(tmp_path / "keys.txt")
    with pytest.raises(RequestError, match="cannot be read"):
        Keys(tmp_path)
