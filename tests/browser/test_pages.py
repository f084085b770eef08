"""Pages in a real browser: they open from disk, show their figures, ask nothing of anyone, fit a phone, and print.

Wants Chromium and playwright (BROWSER=1 bash run/setup.sh, as run/test.sh --all does).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from maps import write_map
from pages import read_page
from studies import write_study

from hpcseg.mpi import Pulse
from hpcseg.products.page import write_run_page
from hpcseg.scaling.page import write_study_page

pytestmark = pytest.mark.long
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: BROWSER=1 bash run/setup.sh")
CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
# A4 without its margins, at the 96 dots per inch of style sheets.
PAPER = {"width": 688, "height": 1000}


@dataclass
class Seen:
    """What a browser made of a page."""

    tab: object
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """The system's Chromium, else playwright's own."""
    with playwright.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: BROWSER=1 bash run/setup.sh ({error})")
        yield found
        found.close()


@pytest.fixture(scope="module")
def study_page(tmp_path_factory) -> Path:
    """A study of everything: more points and wider tables than most have."""
    folder = write_study(tmp_path_factory.mktemp("study"), (1, 2, 4), 3, tiles=(256, 512, 1024))
    return write_study_page(folder)[0]


@pytest.fixture(scope="module")
def run_page(tmp_path_factory, alone) -> Path:
    """A run with long names, failures and a thousand ranks."""
    folder = tmp_path_factory.mktemp("run")
    made = {"model": "sea-ice", "versions": json.dumps({"hpcseg": "0.1.0"})}
    for k in range(7):
        name = f"S1A_IW_GRDH_1SDV_20240101T000000_20240101T000025_{k:06d}_SOME_LONG_NAME"
        write_map(folder / f"{name}.h5", (np.arange(120_000).reshape(300, 400) // 977 % 2).astype(np.uint8), **made)
    ranks = [
        {"rank": k, "host": "node", "tiles": 3, "empty": 0, "mapped_px": 10**6, "mapped_m2": 0.0, "failed": [], "peak_memory_mb": 300.0,
         "seconds": {"read": 1.0, "forward": 4.0, "write": 0.1, "wait": 0.2, "wall": 5.0},
         "timeline": [{"begin": 1.0, "width": 0.1, "busy": {"read": "20 " * 50, "forward": "80 " * 50}}]} for k in range(1000)
    ]  # fmt: skip
    refused = [[f"scene_{k}", "/a/very/long/path/without/any/blank/" * 5 + ": no such file"] for k in range(30)]
    (folder / "run.json").write_text(json.dumps({"ranks": ranks, "refused": refused, "scenes": 7, "wall": 9.0}))
    with Pulse(alone, 600, Event()) as pulse:
        return write_run_page(alone, pulse, folder)


@pytest.fixture(params=["study_page", "run_page"])
def path(request) -> Path:
    """Each page in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def visit(browser) -> Iterator[object]:
    """visit(path, size) opens a page from disk, in a window of that size, with no network."""
    contexts = []

    def go(path: Path, size: dict[str, int] = DESK) -> Seen:
        contexts.append(browser.new_context(viewport=size, offline=True))
        seen = Seen(contexts[-1].new_page())
        seen.tab.on("console", lambda line: seen.said.append(line.text))
        seen.tab.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.tab.on("request", lambda request: seen.asked.append(request.url))
        seen.tab.goto(path.as_uri())
        seen.tab.wait_for_load_state("load")
        return seen

    yield go
    for each in contexts:
        each.close()


def test_it_opens_from_disk_and_shows_all_its_figures(visit, path):
    shown = visit(path).tab.evaluate("[...document.images].map(each => each.complete && each.naturalWidth > 0 && each.clientWidth > 100)")
    assert len(shown) >= 7
    assert all(shown)


def test_it_says_nothing_on_the_console_and_asks_for_nothing_but_itself(visit, path):
    seen = visit(path)
    assert seen.said == []
    assert [url for url in seen.asked if not url.startswith("data:")] == [path.as_uri()]


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_reaches_over_its_right_edge(visit, path, size):
    tab = visit(path, size).tab
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_it_is_legible_on_a_phone(visit, path):
    words = "[...document.querySelectorAll('p, td, th, dd, small')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    sizes = visit(path, PHONE).tab.evaluate(words)
    assert min(sizes) >= 12


def test_figures_have_words_of_a_legible_size_on_a_phone(visit, study_page):
    """Charts are 324 points wide with words of 7.5 points at least: on a phone that must stay above 8 pixels."""
    widths = visit(study_page, PHONE).tab.evaluate("[...document.images].map(each => each.clientWidth)")
    assert min(widths) / 324 * 7.5 > 8


def test_it_prints(visit, path):
    printed = visit(path).tab.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type/Page/") >= 2


def test_no_table_is_cut_off_on_paper(visit, path):
    tab = visit(path, PAPER).tab
    tab.emulate_media(media="print")
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert tab.evaluate("Math.max(...[...document.querySelectorAll('table')].map(each => each.getBoundingClientRect().right))") <= 688


def test_what_is_folded_on_screens_is_open_on_paper(visit, study_page):
    tab = visit(study_page, PAPER).tab
    shown = "[...document.querySelectorAll('details table')].map(each => each.checkVisibility())"
    assert set(tab.evaluate(shown)) == {False}
    tab.emulate_media(media="print")
    assert set(tab.evaluate(shown)) == {True}


def test_a_whole_study_is_under_a_megabyte_and_tells_of_training(study_page):
    assert study_page.stat().st_size < 1_000_000
    assert "sea-ice paper, 8 GPUs 7.21 90.1 %" in read_page(study_page).text
