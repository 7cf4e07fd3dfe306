"""What people are told of what is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pibake.serve.files import Boot
    from pibake.serve.prepare import Served

OLD_TFTP = 65535 * 1024
"""Bytes of the largest file that some Pi 4 fetches by TFTP: 65535 blocks of 1024 bytes, until the release of 2022-10-03 asked
for larger ones (rpi-eeprom, release notes)."""


def sentences(served: Served) -> Iterator[str]:
    """Yield what is worth a word: nodes that are not served, wait for a board, or stay on something older."""
    for hostname, reason in served.left_out:
        yield f"note: {hostname} boots from a card only: {reason}"
    for sentence in served.ignored:
        yield f"warning: {sentence}"
    if served.free:
        yield (
            f"note: {', '.join(served.free)} wait{'s' if len(served.free) == 1 else ''} for a board:"
            f" `pibake boards` lists those that ask, `pibake adopt SERIAL --as {served.free[0]}` gives it one"
        )
    for path in sorted(large(served.boots.values())):
        yield (
            f"warning: {path.name} has {path.stat().st_size >> 20} MiB; a Pi 4 whose EEPROM is older than 2022-10-03 fetches 64 MiB by TFTP:"
            " update it (docs/netboot-firmware.md), or take HTTP boot"
        )
    for hostname in served.behind:
        yield f"note: {hostname} stays on the golden image it has; `pibake serve --renew {hostname}` starts it anew on the newest"
    for hostname in served.outdated:
        yield (
            f"note: {hostname} keeps its disk, on which is what cluster.yaml said when that was made;"
            f" `pibake serve --renew {hostname}` starts it anew"
        )


def large(boots: Iterable[Boot]) -> set[Path]:
    """Return the files that some Pi 4 among the nodes cannot fetch by TFTP."""
    places = {boot.tftp for boot in boots if boot.client.board.netboot == "eeprom-2711"}
    return {
        path
        for place in places
        for path in place.rglob("*")
        if path.is_file() and path.stat().st_size > OLD_TFTP
    }
