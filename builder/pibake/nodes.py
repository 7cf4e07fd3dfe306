"""The images of nodes, composed and not yet written: from a plan, its identities and its bases.

Flashing, building and sharing all begin here.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake import __version__, ground, keys, kube, vault
from pibake.errors import PibakeError, about
from pibake.image import artifact, pieces, seeding
from pibake.image.composition import Composition, compose
from pibake.image.layout import boot_partition, boot_text
from pibake.kube import addons
from pibake.plan import node_json
from pibake.run import find
from pibake.secret import Secret
from pibake.seed import Origin, Seed, seed, templates, vehicle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.ground import Ground
    from pibake.identity import Secrets
    from pibake.image.pieces import Piece
    from pibake.plan import NodePlan, Plan
    from pibake.progress import Progress

DAY = 86400


@dataclass(frozen=True)
class Job:
    """What every node of one run shares; `pieces` are those of each image that nodes are made from, by its sha256."""

    cluster: str
    cache: Cache
    progress: Progress
    pieces: Mapping[str, Sequence[Piece]]
    keys: Mapping[str, Sequence[str]]
    sources: tuple[Path, ...] = ()
    secrets: Secrets | None = None
    extras: kube.Extras = kube.Extras()  # noqa: RUF009 - immutable
    size: int = 0

    @functools.cached_property
    def inputs(self) -> Mapping[str, str]:
        """The sha256 of each file that the plan came from, by its path."""
        return {str(path): artifact.sha256(path) for path in self.sources}


@dataclass(frozen=True)
class Composed:
    """A node's image before it is written anywhere, and what it is made of."""

    node: NodePlan
    on: Ground
    seed: Seed
    epoch: int
    image: Composition


def compositions(
    plan: Plan, nodes: Sequence[NodePlan], *, cache: Cache, progress: Progress, size: int = 0
) -> Iterator[Composed]:
    """Yield the images of `nodes` one by one, without writing them anywhere.

    Raises:
        PibakeError: anything that failed, about the node it failed on.
    """
    job, found = prepare(plan, nodes, cache, progress, size)
    for node in nodes:
        with about(node.hostname):
            yield compose_node(node, found[node.hostname], job)


def prepare(
    plan: Plan, nodes: Sequence[NodePlan], cache: Cache, progress: Progress, length: int
) -> tuple[Job, dict[str, Ground]]:
    """Issue the identities and obtain every base before the first node is made: a failed download leaves no half of a fleet."""
    find("mcopy", "build images")
    secrets = vault.Vault(plan.folder / vault.FOLDER).issue(vault.wanted(plan)) if plan.folder else None
    credentials = extras(plan, secrets)
    people = keys.resolve(nodes)
    found = ground.grounds(plan, nodes, cache, progress)
    known = {
        digest: pieces.of(base, cache, progress)
        for digest, base in {on.base.sha256: on.base for on in found.values()}.items()
    }
    return Job(
        plan.cluster, cache, progress, known, people, plan.sources, secrets, credentials, length
    ), found


def compose_node(node: NodePlan, on: Ground, job: Job) -> Composed:
    """Render a node's seed, and compose its image of the golden image and what the seed changes."""
    base = on.base
    epoch = source_date_epoch(base, job.sources)
    seeded = render_seed(node, on, boot_partition(base.image).start, job, epoch)
    length = seeding.length_of(base.image, job.size)
    patches = seeding.patches(base.image, seeded.tree, epoch=epoch, length=length)
    image = compose(
        base.image,
        base.sha256,
        job.pieces[base.sha256],
        patches,
        length=length,
        secret=len(seeded.secret) > 0,
    )
    return Composed(node, on, seeded, epoch, image)


def described(node: NodePlan, on: Ground, seeded: Seed, epoch: int, job: Job) -> dict[str, Any]:
    """Return everything that went into a node, without any secret: enough to make the same again."""
    base = on.base
    return {
        "pibake": __version__,
        "node": node_json(node),
        "hosts": [vars(host) for host in node.hosts],
        "host_key": job.secrets.nodes[node.hostname].host_key.public if job.secrets else None,
        "ssh_keys": {user.name: list(job.keys[user.name]) for user in node.users},
        "base": {"name": base.name, "sha256": base.sha256, **base.info},
        "inputs": dict(job.inputs),
        "source_date_epoch": epoch,
        "vehicle": vehicle(on.system),
        "network": on.system.network,
        "instance_id": seeded.instance_id,
        "seed": {path: hashlib.sha256(file.data).hexdigest() for path, file in seeded.tree},
        "made_with": {"python": platform.python_version()},
    }


def extras(plan: Plan, secrets: Secrets | None) -> kube.Extras:
    """Return the texts of the files with credentials that cluster.yaml names, and the add-ons' Secrets."""
    kubernetes = plan.kubernetes
    if kubernetes is None:
        return kube.Extras()
    datastore, registries = (
        _secret(path) if path else None for path in (kubernetes.datastore, kubernetes.registries)
    )
    manifest = addon_secrets(plan, secrets)
    return kube.Extras(datastore, registries, Secret(manifest.dump()) if manifest else None)


def addon_secrets(plan: Plan, secrets: Secrets | None) -> addons.Manifest | None:
    """Return the Secrets of all add-ons, with what is in the user's files and what was made up; None if there are none."""
    made_up = secrets.addons if secrets else {}
    known = {
        addon.name: {
            **made_up.get(addon.name, {}),
            **{option: _secret(path) for option, path in addon.secrets.items()},
        }
        for addon in plan.addons
    }
    return addons.secret_manifest(plan, known)


def _secret(path: Path) -> Secret:
    return Secret(path.read_text("utf-8"))


def render_seed(node: NodePlan, on: Ground, offset: int, job: Job, epoch: int) -> Seed:
    """Render a node's seed for a base: its templates are rendered, and the base's own kernel command lines are kept."""
    base, system = on.base, on.system
    names = (system.config, *system.cmdlines)
    texts = on.texts or {name: boot_text(base.image, base.sha256, offset, name) for name in names}
    # a golden image names the base it was made of
    base_sha256 = base.info.get("base_sha256", base.sha256)
    return seed(
        node,
        job.keys,
        templates.render(node),
        system=system,
        boot=texts,
        origin=Origin(job.cluster, base.name, base_sha256, base.sha256),
        secrets=job.secrets,
        extras=job.extras,
        epoch=epoch,
    )


def source_date_epoch(base: Base, sources: Sequence[Path]) -> int:
    """Return the time that goes into an image: SOURCE_DATE_EPOCH, or the newest of its inputs and today's midnight.

    It is where the node's clock starts, so it must not be older than any key or certificate on the card; and it
    must not be the time of the run, or the same inputs would never give the same bytes. The manifest holds it.
    """
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        if not given.isdigit():
            raise PibakeError(f"SOURCE_DATE_EPOCH is {given!r}, which is no number of seconds since 1970")
        return int(given)
    midnight = int(time.time()) // DAY * DAY
    return max(base.created, midnight, *(int(source.stat().st_mtime) for source in sources))
