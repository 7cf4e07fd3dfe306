"""The rack's page in a real browser."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from tests.tools import demorack
from tests.tools.chromium import Browser, chromium, needs_chromium
from tests.tools.screenshots import FOLDER, NOON, PICTURES, showing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tools.chromium import Tab

    from pibake.rack.states import Rack

pytestmark = needs_chromium

WORD = "W" * 200
WIDE = "document.documentElement.scrollWidth"


@dataclass
class Shown:
    """The page of a rack that a test may change."""

    rack: Rack = field(default_factory=lambda: demorack.shown(NOON))
    changes: int = 0
    url: str = ""

    def become(self, rack: Rack) -> None:
        self.rack = rack
        self.changes += 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    opened = browser.tab()
    opened.size(1180, 900)
    yield opened
    opened.ask("Page.close")


@pytest.fixture
def shown() -> Iterator[Shown]:
    page = Shown()
    with showing(lambda: page.rack, lambda: page.changes) as page.url:
        yield page


def hostile(rack: Rack) -> Rack:
    """Return a rack in which every text that a board or a person chooses is 200 characters without a space."""
    nodes = []
    for node in rack.nodes:
        known = replace(node.known, obstacle=WORD) if node.known.obstacle else node.known
        stuck = node.stuck and replace(
            node.stuck, cause=WORD, remedy=f"`{WORD}` <img src=x onerror=alert(1)>"
        )
        moments = node.timeline.moments if node.timeline else ()
        moments = tuple(replace(one, detail=WORD, missing=WORD) for one in moments)
        timeline = node.timeline and replace(node.timeline, moments=moments)
        nodes.append(replace(node, known=known, detail=WORD, stuck=stuck, timeline=timeline))
    boards = tuple(replace(one, note=WORD) if not one.node else one for one in rack.boards)
    engines = tuple({**one, "problem": WORD} for one in rack.engines)
    return replace(
        rack, cluster="c" * 63, nodes=tuple(nodes), boards=boards, engines=engines, said=((NOON, WORD),)
    )


def test_the_page_is_read_without_javascript(tab: Tab, shown: Shown) -> None:
    tab.scripts(on=False)
    tab.go(f"{shown.url}/")
    assert tab.value("document.querySelectorAll('.nodes tbody tr').length") == 24
    assert tab.value("document.querySelector('.counts .stuck b').textContent") == "3"
    assert tab.value("document.querySelector('noscript meta[http-equiv=refresh]') !== null")
    tab.go(f"{shown.url}/node/node12")
    assert "token has expired" in tab.value("document.querySelector('.stuck-list').innerText")


def test_a_change_of_the_rack_appears_without_reload_and_nothing_complains(tab: Tab, shown: Shown) -> None:
    tab.go(f"{shown.url}/")
    tab.value("window.here = 1; document.querySelector('a[href=\"/node/node5\"]').focus()")
    node = shown.rack.nodes[4]
    after = (*shown.rack.nodes[:4], replace(node, state="joined"), *shown.rack.nodes[5:])
    shown.become(replace(shown.rack, nodes=after))
    tab.wait("document.querySelector('a.cell[href=\"/node/node5\"]').classList.contains('joined')")
    assert tab.value("window.here") == 1
    assert tab.value("document.activeElement.getAttribute('href')") == "/node/node5"
    assert tab.complaints() == []


def test_nothing_complains_of_hostile_texts_and_none_of_them_runs(tab: Tab, shown: Shown) -> None:
    shown.become(hostile(shown.rack))
    for path in ("/", "/node/node12"):
        tab.go(f"{shown.url}{path}")
        assert tab.value("document.querySelectorAll('img').length") == 0
    assert tab.complaints() == []


def test_a_violation_of_the_policy_would_be_noticed(tab: Tab, shown: Shown) -> None:
    tab.go(f"{shown.url}/")
    tab.value("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>'); 0")
    tab.wait("true")
    assert any("Content Security Policy" in text for text in tab.complaints())


@pytest.mark.parametrize("width", [320, 360, 700, 1000])
def test_nothing_is_wider_than_the_window(tab: Tab, shown: Shown, width: int) -> None:
    tab.size(width, 800)
    for rack in (shown.rack, hostile(shown.rack)):
        shown.become(rack)
        for path in ("/", "/node/node12", "/node/node18", "/node/node24"):
            tab.go("about:blank")
            tab.go(f"{shown.url}{path}")
            assert tab.value(WIDE) <= tab.value("innerWidth") == width, path
        assert (WORD in tab.value("document.body.innerText")) == (rack.cluster != "lab")


@pytest.mark.parametrize(("width", "count"), [(360, 24), (360, 500), (1180, 24), (1180, 500)])
def test_no_name_number_or_count_is_cut_off(tab: Tab, shown: Shown, width: int, count: int) -> None:
    if count == 500:
        shown.become(demorack.many(NOON))
    tab.size(width, 800)
    tab.go(f"{shown.url}/")
    cut = "[...document.querySelectorAll('.cell, .cell span, .counts li, tbody th, td')]"
    cut += ".filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
    assert tab.value(cut) == []


def test_dark_and_light_differ_and_say_the_same(tab: Tab, shown: Shown) -> None:
    tab.go(f"{shown.url}/")
    grounds, texts = [], []
    for scheme in ("light", "dark"):
        tab.scheme(scheme)
        grounds.append(tab.value("getComputedStyle(document.body).backgroundColor"))
        texts.append(tab.value("document.body.innerText"))
    assert grounds == ["rgb(243, 245, 244)", "rgb(14, 18, 20)"]
    assert texts[0] == texts[1]


def test_what_has_the_focus_of_the_keyboard_is_seen(tab: Tab, shown: Shown) -> None:
    tab.go(f"{shown.url}/")
    before = tab.picture()
    tab.press("Tab", 9)
    assert tab.value("document.activeElement.getAttribute('href')") == "/node/node1"
    assert tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert tab.picture() != before


def test_a_server_that_has_gone_is_said_and_what_it_said_last_stays(tab: Tab, shown: Shown) -> None:
    with showing(lambda: shown.rack) as url:
        tab.go(f"{url}/")
    tab.wait("!document.getElementById('lost').hidden")
    assert tab.value("document.querySelectorAll('.nodes tbody tr').length") == 24


def test_the_pictures_in_the_docs_are_small_and_all_there() -> None:
    sizes = {path.stem: path.stat().st_size for path in FOLDER.glob("*.png")}
    assert set(sizes) == {name for name, *_ in PICTURES}
    assert max(sizes.values()) < 150_000
