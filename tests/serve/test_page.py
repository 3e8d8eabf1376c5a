"""The page as people use it, in a browser, against the service in a process of its own."""

import csv
import io
import socket
import threading

import httpx
import pytest
from browsing import CHROMIUM, Visit, chromium
from builders import make_comments
from serving import ServeRun

pytest.importorskip("playwright", reason="playwright is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

CIVIL, TOXIC = "thank you for the kind note", "you are a stupid liar"
CARD = "---\nlicense: mit\n---\n# A model\n\nTells.\n\n![roc](report/roc.png) ![x](http://192.0.2.1/x.png)\n"


@pytest.fixture(scope="module")
def proxy():
    """Connections that the service makes to other machines, counted."""
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                calls.append(connection.recv(1000))
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", calls


@pytest.fixture(scope="module")
def running(labels_dir, tmp_path_factory, proxy):
    (labels_dir / "README.md").write_text(CARD)
    names = ("http_proxy", "https_proxy", "all_proxy")
    proxies = dict.fromkeys([*names, *map(str.upper, names)], proxy[0])
    # A tiny model might be done with a table before the browser shows how far it is.
    slow, folder = ("slow_tables", 0.2), tmp_path_factory.mktemp("run")
    run = ServeRun(folder, "--model", labels_dir, fault=slow, **proxies, no_proxy="", NO_PROXY="")
    run.wait_for("Scoring comments at")
    yield run
    run.terminate()
    assert run.ended() == 0, run.errors
    (labels_dir / "README.md").unlink()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def visit(running, browser):
    """A window that all tests share, as loading the page takes longest."""
    return Visit(browser, running.url, accept_downloads=True)


@pytest.fixture(scope="module")
def scores(running):
    """What the API says of texts."""

    def ask(texts):
        answer = httpx.post(f"{running.url}/v1/score", json={"texts": texts}, trust_env=False)
        return answer.json()["results"]

    return ask


@pytest.fixture
def table(visit):
    """The tab of tables, with nothing in it."""
    visit.page.reload()
    visit.page.wait_for_selector("#comment textarea")
    visit.open("A table")
    return visit


def test_a_comment_is_scored_as_by_the_api(visit, scores):
    for text in (CIVIL, TOXIC):
        said, (result,) = visit.score(text), scores([text])
        assert said.startswith("Toxic" if result["label"] else "Civil")
        assert f"The score, {result['probability']:.3f}, is " in said
        assert f"the threshold of {result['threshold']:.3f}" in said
        meters = visit.page.get_by_role("meter").all()
        assert [meter.get_attribute("aria-valuenow") for meter in meters] == [
            f"{score:.3f}" for score in (result["probability"], *result["kinds"].values())
        ]
        assert meters[1].get_attribute("aria-label").startswith("insult: ")


def test_it_works_by_keys_alone(visit):
    visit.page.focus("#comment textarea")
    visit.page.keyboard.press("Control+A")
    visit.page.keyboard.type("what kind gardens")
    visit.page.keyboard.press("Shift+Enter")
    visit.shown("what kind gardens")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.id") == "score"
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    example = "Thank you for the careful answer, that cleared it up."
    visit.shown(example)
    assert visit.page.input_value("#comment textarea") == example


@pytest.mark.parametrize(
    ("text", "told"), [(" \n", "Type a comment first."), ("x" * 20_001, "has 20,001 characters; at most 20,000")]
)
def test_a_comment_that_cannot_be_scored(visit, text, told):
    visit.score(TOXIC)
    visit.page.fill("#comment textarea", text)
    visit.page.click("#score")
    assert told in visit.refusal()
    # What stood there belongs to another comment.
    visit.page.wait_for_selector("#words", state="hidden")
    assert visit.page.inner_text("#result") == "The score appears here."
    assert visit.page.locator("#words-told .score").count() == 0


def test_what_is_typed_is_no_markup(visit):
    visit.score('<img src="http://192.0.2.1/x" onerror="document.title=1"> you')
    assert visit.page.title() == "model: toxicity of comments"
    assert visit.page.locator("#words img, #words-told img").count() == 0


def test_a_table_goes_up_and_comes_down_with_scores(table, scores, tmp_path):
    texts = ["Schöne Grüße; und mehr", 'he said "kind"', "two\nlines", "=1+1, you liar", *_comments(70)]
    file = tmp_path / "comments.csv"
    with file.open("w", encoding="cp1252", newline="") as opened:
        csv.writer(opened, delimiter=";").writerows([("id", "Comment Text"), *enumerate(texts, 7)])
    table.page.set_input_files("#file input[type=file]", file)
    table.page.wait_for_function("document.querySelector('#column input').value === 'Comment Text'")
    rows, said = _scored(table)
    assert "Scored 74 comments: " in said
    assert "read as cp1252" in said
    assert [row["text"] for row in rows] == texts
    assert [int(row["id"]) for row in rows] == list(range(7, 81))
    expected = scores(texts)
    for row, result in zip(rows, expected, strict=True):
        assert float(row["score"]) == pytest.approx(result["probability"], abs=1e-6)
        assert int(row["label"]) == result["label"]
        assert float(row["threat"]) == pytest.approx(result["kinds"]["threat"], abs=1e-6)
    assert list(rows[0]) == ["id", "text", "score", "label", "insult", "insult_label", "threat", "threat_label"]
    table.page.wait_for_function("document.querySelector('#preview').innerText.includes('Schöne Grüße')")


def test_rows_can_be_pasted_and_their_column_chosen(table):
    table.page.fill("#pasted textarea", "a,b\nyou,thank you\nare,\nkind,liar")
    table.page.click("#score-table")
    assert "It is not clear which column has the comments; there are a, b." in table.refusal()
    table.page.click("#column input")
    table.page.get_by_role("option", name="b", exact=True).click()
    rows, said = _scored(table)
    assert "1 rows have no score, the first is row 2: the text is " in said
    assert [(row["id"], row["text"], row["score"] == "") for row in rows] == [
        ("0", "thank you", False),
        ("1", "", True),
        ("2", "liar", False),
    ]


def test_lines_without_a_header_can_be_pasted(table):
    table.page.fill("#pasted textarea", "thank you, kind liar\nyou are kind")
    table.page.get_by_label("every line is a comment").check()
    rows, said = _scored(table)
    assert "header" not in said
    assert [row["text"] for row in rows] == ["thank you, kind liar", "you are kind"]


def test_a_comment_that_is_taken_for_the_header_is_told(table):
    table.page.fill("#pasted textarea", "you <b>liar</b>\nthank you")
    rows, said = _scored(table)
    assert [row["text"] for row in rows] == ["thank you"]
    assert "The first line, you <b>liar</b>, was taken for the header" in said


def test_a_table_can_be_stopped(table):
    table.page.fill("#pasted textarea", "\n".join(["text", *_comments(2_000)]))
    table.page.click("#score-table")
    table.page.wait_for_selector("#status progress")
    asked = []
    table.page.on("request", lambda request: "/queue/join" in request.url and asked.append(request.url))
    table.page.click("#stop")
    table.page.wait_for_function("document.querySelector('#status').innerText.includes('Stopped.')")
    assert table.page.locator("#status progress").count() == 0
    assert not asked, "an answer of the service may come too late to be shown, or before the last progress"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "Choose a CSV file, or paste rows, first."),
        ('"text\nyou', "is not CSV: the quotes of its first row do not match"),
        ("<b>a</b>,b\nyou,me", "there are <b>a</b>, b."),
        ("text,text\nyou,me", "Choose the column of the comments|twice: rename or remove one"),
    ],
)
def test_a_table_that_cannot_be_scored(table, content, told):
    table.page.fill("#pasted textarea", content)
    table.page.click("#score-table")
    message = table.refusal()
    assert any(part in message for part in told.split("|")), message
    assert "/tmp" not in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"text\n" + b"you\n" * 5_001, "more than 5,000 rows: score it with python -m toxicity.predict"),
        (b"PK\3\4", "packed or binary"),
    ],
)
def test_a_file_that_cannot_be_scored(table, content, told, tmp_path):
    (tmp_path / "comments.csv").write_bytes(content)
    table.page.set_input_files("#file input[type=file]", tmp_path / "comments.csv")
    table.page.wait_for_selector("#file .file-preview, .toast-body")
    table.page.click("#score-table")
    message = table.refusal()
    assert told in message, message
    assert "/tmp" not in message
    assert table.page.is_disabled("#download")


