"""`pibake compose`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pibake.progress import Progress


@click.command(
    epilog="""\b
Examples:
  pibake compose images/out/node3.delta
  pibake compose *.delta -o /srv/images
  pibake compose node3.delta --golden /mnt/store/golden.img"""
)
@click.argument("deltas", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.delta...")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Where the images go  [default: beside each delta]")  # fmt: skip
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The golden image, if it is not in the cache.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@click.pass_obj
def compose(
    progress: Progress, /, *, deltas: tuple[Path, ...], out: Path | None, golden: Path | None, as_json: bool
) -> None:
    """Make the images of delta files.

    A delta holds what of a node's image differs from its golden image, which has to be in the cache or given. The
    image has the same bytes as that of `pibake build`.
    """
    from pibake.cache import Cache
    from pibake.unpack import unpack

    made = []
    for path in deltas:
        done = unpack(path, out=out or path.parent, cache=Cache(), progress=progress, golden=golden)
        made.append(done)
        if not as_json:
            click.echo(f"{done.image}  sha256 {done.sha256[:16]}...")
    if as_json:
        click.echo(json.dumps([{"image": str(d.image), "sha256": d.sha256} for d in made], indent=2))
