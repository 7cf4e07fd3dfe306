"""`pibake reseed`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.cli.common import config_option

if TYPE_CHECKING:
    from pibake.progress import Progress
    from pibake.reseed import Reseed


@click.command(
    epilog="""\b
Examples:
  pibake reseed node3 /dev/sdX --dry-run
  pibake reseed node3 /dev/sdX
  pibake reseed node3 images/out/node3.img --yes"""
)
@config_option
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before a device is written.")
@click.option("--json", "as_json", is_flag=True, help="Print what changes as JSON.")
@click.argument("name", metavar="NODE")
@click.argument("target", type=click.Path(path_type=Path), metavar="DEVICE|IMG")
@click.pass_obj
def reseed(
    progress: Progress,
    /,
    *,
    config: Path | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    name: str,
    target: Path,
) -> None:
    """Give NODE's card the seed that cluster.yaml describes today: address, users, keys, tokens.

    Only the few files of the seed are written, in an order that survives a power cut. The node applies them the next
    time it boots. The card must be NODE's, made from a base that is still in the cache.
    """
    from pibake import catalog
    from pibake import config as configuration
    from pibake import reseed as work
    from pibake.cache import Cache
    from pibake.cli.config import locate
    from pibake.image.rewrite import rewrite
    from pibake.plan import plan

    decided = plan(configuration.load(locate(config), bases=catalog.names()))
    node = decided.node(name)
    change = work.prepare(decided, node, target, Cache(), progress)
    if not as_json:
        _show(change)
    if change.words and not dry_run:
        if target.is_block_device() and not yes:
            click.confirm(f"write the new seed of {node.hostname} to {target}?", abort=True, err=True)
        rewrite(target, change.writes)
        if not as_json:
            click.echo(f"{target} has the new seed; {node.hostname} applies it the next time it boots")
            if Path(f"{target}.sha256").exists():
                click.echo(f"{target}.sha256 and the manifest tell of the image as it was built", err=True)
    if as_json:
        facts = {
            "hostname": node.hostname,
            "target": str(target),
            "written": bool(change.words) and not dry_run,
            "changes": list(change.words),
            "warnings": list(change.warnings),
            "instance_id": {"old": change.card.instance_id, "new": change.marker.instance_id},
        }
        click.echo(json.dumps(facts, indent=2))


def _show(change: Reseed) -> None:
    from pibake.cli.system import plain

    if not change.words:
        click.echo(f"{change.card.path} has this very seed already")
    for words in change.words:
        click.echo(plain(words))
    for warning in change.warnings:
        click.echo(f"warning: {plain(warning)}", err=True)
