"""The installed Chromium, driven by Playwright: a page opened as a reader does, what it asked for and complained of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass(slots=True)
class Seen:
    """A page and what was heard of it: addresses it asked for, messages on its console, errors of its scripts."""

    page: Any
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def texts(self, selector: str) -> list[str]:
        return [
            text.strip()
            for text in self.page.locator(selector).evaluate_all(
                "found => found.map(e => e.innerText ?? e.textContent)"
            )
        ]

    @property
    def fragment(self) -> str:
        return str(self.page.evaluate("location.hash"))

    def silent(self) -> bool:
        """Nothing left the page, nothing was complained of."""
        own = [r for r in self.requests if not r.startswith(("file://", "blob:", "data:"))]
        return not own and not self.console and not self.errors and len(self.requests) >= 1


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Any,
    path: Path,
    fragment: str = "",
    *,
    width: int = 1250,
    height: int = 700,
    scripts: bool = True,
    **more: Any,
) -> Iterator[Seen]:
    """The page at `path`, when its scripts have drawn all (at once where scripts are off)."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        java_script_enabled=scripts,
        accept_downloads=True,
        reduced_motion="reduce",
        **more,
    )
    seen = Seen(context.new_page())
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda message: seen.console.append(message.text))
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.goto(path.resolve().as_uri() + fragment)
    if scripts:
        seen.page.wait_for_selector("html[data-ready]", timeout=20_000)
    yield seen
    context.close()
