"""MLflow's pages of a study, served by `tune-vae ui`, and a Chromium to look at them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import free_port

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

__all__ = ["COMMAND", "WAIT_MS", "browser", "browser_program", "drawn", "see", "served"]

COMMAND = Path(sys.executable).with_name("tune-vae")
NAMES = ("chromium", "chromium-browser", "google-chrome")
ASSISTANT = "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"
WAIT_MS = 120_000
"""Pages need more than ten seconds on two busy cores."""


def browser_program() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def served(study: Path) -> Iterator[str]:
    """The link that `tune-vae ui` prints once its page answers; it runs meanwhile."""
    ui = subprocess.Popen(
        [COMMAND, "ui", str(study), "--port", str(free_port())],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "500", "PYTHONUNBUFFERED": "1"},
    )
    assert ui.stdout is not None
    try:
        yield _link(ui.stdout)
    finally:
        ui.terminate()
        ui.wait(60)
        ui.stdout.close()


def _link(lines: Iterable[str]) -> str:
    said = []
    for line in lines:
        said.append(line)
        if found := re.search(r"http\S+", line):
            return found[0]
    raise AssertionError("".join(said) or "it ended without a word")


@contextmanager
def browser(width: int, height: int) -> Iterator["BrowserContext"]:
    """One window for all pages, which then load MLflow's programs once."""
    from playwright.sync_api import sync_playwright

    # A container has no sandbox, and little shared memory.
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser_program(), args=options)
        window = started.new_context(viewport={"width": width, "height": height})
        window.set_default_timeout(WAIT_MS)
        # As for a person who has closed the panel that MLflow opens the first time.
        window.add_init_script(f"localStorage.setItem('{ASSISTANT}', 'true')")
        yield window


def see(page: "Page", *texts: str) -> None:
    """Wait until the page shows each of these texts."""
    for text in texts:
        page.get_by_text(text).first.wait_for()


def drawn(page: "Page", key: str, step: int) -> None:
    """Wait until a drawing of a step is there, and has pixels."""
    page.wait_for_function(
        """mark => [...document.images].some(
            one => decodeURIComponent(one.src).includes(mark) && one.naturalWidth > 100)""",
        arg=f"drawn~{key}+step+{step}+",
    )
