"""`pibake eeprom-card`: boards that boot from the network by themselves."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.cli.common import age_option, config_option, opened
from pibake.errors import PibakeError

if TYPE_CHECKING:
    from pibake.netboot.eeprom import Eeprom


@click.command(
    epilog="""\b
Examples:
  pibake eeprom-card --eeprom pieeprom-2026-05-17.bin
  pibake eeprom-card --chip 2712 --http http://192.168.10.2:8069/pi
  pibake eeprom-card --eeprom pieeprom.bin --set TFTP_PREFIX=2 --tftp netboot/eeprom/2711
  pibake flash eeprom-2711.img /dev/sdX"""
)
@click.option("--eeprom", "image", type=click.Path(path_type=Path), metavar="FILE",
              help="The bootloader, pieeprom-*.bin, with recovery.bin beside it  [default: the package rpi-eeprom's]")  # fmt: skip
@click.option("--chip", type=click.Choice(["2711", "2712"]),
              help="Whose bootloader of the package: 2711 is in the Pi 4, 400 and CM4; 2712 in the Pi 5, 500 and CM5.")  # fmt: skip
@click.option(
    "--order", metavar="HEX", help="BOOT_ORDER, tried from the right  [default: 0xf21; with --http 0xf271]"
)
@click.option("--http", metavar="URL", help="Boot by HTTP from here, with this cluster's key in the EEPROM.")
@click.option("--set", "more", multiple=True, metavar="KEY=VALUE", help="Another setting of the bootloader.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="The card's image  [default: eeprom-CHIP.img]")  # fmt: skip
@click.option("--tftp", type=click.Path(path_type=Path), metavar="DIR",
              help="No card: put what boards update themselves from into this folder; `pibake serve` serves netboot/eeprom/CHIP.")  # fmt: skip
@config_option
@age_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def eeprom_card(
    *,
    image: Path | None,
    chip: str | None,
    order: str | None,
    http: str | None,
    more: tuple[str, ...],
    output: Path | None,
    tftp: Path | None,
    config: Path | None,
    age_identity: Path | None,
    as_json: bool,
) -> None:
    """Make a card that lets boards boot from the network, or files by which they set themselves.

    Put the card into one board after the other: the green LED blinks fast when its EEPROM is set. Boards that boot from the
    network already take the files of --tftp at their next start. No node's image is changed by either.
    """
    from pibake.image import eeprom_card as cards
    from pibake.netboot import bootconf

    if (image is None) == (chip is None):
        raise click.UsageError("name the bootloader with --eeprom, or the package's with --chip")
    if output is not None and tftp is not None:
        raise click.UsageError("--output is the card's image, and --tftp makes none")
    new = {bootconf.ORDER: order or (bootconf.HTTP if http else bootconf.NETWORK)}
    new |= {**(bootconf.http(http) if http else {}), **dict(_setting(text) for text in more)}
    bootconf.explained(new[bootconf.ORDER])
    found = cards.named(image) if image else cards.installed(chip or "")
    public = _public(config, age_identity) if http else None
    made = bootconf.configured(found.image, new, public)
    now = int(time.time())
    if tftp is not None:
        cards.update(made, now).write(tftp)
        written = [tftp / "pieeprom.upd", tftp / "pieeprom.sig"]
    else:
        if found.recovery is None:
            raise PibakeError(
                f"there is no {cards.RECOVERY} beside {image}, and the board's boot ROM starts that",
                "it is in the same folder of the package rpi-eeprom; or use --tftp, which needs none",
            )
        target = output or Path(f"eeprom-{made.chip}.img")
        cards.write_card(made, found.recovery, target, now)
        written = [target]
    _say(found.image, made, written, key=public is not None, as_json=as_json)


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text}: write it like TFTP_PREFIX=2")
    return key, value


def _public(config: Path | None, age_identity: Path | None) -> bytes:
    """Return the public part of the cluster's boot key, which is made if there is none yet."""
    from pibake import vault
    from pibake.identity import bootkey

    place = opened(config, age_identity)
    key = place.vault.issue(replace(vault.wanted(place.plan), boot_key=True)).boot_key
    if key is None:
        raise PibakeError(f"{place.vault.folder} has no boot key", "pibake secrets issue")
    return bootkey.public(key)


def _say(old: Eeprom, new: Eeprom, written: list[Path], *, key: bool, as_json: bool) -> None:
    from pibake.netboot import bootconf

    before, after = bootconf.settings(old.config), bootconf.settings(new.config)
    if as_json:
        facts = {
            "eeprom": old.source,
            "chip": new.chip,
            "built": new.built,
            "old": before,
            "new": after,
            "key": key,
            "written": [str(path) for path in written],
        }
        click.echo(json.dumps(facts, indent=2))
        return
    _table(old, before, after)
    click.echo(f"boots from: {bootconf.explained(after[bootconf.ORDER])}")
    if key:
        click.echo("key: this cluster's; boards start nothing by HTTP that it has not signed")
    for path in written:
        click.echo(f"wrote {path}")
    if written[0].suffix == ".img":
        click.echo(f"next: pibake flash {written[0]} DEVICE")


def _table(old: Eeprom, before: dict[str, str], after: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from pibake.cli.system import plain

    built = time.strftime("%Y-%m-%d", time.gmtime(old.built)) if old.built else "unknown"
    click.echo(f"{plain(old.source)}: BCM{old.chip}, built {built}")
    table = Table(box=None, pad_edge=False)
    for heading in ("setting", "was", "is"):
        table.add_column(heading, no_wrap=True)
    for name in sorted(before | after):
        was, now = before.get(name, "-"), after.get(name, "-")
        table.add_row(plain(name), plain(was), plain(now), style="bold" if was != now else "")
    Console(highlight=False).print(table)
