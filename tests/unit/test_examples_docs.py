"""The examples and docs/seeds.md: lines that are shown stand where they are said to, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/cluster.yaml"))
SEED = re.compile(r"<!-- seed: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)


def test_lines_that_take_the_place_of_an_articles_steps_stand_in_the_example() -> None:
    page = (ROOT / "docs/seeds.md").read_text("utf-8")
    tables = SEED.findall(page)
    assert sorted(name for name, _ in tables) == sorted(set(NAMES) - {"quickstart"})
    for name, rows in tables:
        text = (EXAMPLES / name / "cluster.yaml").read_text("utf-8")
        for row in rows.splitlines()[2:]:
            _, lines, does = (cell.strip() for cell in row.strip("|").split("|"))
            for line in [] if lines.startswith("none") else re.findall(r"`([^`]+)`", lines):
                assert line in text, f"{name}: {line}"
            assert lines == "none" or does, row


def test_links_of_examples_and_their_pages_lead_somewhere() -> None:
    for page in (EXAMPLES / "README.md", *EXAMPLES.glob("*/README.md"), ROOT / "docs/seeds.md"):
        for link in re.findall(r"\]\((?!https:)([^)#]*)(#[^)]*)?\)", page.read_text("utf-8")):
            target = (page.parent / link[0]).resolve() if link[0] else page
            assert target.exists(), f"{page}: {link[0]}"
            if link[1]:
                assert link[1] in anchors(target), f"{page}: {link[1]}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_list_of_examples_says_what_each_says_of_itself() -> None:
    rows = [
        f"| [{name}]({name}/) | {(EXAMPLES / name / 'cluster.yaml').read_text('utf-8').splitlines()[0][2:]} |\n"
        for name in sorted(NAMES, key=lambda name: (name != "quickstart", name))
    ]
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert "<!-- examples -->\n| | |\n|---|---|\n" + "".join(rows) + "<!-- end -->" in page
