"""Makes the pictures of the rack's page in docs/screenshots: `.venv/bin/python -m tests.tools.screenshots`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.tools import demorack
from tests.tools.chromium import chromium
from tests.tools.test_serve_web import port

from pibake.serve.access import Access
from pibake.serve.http import serving
from pibake.serve.page import Desk
from pibake.serve.reports import Reports
from pibake.serve.web import Sources, application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pibake.rack.states import Rack

FOLDER = Path(__file__).parents[2] / "docs/screenshots"
NOON = 1_795_608_000.0
"""The same in each picture."""
PICTURES = (
    ("light", "light", "/", 1180, 1400), ("dark", "dark", "/", 1180, 1400), ("phone", "light", "/", 360, 1500),
    ("phone-dark", "dark", "/", 360, 1500), ("node", "light", "/node/node12", 1180, 0), ("node-phone", "dark", "/node/node12", 360, 0),
    ("500", "light", "/", 1180, 1350),
)  # fmt: skip
"""Name, colours, page, width and height; 0 is all of it."""


@contextmanager
def showing(rack: Callable[[], Rack], changes: Callable[[], int] = lambda: 0) -> Iterator[str]:
    """Serve the page of a rack at loopback, and yield its address."""
    with TemporaryDirectory() as folder:
        reports = Reports(lambda name: Path(folder) / name)
        sources = Sources(lambda: (), dict, reports, lambda _, __: None)
        number = port()
        desk = Desk(rack, changes, Access("t" * 32))
        with serving(application(sources, desk), number, IPv4Address("127.0.0.1")):
            yield f"http://localhost:{number}"


def main() -> int:
    """Make all of them, or those that are named."""
    if shutil.which("pngquant") is None:
        sys.stderr.write("pngquant is not installed: apt-get install pngquant\n")
        return 3
    FOLDER.mkdir(exist_ok=True)
    few, lots = demorack.shown(NOON), demorack.many(NOON)
    with showing(lambda: few) as usual, showing(lambda: lots) as large, chromium() as browser:
        for name, scheme, path, width, height in PICTURES:
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            tab = browser.tab()
            tab.scheme(scheme)
            tab.size(width, height or 400, 2 if width < 500 else 1)
            tab.go((large if name == "500" else usual) + path)
            if not height:
                tab.size(width, tab.value("document.documentElement.scrollHeight"), 2 if width < 500 else 1)
            few_colours = subprocess.run(
                ["pngquant", "--strip", "--speed", "1", "48", "-"],
                input=tab.picture(),
                capture_output=True,
                check=True,
            ).stdout
            (FOLDER / f"{name}.png").write_bytes(few_colours)
            sys.stdout.write(f"{name}.png: {len(few_colours) / 1000:.0f} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
