"""`pibake probe`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.errors import BootFailed, PibakeError
from pibake.probe.models import MODELS

if TYPE_CHECKING:
    from pibake.probe import Result, Step

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "missing": ("✗", "red")}
WIDTH = 34
"""Columns for what was asked; the longest path of most boards."""


@click.command(
    epilog="""\b
Examples:
  pibake probe --as pi4 --serial 1234abcd
  pibake probe --as pi3 --serial 5c2faaeb --interface eth1
  pibake probe --as cm4 --mac dc:a6:32:01:02:03 --prefix mac
  pibake probe --as pi5 --serial 9ffefdef --save boot     what it would load, in ./boot
  pibake probe --as uefi --mac 52:54:00:12:34:56 --json"""
)
@click.option("--as", "model", type=click.Choice(list(MODELS)), required=True, help="Which board to play.")
@click.option("--serial", metavar="HEX", help="Its serial: 8 hex digits, or the 16 of /proc/cpuinfo.")
@click.option("--mac", metavar="ADDRESS", help="Its MAC address  [default: one that goes with the serial]")
@click.option("--interface", metavar="NAME",
              help="The network it is plugged into  [default: the one of the default route]")  # fmt: skip
@click.option("--prefix", type=click.Choice(["serial", "mac"]), default="serial", show_default=True,
              help="Which folder its EEPROM looks in first.")  # fmt: skip
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Keep what it loaded there.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the steps and the result as JSON.")
def probe(
    *,
    model: str,
    serial: str | None,
    mac: str | None,
    interface: str | None,
    prefix: str,
    save: Path | None,
    as_json: bool,
) -> None:
    """Play a board on this network, and say step by step what it gets and what a real one would miss.

    It asks for an address and for files as that board's boot ROM or EEPROM does, quirks included, up to the kernel it
    would start. The exit status is 0 only if a real board would boot. It needs root, for an interface of its own; this
    host's is left as it is.
    """
    from pibake.probe import apart, identity, play

    address, number = identity(model, mac, serial)
    network = interface or _default()
    if not as_json:
        click.echo(f"{model}, MAC address {address}, serial {number}, on {network}")
    result = apart(
        network,
        address,
        lambda own: play(
            model, own, mac=address, serial=number, folder=save, prefix=prefix,
            on_step=lambda step: None if as_json else _show(step),
        ),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps({**asdict(result), "boots": result.boots}, indent=2, default=str))
    elif result.boots:
        _conclude(result)
    missing = [step for step in result.steps if step.verdict == "missing"]
    if missing:
        what = ", ".join(f"{step.asked}: {step.got}" for step in missing)
        raise BootFailed(f"a {model} would not boot here: {what}", hint=_hint(missing[0], network))


def _default() -> str:
    """Return the interface of the default route."""
    from pibake.run import run

    routes = json.loads(run(["ip", "-4", "-json", "route", "show", "default"]).stdout or "[]")
    if not routes:
        raise PibakeError(
            "this host has no default route, so the network is not known", "name it with --interface"
        )
    return str(routes[0]["dev"])


def _show(step: Step) -> None:
    mark, colour = MARKS[step.verdict]
    click.echo(f"{click.style(mark, colour)} {step.asked:<{WIDTH}} {step.got}  {step.seconds:.2f} s")
    if step.note:
        click.echo(f"    {click.style(step.note, colour if step.verdict != 'ok' else None)}")


def _conclude(result: Result) -> None:
    loaded = [step for step in result.steps if step.size]
    size, seconds = sum(step.size for step in loaded), sum(step.seconds for step in loaded)
    click.echo(f"it would boot, with {len(loaded)} files of {size / 1e6:.1f} MB in {seconds:.1f} s of TFTP")
    if result.cmdline:
        click.echo(f"kernel command line: {result.cmdline}")


def _hint(missing: Step, network: str) -> str:
    """Return what to do about the first thing that is missing."""
    from pibake.probe import is_bridge

    if (missing.asked, missing.got) != ("DISCOVER", "no answer") or is_bridge(network):
        return missing.note
    return (
        f"{missing.note} A server on this very host cannot hear a board that is played on {network}: "
        "play it on another machine, or on a bridge"
    )
