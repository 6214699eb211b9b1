"""A real Chromium without a window, driven by playwright; no test downloads one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 30
"""What opening a page or waiting for it may take."""

_IDLE = """() => window.Bokeh !== undefined && window.Bokeh.documents.length > 0
              && window.Bokeh.documents.every((one) => one.is_idle)"""
_CANVASES = """() => {
  const found = [];
  const walk = (root) => {
    for (const one of root.querySelectorAll("*")) {
      if (one.shadowRoot) walk(one.shadowRoot);
      if (!(one instanceof HTMLCanvasElement) || !one.width || !one.height) continue;
      const pixels = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
      const colours = new Set(new Uint32Array(pixels.buffer));
      found.push(colours.size);
    }
  };
  walk(document);
  return found;
}"""


def executable() -> str | None:
    """Return the browser of this machine: H5DASK_CHROMIUM, or the first one on PATH."""
    return os.environ.get("H5DASK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def page(
    *,
    reaches: tuple[str, ...] = ("file:",),
    width: int = 1280,
    height: int = 900,
    colours: Literal["light", "dark"] = "light",
) -> Iterator[Page]:
    """Open an empty page; at the end, fail with all that went wrong on it.

    That is a console error, an exception nobody caught, a crash, and a request whose URL starts
    with none of `reaches`, which is refused: `("http://127.0.0.1", "ws://127.0.0.1")` for a
    server of this machine. Waiting for anything ends after `SECONDS`.
    """
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []

    def judge(route: Route) -> None:
        url = route.request.url
        if url.startswith((*reaches, "data:", "blob:")):
            route.continue_()
        else:
            wrong.append(f"asked for {url}")
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), timeout=SECONDS * 1000)
        try:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=colours
            )
            opened = context.new_page()
            opened.set_default_timeout(SECONDS * 1000)
            opened.on("console", lambda told: told.type == "error" and wrong.append(told.text))
            opened.on("pageerror", lambda error: wrong.append(str(error)))
            opened.on("crash", lambda _: wrong.append("the page crashed"))
            opened.on("websocket", _stranger(reaches, wrong))
            opened.route("**/*", judge)
            yield opened
        finally:
            browser.close()
    assert not wrong, wrong


def _stranger(reaches: tuple[str, ...], wrong: list[str]) -> Callable[..., None]:
    def judge(socket: object) -> None:
        url = str(getattr(socket, "url", ""))
        if not url.startswith(reaches):
            wrong.append(f"asked for {url}")

    return judge


def wait_for_plots(opened: Page) -> None:
    """Wait until Bokeh has drawn all that its documents hold."""
    opened.wait_for_function(_IDLE)


def colours_drawn(opened: Page) -> list[int]:
    """Return how many colours each canvas of the page shows, those in shadow trees too."""
    found: list[int] = opened.evaluate(_CANVASES)
    return found
