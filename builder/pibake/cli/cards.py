"""What `pibake flash` shows of cards and asks about them."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

import click

from pibake.errors import PibakeError
from pibake.flash import device as devices
from pibake.flash import refusals
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pibake.flash.device import Device
    from pibake.flash.writer import Flashed


def show(*, as_json: bool) -> None:
    """Print all devices, those that can be written first."""
    rows = [(device, refusals.refusals(device)) for device in devices.devices()]
    if as_json:
        facts = [
            {**dataclasses.asdict(device), "refusals": [each.reason for each in found]}
            for device, found in rows
        ]
        click.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Device", "Size", "Bus", "Serial"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "Size" else "left")
    for heading in ("What it is", "What is on it", "Can be written"):
        table.add_column(heading)
    for device, found in rows:
        verdict = "; ".join(each.reason for each in found)
        what = device.title if device.title != device.path else ""
        table.add_row(
            device.path, size(device.size), device.bus, device.serial, what, _content(device),
            f"no: {verdict}" if found else "yes",
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console.width = 300  # a pipe has no edge to wrap at
    console.print(table)


def check(target: Path, length: int, reads: Sequence[Path], allowed: Sequence[str]) -> None:
    """Raise if a target must not be written with an image of `length` bytes that is made from the files `reads`."""
    if target.is_block_device():
        refusals.refuse(str(target), refusals.refusals(devices.device(target), length, allowed))
    else:
        refusals.refuse(str(target), refusals.file_refusals(target, reads))


def ask(pairs: Sequence[tuple[str, Path]]) -> None:
    """Show what is written where, and go on only if the person says yes; files that are made need no question."""
    lost = [(name, target) for name, target in pairs if target.exists()]
    if not lost:
        return
    for name, target in lost:
        click.echo(f"{name} -> {_description(target)}", err=True)
    if not sys.stdin.isatty():
        raise PibakeError("there is no terminal to ask on whether that may be lost", "if it may, give --yes")
    if not click.confirm("All that is on it will be lost. Go on?", err=True):
        click.echo("nothing was written", err=True)
        sys.exit(1)


def summary(name: str, flashed: Flashed) -> str:
    """Return the line about a finished card."""
    before = f" ({size(flashed.resumed)} by an earlier run)" if flashed.resumed else ""
    check = f"read back and right in {flashed.verify_seconds:.1f} s" if flashed.verified else "not read back"
    return (
        f"{name} -> {flashed.target}  {size(flashed.written)} written{before} "
        f"in {flashed.write_seconds:.1f} s, {check}"
    )


def _description(target: Path) -> str:
    if not target.is_block_device():
        return f"{target}, a file of {size(target.stat().st_size)}"
    device = devices.device(target)
    model = device.title if device.title != device.path else ""
    facts = [model, size(device.size), device.serial and f"serial {device.serial}", device.bus]
    return f"{target}: {', '.join(fact for fact in facts if fact)}\n    on it: {_content(device) or 'no partitions'}"


def _content(device: Device) -> str:
    return ", ".join(str(part) for part in device.parts)