def test_the_card_is_shown_without_pictures(visit):
    visit.page.reload()
    visit.open("The model")
    visit.page.wait_for_selector("#card h1")
    assert visit.page.inner_text("#card").split() == ["A", "model", "Tells."]
    assert visit.page.locator("#card img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen(running, browser, scheme):
    visit = Visit(browser, running.url, viewport={"width": 390, "height": 700}, color_scheme=scheme)
    visit.score(TOXIC)
    for tab in ("One comment", "A table"):
        visit.open(tab)
        assert visit.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), tab
    dark = visit.page.evaluate("document.body.classList.contains('dark')")
    assert dark == (scheme == "dark")
    assert (visit.elsewhere, visit.complaints) == ([], [])
    visit.page.context.close()


def test_nothing_left_the_machine_and_nothing_was_logged(visit, running, proxy):
    assert visit.elsewhere == []
    assert proxy[1] == []
    assert [line for line in visit.complaints if "Content Security Policy" in line] == []
    # Of how tables are laid out, the readers tell once; beside that, there is the line of the start.
    lines = [line for line in running.errors.splitlines() if "separated by" not in line and ".txt file" not in line]
    assert len(lines) == 1, running.errors
    assert running.output == ""


def _comments(count):
    return [text for text, _ in make_comments(count)]


def _scored(visit):
    """The rows of the downloaded table, and what is said of it."""
    visit.page.click("#score-table")
    visit.page.wait_for_function("document.querySelector('#status').innerText.includes(' toxic')")
    with visit.page.expect_download() as download:
        visit.page.click("#download")
    assert download.value.suggested_filename == "scores.csv"
    content = open(download.value.path(), encoding="utf-8", newline="").read()  # noqa: PTH123, SIM115
    return list(csv.DictReader(io.StringIO(content, newline=""))), visit.page.inner_text("#status")
