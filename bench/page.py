"""How soon the page of 500 nodes is there, over HTTP, at loopback.

make bench-wire                      beside the figures of the wire
.venv/bin/python -m bench.page
"""

from __future__ import annotations

import sys
import urllib.request
from statistics import median

from bench.bench import Row, once, show
from tests.tools import demorack
from tests.tools.screenshots import NOON, showing

BOUND = 0.2
"""Seconds."""


def main() -> int:
    """Measure, and print the rows; 0 if all keep their bounds."""
    rack, changes = demorack.many(NOON), [0]
    with showing(lambda: rack, lambda: changes[0]) as url:

        def whole() -> None:
            with urllib.request.urlopen(f"{url}/") as answer:  # noqa: S310 - our own server
                if b"node500" not in answer.read():
                    raise RuntimeError(f"{url} has not all nodes")

        def anew() -> None:
            changes[0] += 1
            whole()

        whole()
        rows = [
            Row(f"page of 500 nodes, {name}", took, "", 0, "<= 200 ms", took <= BOUND)
            for name, took in (
                ("rack changed", median(once(anew) for _ in range(5))),
                ("rendered before", median(once(whole) for _ in range(5))),
            )
        ]
    show(rows)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
