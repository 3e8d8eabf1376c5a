"""Headless Chromium that reaches this machine alone, and what the tests of the page do in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


class Visit:
    """A window with the page in it; `elsewhere` are the addresses on other machines that it asked for."""

    def __init__(self, browser: object, url: str, **options: object) -> None:
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        context = browser.new_context(**options)
        context.route("**/*", self._pass_if_here)
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)  # on the busiest machine, too
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.page.goto(url)
        self.page.wait_for_selector("#comment textarea")

    def _pass_if_here(self, route: object) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("data", "blob") or address.hostname == "127.0.0.1":
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def open(self, tab: str) -> None:
        """Go to a tab."""
        self.page.get_by_role("tab", name=tab).click()

    def score(self, text: str) -> str:
        """Score a comment, and return what is said of it."""
        self.page.fill("#comment textarea", text)
        self.page.click("#score")
        return self.shown(text)

    def shown(self, text: str) -> str:
        """What is said of a comment, once its words are there, which come last."""
        self.page.wait_for_function(
            "text => document.querySelector('#words .textfield')?.innerText.replace(/\\s/g, '') === text",
            arg="".join(text.split()),
        )
        return self.page.inner_text("#result .score")

    def refusal(self) -> str:
        """The message that pops up, which is closed."""
        toast = self.page.wait_for_selector(".toast-body")
        text = toast.inner_text()
        self.page.click(".toast-close")
        toast.wait_for_element_state("hidden")
        return text


@contextmanager
def chromium() -> Iterator[object]:
    """The browser, which `Visit` opens windows of."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
