"""The rack's page in a real browser: with scripts and without, light and dark, on a phone, and with texts that mean harm."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.tools import screenshots
from tests.tools.chromium import PROGRAM, Tab, tab

from pibake import resources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.rack.states import Rack

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs chromium")
HOSTILE = '<img src=x onerror="document.title=1">' + "\u202e" + "W" * 300
FITS = "document.documentElement.scrollWidth <= innerWidth"


class Shown:
    """What the page shows, and how often that has changed."""

    def __init__(self) -> None:
        self.rack = screenshots.rack(24, time.time())
        self.changes = 0

    def show(self, rack: Rack) -> None:
        self.rack = rack
        self.changes += 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with tab() as found:
        yield found


@pytest.fixture
def page(browser: Tab) -> Iterator[Tab]:
    browser.screen(1180)
    browser.scripts(run=True)
    browser.trouble.clear()
    yield browser
    assert browser.trouble == []


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def url(shown: Shown) -> Iterator[str]:
    with screenshots.served(lambda: shown.rack, lambda: shown.changes) as found:
        yield found


def renamed(rack: Rack, text: str) -> Rack:
    nodes = tuple(
        replace(node, detail=text, stuck=node.stuck and replace(node.stuck, cause=text))
        for node in rack.nodes
    )
    boards = tuple(replace(board, note=text) for board in rack.boards)
    return replace(rack, nodes=nodes, boards=boards, said=((rack.time, text),))


def test_it_reads_without_scripts(page: Tab, url: str) -> None:
    page.scripts(run=False)
    page.open(url)
    page.scripts(run=True)
    assert page.value("document.querySelectorAll('tbody tr').length") >= 24
    assert page.value("document.querySelector('noscript meta').content") == "10"


def test_what_changes_appears_without_a_reload(page: Tab, url: str, shown: Shown) -> None:
    page.open(url)
    page.value("document.querySelector('.grid a').focus(); window.mark = 1")
    stuck = page.value("document.querySelectorAll('.stuck-list li').length")
    assert stuck == 3
    going = tuple(replace(node, stuck=None) for node in shown.rack.nodes)
    shown.show(replace(shown.rack, nodes=going))
    page.until("document.querySelectorAll('.stuck-list li').length == 0")
    assert page.value("window.mark") == 1
    assert page.value("document.activeElement.getAttribute('href')") == "/node/server-01"


def test_a_server_that_is_gone_is_said(page: Tab, shown: Shown) -> None:
    with screenshots.served(lambda: shown.rack) as gone:
        page.open(gone)
        assert page.value("document.getElementById('lost').hidden")
    page.until("!document.getElementById('lost').hidden")
    page.trouble.clear()  # the browser's own, of a connection that was refused


@pytest.mark.parametrize("where", ["/", "/node/compute-14"])
@pytest.mark.parametrize("width", [360, 768, 1180])
def test_nothing_is_wider_than_the_screen(page: Tab, url: str, shown: Shown, where: str, width: int) -> None:
    page.screen(width)
    page.open(url + where)
    assert page.value(FITS)
    shown.show(renamed(shown.rack, HOSTILE))
    page.open(url + where)
    assert page.value(FITS)


def test_texts_from_boards_are_texts(page: Tab, url: str, shown: Shown) -> None:
    shown.show(renamed(shown.rack, HOSTILE))
    page.open(url)
    assert page.value("document.images.length") == 0
    assert page.value("document.title") == "the rack · lab"
    assert "onerror" in page.value("document.body.textContent")
    assert "\u202e" not in page.value("document.body.textContent")


def test_dark_and_light_are_two_pages_and_both_have_contrast(page: Tab, url: str) -> None:
    grounds = []
    for dark in (False, True):
        page.screen(1180, dark=dark)
        page.open(url)
        grounds.append(page.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


def luminance(colour: str) -> float:
    """Return relative luminance (WCAG 2.2, "relative luminance")."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


PAIRS = [
    (text, ground)
    for text in ("ink", "muted", "link", "stuck", "booting", "joined", "up")
    for ground in ("ground", "panel")
]
PAIRS += [("on", state) for state in ("joined", "up", "booting", "stuck", "link")] + [
    ("quiet-ink", "quiet"),
    ("ink", "quiet"),
    ("muted", "quiet"),
]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_every_text_has_contrast_with_what_it_stands_on(text: str, ground: str, dark: bool) -> None:
    sheet = resources.text("netboot", "page", "page.css")
    blocks = re.findall(r":root \{([^}]*)\}", sheet)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[dark]))
    assert contrast(colours[text], colours[ground]) >= 4.5


def test_500_nodes_are_one_page(page: Tab, url: str, shown: Shown) -> None:
    shown.show(screenshots.rack(500, time.time()))
    page.screen(360)
    page.open(url)
    assert page.value("document.querySelectorAll('.cell').length") == 500
    assert page.value(FITS)


def test_a_key_shows_where_it_is(page: Tab, url: str) -> None:
    page.open(url)
    for kind in ("keyDown", "keyUp"):
        page.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
