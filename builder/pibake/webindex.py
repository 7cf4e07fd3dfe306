"""The names in a folder of a web server, read from the page that lists them."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote, urljoin


def names(page: str, url: str) -> list[str]:
    """Return the names directly below the folder `url` that its page links to; folders end in a slash."""
    links = _Links()
    links.feed(page)
    found: dict[str, None] = {}
    for link in links.found:
        name = unquote(urljoin(url, link).partition("?")[0].partition("#")[0].removeprefix(url))
        if name and "/" not in name.removesuffix("/"):
            found[name] = None
    return list(found)


class _Links(HTMLParser):
    """Collects where the page's links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
