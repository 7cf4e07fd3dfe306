"""`pibake flash`."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.flash.source import Source
    from pibake.flash.writer import Flashed
    from pibake.progress import Progress


@dataclass(frozen=True)
class Job:
    """One image and where it goes; `reads` are the files it is made from."""

    name: str
    source: Source
    target: Path
    reads: tuple[Path, ...]


@click.command(
    epilog="""\b
Examples:
  pibake flash --list
  pibake flash node3 /dev/sdb
  pibake flash raspios.img /dev/mmcblk0 --yes
  pibake flash --all /dev/sdb /dev/sdc /dev/sdd
  pibake flash node3 node3.img        a regular file, for QEMU or another tool"""
)
@click.argument("words", nargs=-1, metavar="[NODE|FILE] TARGET...")
@click.option(
    "--all", "everything", is_flag=True, help="Flash all nodes, in cluster.yaml's order, one to each TARGET."
)
@click.option("--list", "listing", is_flag=True, help="Show the devices, and which are not written, and why.")
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="The cluster.yaml  [default: the one in this or a parent folder]",
)  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Do not ask. What is refused stays refused.")
@click.option("--allow", "allowed", multiple=True, metavar="NAME",
              help="Write this device although it is not removable or is large: its exact name, such as nvme0n1.")  # fmt: skip
@click.option("--no-verify", "unverified", is_flag=True, help="Do not read back what was written.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_obj
def flash(
    progress: Progress,
    /,
    *,
    words: tuple[str, ...],
    everything: bool,
    listing: bool,
    config: Path | None,
    yes: bool,
    allowed: tuple[str, ...],
    unverified: bool,
    as_json: bool,
) -> None:
    """Write a node's image onto a card, and read it back.

    The first argument is a node of cluster.yaml, an image (FILE.img; a block map beside it is used), or a delta. What is
    mounted, holds the running system or is not removable is refused. A run that was interrupted goes on where it stopped.
    """
    from pibake.cli import cards

    if listing:
        if words:
            raise click.UsageError("--list shows all devices; leave the arguments out")
        cards.show(as_json=as_json)
        return
    names, targets = _arguments(words, everything=everything)
    for target in targets:
        cards.check(target, 0, (), allowed)
    jobs = _jobs(names, targets, config, progress)
    for job in jobs:
        cards.check(job.target, job.source.length, job.reads, allowed)
    if not yes:
        cards.ask([(job.name, job.target) for job in jobs])
    done = _write(jobs, progress, verify=not unverified)
    if as_json:
        facts = [
            {"source": job.name, **dataclasses.asdict(flashed)}
            for job, flashed in zip(jobs, done, strict=True)
        ]
        click.echo(json.dumps(facts, indent=2))
        return
    for job, flashed in zip(jobs, done, strict=True):
        click.echo(cards.summary(job.name, flashed))


def _arguments(words: Sequence[str], *, everything: bool) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Return what is to be written (nothing for all nodes) and the targets."""
    if not everything and len(words) != 2:
        raise click.UsageError(
            "name a node or an image, and one target; or --all and one target for each node"
        )
    names, targets = (() if everything else (words[0],)), tuple(Path(w) for w in words[not everything :])
    if len({target.resolve() for target in targets}) < len(targets):
        raise click.UsageError("a target is named twice")
    return names, targets


def _jobs(
    names: Sequence[str], targets: Sequence[Path], config: Path | None, progress: Progress
) -> list[Job]:
    from pibake.cache import Cache
    from pibake.flash import source

    if names and (path := Path(names[0])).suffix == ".delta":
        from pibake.image import delta

        composition = delta.opened(path, Cache(), progress)
        return [Job(path.name, composition, targets[0], (path, composition.base))]
    if names and (path.is_file() or path.suffix == ".img" or "/" in names[0]):
        if not path.is_file():
            raise PibakeError(f"there is no file {path}", "give the path of an image, or the name of a node")
        return [Job(path.name, source.image_file(path, progress), targets[0], (path,))]
    return _nodes(names, targets, config, progress)


def _nodes(
    names: Sequence[str], targets: Sequence[Path], config: Path | None, progress: Progress
) -> list[Job]:
    from pibake import catalog
    from pibake import config as configuration
    from pibake.cache import Cache
    from pibake.cli.config import locate
    from pibake.nodes import compositions
    from pibake.plan import plan

    decided = plan(configuration.load(locate(config), bases=catalog.names()))
    nodes = [decided.node(name) for name in names] if names else list(decided.nodes)
    if len(nodes) != len(targets):
        given = f"{len(targets)} target{'s' if len(targets) != 1 else ''}"
        raise click.UsageError(
            f"{decided.cluster} has {len(nodes)} nodes, and {given} are given: one for each, in order"
        )
    composed = compositions(decided, nodes, cache=Cache(), progress=progress)
    return [
        Job(made.node.hostname, made.image, target, (made.image.base,))
        for made, target in zip(composed, targets, strict=True)
    ]


def _write(jobs: Sequence[Job], progress: Progress, *, verify: bool) -> list[Flashed]:
    """Write all at once, each in a thread of its own; what fails does not stop the others."""
    from pibake.flash import writer

    stop = threading.Event()
    with ThreadPoolExecutor(len(jobs), "pibake-flash") as pool:
        running = [
            pool.submit(
                writer.write, job.source, job.target, progress, label=job.name, verify=verify, stop=stop
            )
            for job in jobs
        ]
        try:
            failures = [error for future in running if (error := future.exception())]
        except (KeyboardInterrupt, SystemExit) as end:
            stop.set()
            click.echo("interrupted; run the same command again to go on", err=True)
            code = end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 130
            sys.exit(code)
    for error in failures[:-1]:
        click.echo(f"{click.style('error:', fg='red')} {error}", err=True)
    if failures:
        raise failures[-1]
    return [future.result() for future in running]
