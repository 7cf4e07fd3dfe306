"""A board, from power-on to the kernel it would start."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.probe import wire
from pibake.probe.asking import ask
from pibake.probe.loading import Loading
from pibake.probe.messages import Board
from pibake.probe.models import MODELS
from pibake.probe.values import Result

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pibake.probe.asking import Lease
    from pibake.probe.values import Step

SERIAL, MAC = "serial", "mac"
"""What the folder is named by that an EEPROM looks in first (`TFTP_PREFIX` 0 and 2)."""


@dataclass
class _Run:
    """What has happened so far."""

    tell: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)

    def note(self, step: Step) -> None:
        self.steps.append(step)
        self.tell(step)


def play(
    model: str,
    interface: str,
    *,
    mac: str,
    serial: str,
    folder: Path | None = None,
    prefix: str = SERIAL,
    patience: float | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Result:
    """Boot a board from the wire, up to the point where it would start a kernel.

    Args:
        model: which board, a name of `MODELS`.
        interface: one that is the board's own, with its MAC address, in this thread's network namespace; it has no
            address and is down afterwards.
        mac: the board's MAC address, `dc:a6:32:01:02:03`.
        serial: its serial, 8 hex digits, as the TFTP folder is named.
        folder: where to keep what it loaded, under the paths it asked for.
        prefix: `SERIAL` or `MAC`: which folder its EEPROM is set to look in.
        patience: seconds to wait for DHCP, if the board would wait longer.
        on_step: takes each step as it happens.

    Raises:
        PibakeError: the interface has another MAC address, or no link; a `MAC` prefix on a board without an EEPROM.
        CommandFailed: the interface cannot be configured.
    """
    kind = MODELS[model]
    board = Board(kind, bytes.fromhex(mac.replace(":", "")), serial)
    if wire.hardware_address(interface) != board.mac:
        raise PibakeError(
            f"{interface} does not have the board's MAC address {mac}", "give it to the interface first"
        )
    if prefix == MAC and not kind.fourcc:
        raise PibakeError(f"a {model} has no EEPROM that could look in another folder", "leave --prefix out")
    run = _Run(on_step)
    lease: Lease | None = None
    loading: Loading | None = None
    with wire.powered(interface):
        for stage in kind.stages:
            with wire.Wire(interface, board.mac) as raw:
                lease = ask(raw, board, stage.asking, patience, run.note)
            if lease is None:
                break
            wire.configure(interface, lease.address, lease.gateway)
            own = f"{mac.replace(':', '-') if prefix == MAC else serial}/" if stage.prefixed else ""
            loading = Loading(stage, kind.board, lease.server, folder, run.note, own, lease.file)
            if not loading.run():
                break
    return _result(model, board, run, lease, loading)


def _result(model: str, board: Board, run: _Run, lease: Lease | None, loading: Loading | None) -> Result:
    def path(what: str) -> Path | None:
        return loading.path(what) if loading else None

    return Result(
        model=model,
        mac=board.mac.hex(":"),
        serial=board.serial,
        steps=tuple(run.steps),
        address=lease.address if lease else None,
        server=lease.server if lease else None,
        kernel=path("{kernel}") or path("{boot_file}"),
        initramfs=path("{initramfs}"),
        cmdline=loading.cmdline if loading else "",
    )


def identity(model: str, mac: str | None, serial: str | None) -> tuple[str, str]:
    """Return the MAC address and serial of a board of which one is known, in lower case.

    The last 24 bits of a Pi 2's or 3's MAC address are those of its serial; those of later boards are unrelated, so
    what is not given is made up.

    Raises:
        PibakeError: neither is given, or one is not written as it should be.
    """
    kind = MODELS[model]
    if not mac and not serial:
        raise PibakeError("a board needs a MAC address or a serial", "give --mac or --serial, or both")
    if serial and not re.fullmatch(r"(?:[0-9a-fA-F]{8})?[0-9a-fA-F]{8}", serial):
        raise PibakeError(
            f"{serial!r} is no serial", "write the last 8 hex digits of Serial in /proc/cpuinfo"
        )
    if mac and not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", mac):
        raise PibakeError(f"{mac!r} is no MAC address", "write it like dc:a6:32:01:02:03")
    address = (mac or "").lower().replace("-", ":")
    number = (serial or "")[-8:].lower()
    if not address:
        address = ":".join((kind.oui, number[2:4], number[4:6], number[6:8]))
    return address, number or f"00{address[9:].replace(':', '')}"
