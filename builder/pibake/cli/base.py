"""`pibake base`: list, get, check and remove base images."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.cache import Cache
from pibake.cli.common import Known
from pibake.errors import ImageError, PibakeError, VerificationError
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.bases import Base
    from pibake.catalog import Entry
    from pibake.inventory import Row
    from pibake.progress import Progress
    from pibake.system import System

DAY = 86400


def _names() -> Sequence[str]:
    from pibake import catalog

    return catalog.names()


KNOWN = Known(_names)


@click.group(epilog="Example: pibake base list && pibake base pull debian-13")
def base() -> None:
    """List, get, check and remove base images.

    A base is the image of an operating system that cards are made from. They are kept, verified, in
    $XDG_CACHE_HOME/pibake (usually ~/.cache/pibake), and `build` gets what it lacks by itself.
    """


@base.command(
    "list", epilog="Example: pibake base list --json | jq -r '.[] | select(.state == \"cached\").name'"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for scripts.")
def list_(*, as_json: bool) -> None:
    """Show the bases of the catalogue, and everything the cache holds."""
    from pibake import inventory

    rows = inventory.rows(Cache())
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        _print(rows)


@base.command(epilog="Example: pibake base pull ubuntu-24.04 --refresh")
@click.argument("names", type=KNOWN, nargs=-1, required=True, metavar="NAME...")
@click.option("--refresh", is_flag=True, help="Look for a newer release even if one is in the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for scripts.")
@click.pass_obj
def pull(progress: Progress, *, names: Sequence[str], refresh: bool, as_json: bool) -> None:
    """Get bases into the cache: download and verify them, or assemble them here.

    An interrupted download goes on where it stopped. What is in the cache is not fetched again, unless
    --refresh finds that the vendor has a newer release.
    """
    from pibake import catalog

    entries = [catalog.entry(name) for name in names]  # a mistyped last name should not cost an hour first
    _warn(entries)
    found = [_obtain(entry.name, progress, refresh=refresh and _is_download(entry.name)) for entry in entries]
    _report(found, as_json=as_json)


@base.command(epilog="Example: pibake base build debian-13 --force")
@click.argument("name", type=KNOWN)
@click.option(
    "--force", is_flag=True, help="Assemble it anew, with today's packages, even if the cache has it."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for scripts.")
@click.pass_obj
def build(progress: Progress, *, name: str, force: bool, as_json: bool) -> None:
    """Assemble a base from its distribution's packages."""
    from pibake import catalog

    if _is_download(name):
        raise PibakeError(
            f"{name} is not assembled here, its vendor publishes it", f"pibake base pull {name}"
        )
    _warn([catalog.entry(name)])
    _report([_obtain(name, progress, refresh=force)], as_json=as_json)


@base.command(
    epilog="Example: pibake base inspect debian-13; pibake base inspect ./raspios.img --json | jq .cmdlines"
)
@click.argument("name", type=KNOWN, metavar="NAME|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for scripts.")
@click.pass_obj
def inspect(progress: Progress, *, name: str, as_json: bool) -> None:
    """Show what an image says of the system in it, which decides how nodes are made from it.

    NAME is one of the catalogue, and is got first if the cache lacks it; anything else is a FILE, compressed or not.
    """
    found = _system(name, progress)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        from pibake.cli.system import show

        show(name, found)


@base.command(epilog="Example: pibake base verify && echo sound")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_obj
def verify(progress: Progress, *, names: Sequence[str]) -> None:
    """Read cached images whole and compare their digests; all of them if no NAME is given.

    A damaged image is moved aside, so that nothing is built from it, and the exit status is 4.
    """
    from pibake import inventory

    cache = Cache()
    digests = [d for name in names for d in inventory.images_of(cache, name)] if names else cache.digests()
    damaged: list[VerificationError] = []
    for digest in dict.fromkeys(digests):
        try:
            cache.verify(digest, progress)
            click.echo(f"{digest}  ok  {cache.info(digest).get('name', '')}".rstrip())
        except VerificationError as error:
            damaged.append(error)
            click.echo(f"{digest}  DAMAGED")
    if not digests:
        click.echo("the cache holds no image", err=True)
    for other in damaged[:-1]:
        click.echo(f"{click.style('error:', fg='red')} {other}", err=True)
    if damaged:
        raise damaged[-1]


@base.command(epilog="Example: pibake base prune --dry-run")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Remove every base and golden image, the packages that are kept, and what hooks made.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.pass_obj
def prune(progress: Progress, *, everything: bool, dry_run: bool) -> None:
    """Remove images that no base stands for, and what interrupted runs left more than a day ago."""
    from pibake import inventory

    dropped = inventory.prune(Cache(), progress, everything=everything, dry_run=dry_run)
    for drop in dropped:
        click.echo(f"{drop.path}  ({size(drop.bytes)}; {drop.why})")
    freed = size(sum(drop.bytes for drop in dropped))
    click.echo(f"{freed} would be freed" if dry_run else f"{freed} freed")


def _obtain(name: str, progress: Progress, *, refresh: bool) -> Base:
    from pibake import bases
    from pibake.plan import BaseRef

    return bases.obtain(BaseRef(name=name), Cache(), progress, refresh=refresh)


def _system(name: str, progress: Progress) -> System:
    from pibake import bases, catalog
    from pibake.image import table
    from pibake.image.inspect import inspect as read
    from pibake.plan import BaseRef

    cache = Cache()
    if name in catalog.names():
        return bases.system(bases.obtain(BaseRef(name=name), cache, progress), cache)
    path = Path(name)
    if not path.is_file():
        if "/" in name:
            raise PibakeError(f"there is no file {name}", "give the path of an image, or the name of a base")
        catalog.entry(name)  # raises, with what may have been meant
    try:
        table.read(path)
    except ImageError:  # compressed, or no image: the cache's way of reading it says which
        ref = BaseRef(file=str(path.absolute()))
        return bases.system(bases.obtain(ref, cache, progress), cache)
    return read(path, "")


def _is_download(name: str) -> bool:
    from pibake import catalog

    return isinstance(catalog.entry(name).source, catalog.Download)


def _warn(entries: Sequence[Entry]) -> None:
    from pibake import catalog

    today = dt.datetime.now(dt.UTC).date()
    for entry in entries:
        for text in catalog.warnings(entry, today):
            click.echo(f"{click.style('warning:', fg='yellow')} {text}", err=True)


def _report(found: Sequence[Base], *, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                [{"name": b.name, "sha256": b.sha256, "image": str(b.image), **b.info} for b in found],
                indent=2,
            )
        )
    else:
        for item in found:
            vouched = f"  ({item.info['vouched']})" if "vouched" in item.info else ""
            click.echo(f"{item.name}  sha256:{item.sha256}  {item.image}{vouched}")


def _print(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Base", "Arch", "State", "Size", "Made", "Digest", "Supported until"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "Size" else "left")
    for heading in ("Boards", "What vouches for it", "What it is"):
        table.add_column(heading)
    for row in rows:
        over = row.end_of_life and row.end_of_life < time.strftime("%Y-%m-%d")
        table.add_row(
            row.name,
            row.arch,
            row.state,
            size(row.bytes) if row.sha256 else "",
            time.strftime("%Y-%m-%d", time.gmtime(row.created)) if row.sha256 else "",
            row.sha256[:12],
            f"{row.end_of_life} (over)" if over else row.end_of_life,
            " ".join(row.boards),
            row.vouched,
            f"{row.title}{f' ({row.file})' if row.file else ''}",
        )
    console = Console()
    if not console.is_terminal:
        console.width = 300  # a pipe has no edge to wrap at
    console.print(table)
