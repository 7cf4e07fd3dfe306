"""`pibake push` and `pibake pull`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pibake.cli.common import config_option

if TYPE_CHECKING:
    from pibake.cache import Cache
    from pibake.plan import Plan
    from pibake.progress import Progress
    from pibake.share.artifact import Artifact

OUT = Path("images/out")


@click.command(
    epilog="""\b
Examples:
  pibake push registry.lab.example/pibake/lab
  pibake push registry.lab.example/pibake/cards:monday --deltas images/out
  pibake push localhost:5000/lab --json"""
)
@click.argument("target", metavar="REGISTRY/REPOSITORY[:TAG]")
@config_option
@click.option(
    "--deltas", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER",
    help="Push FOLDER/*.delta, too. They hold secrets, so who may read the repository may join the cluster.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what was pushed as JSON.")
@click.pass_obj
def push(progress: Progress, *, target: str, config: Path | None, deltas: Path | None, as_json: bool) -> None:
    """Push what the nodes are made from to an OCI registry, for other stations.

    Golden images and the bases they were made of go there in pieces; what is missing in the cache is made first, and
    what the registry has already is not sent again. Plain http is spoken with registries on this host only, https with all others.

    Credentials are those of `docker login` (~/.docker/config.json), or PIBAKE_REGISTRY_USER and PIBAKE_REGISTRY_PASSWORD.
    """
    from pibake import catalog
    from pibake import config as configuration
    from pibake.cache import Cache
    from pibake.cli.config import locate
    from pibake.image import delta
    from pibake.plan import plan
    from pibake.share.push import push as send
    from pibake.share.reference import Reference

    reference = Reference.parse(target)
    if reference.sha256:
        raise click.UsageError("push to a tag: the digest is what comes of it")
    cache = Cache()
    files = {path: delta.read(path).base_sha256 for path in sorted(deltas.glob("*.delta"))} if deltas else {}
    if deltas and not files:
        raise click.UsageError(f"there is no *.delta in {deltas}; `pibake build --output delta` makes them")
    images = _images(plan(configuration.load(locate(config), bases=catalog.names())), cache, progress)
    done = send(reference, images, files, cache, progress)
    if as_json:
        facts = _facts(done.artifact)
        click.echo(
            json.dumps(
                {"reference": str(reference), "digest": done.digest, "sent": done.sent, **facts}, indent=2
            )
        )
        return
    _list(done.artifact)
    click.echo(f"{reference.registry}/{reference.repository}@{done.digest}")


@click.command(
    epilog="""\b
Examples:
  pibake pull registry.lab.example/pibake/lab
  pibake pull registry.lab.example/pibake/cards:monday -o /srv/cards"""
)
@click.argument("source", metavar="REGISTRY/REPOSITORY[:TAG|@DIGEST]")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=OUT, show_default=True,
              metavar="FOLDER", help="Where deltas go, readable by you only.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what was pulled as JSON.")
@click.pass_obj
def pull(progress: Progress, *, source: str, out: Path, as_json: bool) -> None:
    """Pull what another station has pushed: images into the cache, deltas into a folder.

    What is in the cache already is not fetched, and an interrupted pull goes on where it stopped. Images are trusted as far as
    who may push to the repository; name the digest that `pibake push` printed to get just that.
    """
    from pibake.cache import Cache
    from pibake.share.pull import pull as receive
    from pibake.share.reference import Reference

    cache = Cache()
    done = receive(Reference.parse(source), out, cache, progress)
    if as_json:
        facts = _facts(done.artifact)
        for image in facts["images"]:
            image["image"] = str(cache.path(image["sha256"]))
        facts["deltas"] = [
            {**delta, "file": str(path)} for delta, path in zip(facts["deltas"], done.deltas, strict=True)
        ]
        click.echo(json.dumps({"reference": source, "digest": done.digest, **facts}, indent=2))
        return
    _list(done.artifact)


def _images(plan: Plan, cache: Cache, progress: Progress) -> list[str]:
    """Return the sha256 of what each node of the cluster is made from, which is made now if it is missing."""
    from pibake import ground

    found = ground.grounds(plan, plan.nodes, cache, progress)
    return list(dict.fromkeys(on.base.sha256 for on in found.values()))


def _facts(artifact: Artifact) -> dict[str, Any]:
    return {
        "images": [{"name": i.name, "sha256": i.sha256, "bytes": i.length} for i in artifact.images],
        "deltas": [{"name": d.name, "golden_sha256": d.image} for d in artifact.deltas],
    }


def _list(artifact: Artifact) -> None:
    for image in artifact.images:
        click.echo(f"{image.name}  sha256 {image.sha256[:16]}...")
    for delta in artifact.deltas:
        click.echo(f"{delta.name}  for the image {delta.image[:16]}...")
