"""Chromium on the review page, for the browser test and the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--mute-audio",
]


def find_chromium() -> str | None:
    """Return a Chromium of this machine; THAWSLUMP_CHROMIUM names one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    given = os.environ.get("THAWSLUMP_CHROMIUM")
    return given or next((found for name in names if (found := shutil.which(name))), None)


@contextlib.contextmanager
def chromium(width: int = 1440, height: int = 900) -> Iterator[Any]:
    """Yield a page of a headless Chromium whose errors fail the caller."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(30_000)
            page.problems = []
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            yield page
        finally:
            browser.close()


class Server:
    """`thawslump review` as a process of its own, which can be killed and started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.address = ""

    def start(self) -> str:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "thawslump", "review", "--workspace", str(self.root),
             "--port", str(self.port), "--json"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["address"]
        # The same port again after a kill, as a user who repeats the command has it.
        self.port = int(self.address.rstrip("/").rsplit(":", 1)[1])
        return self.address

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.kill()


def begin(page: Any, address: str, reviewer: str = "Ada") -> None:
    """Open the page and say who reviews."""
    page.goto(address)
    page.wait_for_selector("dialog#who[open]")
    page.keyboard.type(reviewer)
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-painted]")


def press(page: Any, key: str) -> None:
    """Press a key that leads to another candidate, and wait until that one is painted."""
    before = page.evaluate("document.body.dataset.painted")
    page.keyboard.press(key)
    # A selector: the page's content policy forbids what is evaluated again and again.
    page.wait_for_selector(f"body:not([data-painted='{before}'])")


def waits(page: Any) -> list[float]:
    """Milliseconds from each key to the painted candidate, as the page itself measured them."""
    return page.evaluate(
        "performance.getEntriesByName('next-candidate').map(entry => entry.duration)"
    )
