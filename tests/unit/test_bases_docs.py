"""docs/bases.md shows the whole catalogue, as it is."""

from __future__ import annotations

import re
from pathlib import Path

from pibake import catalog
from pibake.system import Network

PAGE = Path(__file__).parents[2] / "docs/bases.md"


def table() -> str:
    rows = [
        "| base | what it is | arch | boards | user | updates until | what vouches for it | notes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in map(catalog.entry, catalog.names()):
        cells = (
            f"`{entry.name}`",
            entry.title,
            entry.arch,
            " ".join(entry.boards),
            f"`{entry.user}`",
            entry.end_of_life.isoformat(),
            catalog.vouched(entry.source),
            entry.notes,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def generated(page: str) -> str:
    return re.sub(
        r"(<!-- catalogue -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table()}\n{found[2]}",
        page,
        flags=re.DOTALL,
    )


def test_the_table_is_that_of_the_catalogue(update_golden: bool) -> None:
    page = PAGE.read_text("utf-8")
    if update_golden:
        PAGE.write_text(generated(page), "utf-8")
    assert generated(page) == PAGE.read_text("utf-8")
    assert all(f"| `{name}` |" in PAGE.read_text("utf-8") for name in catalog.names())


def test_the_example_of_a_catalogue_is_read_as_described(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(vendors:.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    entry = catalog.parse(found[1], tmp_path)["acme-7"]
    assert isinstance(entry.source, catalog.Download)
    assert entry.source.location == "https://images.acme.example/stable/"
    assert catalog.vouched(entry.source) == "digest signed by 89ABCDEF01234567"


def test_the_example_of_an_assembled_base_is_read_as_described(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(bases:.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    entry = catalog.parse(found[1], tmp_path)["debian-12-nm"]
    assert entry.source == catalog.Assemble("bookworm", Network.NETWORK_MANAGER, cloud_init=True)
