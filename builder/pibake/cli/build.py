"""`pibake build`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pibake.cli.common import Size

if TYPE_CHECKING:
    from pibake.plan import Plan
    from pibake.progress import Progress

OUT = Path("images/out")
ADHOC = ("base", "address", "gateway", "dns", "ssh_keys", "user")


@click.command(
    epilog="""\b
Examples:
  pibake build --hostname node3
  pibake build --all --compress zst -o /srv/images
  pibake build --all --output delta          a few KiB each; `pibake compose` makes the .img
  pibake build --hostname node9 --base debian-13 --address 192.168.1.9/24 \\
      --gateway 192.168.1.1 --dns 192.168.1.1 --user ops --ssh-key ~/.ssh/id_ed25519.pub"""
)
@click.option(
    "--hostname", "hostnames", multiple=True, metavar="NAME", help="A node to bake; may be given again."
)
@click.option("--all", "everything", is_flag=True, help="Bake every node of the cluster.")
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="The cluster.yaml  [default: the one in this or a parent folder]",
)  # fmt: skip
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=OUT, show_default=True,
              metavar="FOLDER", help="Where the images go.")  # fmt: skip
@click.option(
    "--output",
    type=click.Choice(["img", "qcow2", "delta"]),
    default="img",
    show_default=True,
    help="A whole image; a disk for virtual machines on top of the golden image; or only what differs from that.",
)
@click.option("--compress", type=click.Choice(["zst", "xz"]), help="Write compressed images.")
@click.option(
    "--size", type=Size(), metavar="SIZE", help="Length of the images, like 8G  [default: as small as can be]"
)
@click.option(
    "--base",
    metavar="NAME|SOURCE",
    help="Without a cluster.yaml: the base, by name or as FILE#sha256=... or URL#sha256=....",
)
@click.option("--address", metavar="ADDRESS/PREFIX", help="Without a cluster.yaml: the node's address.")
@click.option("--gateway", metavar="ADDRESS", help="Without a cluster.yaml: the default gateway.")
@click.option(
    "--dns", multiple=True, metavar="ADDRESS", help="Without a cluster.yaml: a name server; up to three."
)
@click.option(
    "--ssh-key",
    "ssh_keys",
    multiple=True,
    metavar="KEY|FILE|URL",
    help="Without a cluster.yaml: who may log in.",
)
@click.option("--user", metavar="NAME", help="Without a cluster.yaml: the account to make.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@click.pass_obj
def build(
    progress: Progress,
    /,
    *,
    hostnames: tuple[str, ...],
    everything: bool,
    config: Path | None,
    out: Path,
    output: str,
    compress: str | None,
    size: int | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Bake flash-ready card images.

    Each node becomes NAME.img with NAME.img.sha256, NAME.bmap and NAME.manifest.json. The same inputs give the same
    bytes. Several nodes are made at once; what they share is made once and kept.
    """
    from pibake import build as pipeline
    from pibake.cache import Cache

    if everything == bool(hostnames):
        raise click.UsageError("name nodes with --hostname, or give --all")
    if compress and output != "img":
        raise click.UsageError("--compress goes with --output img: the others are small as they are")
    plan = _plan(config, hostnames, {name: flags[name] for name in ADHOC if flags[name]})
    nodes = plan.nodes if everything else tuple(dict.fromkeys(plan.node(name) for name in hostnames))
    made = []
    form = pipeline.Form(output, compress or "", size or 0)
    for built in pipeline.build(plan, nodes, out=out, cache=Cache(), progress=progress, form=form):
        made.append(built)
        if not as_json:
            click.echo(f"{built.image}  sha256 {built.sha256[:16]}...  {built.seconds:.1f} s")
    if as_json:
        facts = [
            {"hostname": b.hostname, "image": str(b.image), "sha256": b.sha256, "manifest": str(b.manifest)}
            for b in made
        ]
        click.echo(json.dumps(facts, indent=2))


def _plan(config: Path | None, hostnames: tuple[str, ...], flags: dict[str, Any]) -> Plan:
    from pibake import catalog
    from pibake import config as configuration
    from pibake.cli.config import locate
    from pibake.plan import plan

    if flags:
        if config:
            raise click.UsageError("flags that describe a node go without a cluster.yaml, not with -c")
        if len(hostnames) != 1:
            raise click.UsageError("without a cluster.yaml, name exactly one node with --hostname")
        return plan(configuration.adhoc(hostname=hostnames[0], bases=catalog.names(), **flags))
    return plan(configuration.load(locate(config), bases=catalog.names()))
