"""The pipeline from a plan to flash-ready images, readable from top to bottom."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pibake import __version__, ground, keys, kube, vault
from pibake.errors import PibakeError, about
from pibake.image import artifact, fat, table
from pibake.image.clone import Copy, allocated
from pibake.image.layout import boot_partition, boot_text
from pibake.plan import node_json
from pibake.progress import size
from pibake.run import find
from pibake.secret import Secret
from pibake.seed import Seed, seed, templates, vehicle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.ground import Ground
    from pibake.identity import Secrets
    from pibake.plan import Kubernetes, NodePlan, Plan
    from pibake.progress import Progress

DAY = 86400


@dataclass(frozen=True)
class Built:
    """One finished node: where its image is, its digest, and what it was made of."""

    hostname: str
    image: Path
    sha256: str
    manifest: Path
    seconds: float


@dataclass(frozen=True)
class Job:
    """What every node of one run shares."""

    out: Path
    cache: Cache
    progress: Progress
    keys: Mapping[str, Sequence[str]]
    sources: tuple[Path, ...] = ()
    compress: str = ""
    secrets: Secrets | None = None
    extras: kube.Extras = kube.Extras()  # noqa: RUF009 - immutable


def build(
    plan: Plan, nodes: Sequence[NodePlan], *, out: Path, cache: Cache, progress: Progress, compress: str = ""
) -> Iterator[Built]:
    """Bake the images of `nodes`, yielding each as it is finished.

    Args:
        plan: the whole cluster.
        nodes: which of its nodes to bake.
        out: folder for the images; made if missing.
        cache: where base images are kept.
        progress: where to show what is going on.
        compress: "zst" or "xz" to write compressed images, or "" for plain ones.

    Raises:
        PibakeError: anything that failed, about the node it failed on; nothing half-made is left.
    """
    for tool in ("mcopy", "xz") if compress == "xz" else ("mcopy",):
        find(tool, "build images")
    extras = _extras(plan.kubernetes)
    secrets = vault.Vault(plan.folder / vault.FOLDER).issue(vault.wanted(plan)) if plan.folder else None
    job = Job(out, cache, progress, keys.resolve(nodes), plan.sources, compress, secrets, extras)
    # Each base and golden image is made before the first node: a failed download leaves no half of a fleet.
    found = ground.grounds(plan, nodes, cache, progress)
    _check_space(job, [found[node.hostname].base for node in nodes])
    for node in nodes:
        with about(node.hostname), cache.lock(f"out-{out.resolve() / node.image_name}", progress):
            yield build_node(node, found[node.hostname], job)


def build_node(node: NodePlan, on: Ground, job: Job) -> Built:
    """Bake one node from a base image: copy, seed, digest, manifest."""
    started = time.monotonic()
    base = on.base
    boot = boot_partition(base.image)
    epoch = source_date_epoch(base, job.sources)
    seeded = render_seed(node, on, boot.start, job, epoch)
    name = node.image_name + (f".{job.compress}" if job.compress else "")
    manifest_name = f"{node.hostname}.manifest.json"
    with artifact.workplace(job.out, node.image_name, name, f"{name}.sha256", manifest_name) as work:
        raw = work.part(node.image_name) if not job.compress else work.scratch(node.image_name)
        if len(seeded.secret):
            raw.touch(mode=0o600, exist_ok=False)
        with job.progress.task(f"bake {node.hostname}", total=allocated(base.image)) as task:
            copied = 0

            def on_bytes(count: int) -> None:
                nonlocal copied
                copied += count
                task.update(copied)

            copy = Copy(base.image, raw, on_bytes)
            copy.head(boot.start + boot.size)
            fat.write(raw, boot.start, seeded.tree, epoch=epoch)
            digest = copy.rest()
        facts = {"file": node.image_name, "bytes": copy.length, "sha256": digest}
        if job.compress:
            final = work.part(name)
            final.touch(mode=raw.stat().st_mode & 0o777, exist_ok=False)
            with job.progress.task(f"compress {node.hostname}", total=copy.length) as task:
                artifact.compress(raw, final, job.compress, task)
            digest = artifact.sha256(final)
            facts["compressed"] = {"file": name, "bytes": final.stat().st_size, "sha256": digest}
        work.part(f"{name}.sha256").write_text(f"{digest}  {name}\n")
        manifest = _manifest(node, on, seeded, job, epoch=epoch, image=facts)
        work.part(manifest_name).write_text(json.dumps(manifest, indent=2) + "\n")
        work.publish()
    return Built(node.hostname, job.out / name, digest, job.out / manifest_name, time.monotonic() - started)


def _extras(kubernetes: Kubernetes | None) -> kube.Extras:
    """Read the files with credentials that cluster.yaml names."""
    if kubernetes is None:
        return kube.Extras()
    texts = [
        Secret(path.read_text("utf-8")) if path else None
        for path in (kubernetes.datastore, kubernetes.registries)
    ]
    return kube.Extras(*texts)


def render_seed(node: NodePlan, on: Ground, offset: int, job: Job, epoch: int) -> Seed:
    """Render a node's seed for a base: its templates are rendered, and the base's own kernel command lines are kept."""
    base, system = on.base, on.system
    names = (system.config, *system.cmdlines)
    texts = {name: boot_text(base.image, base.sha256, offset, name) for name in names}
    return seed(
        node,
        job.keys,
        templates.render(node),
        system=system,
        boot=texts,
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


def _check_space(job: Job, wanted: Sequence[Base]) -> None:
    job.out.mkdir(parents=True, exist_ok=True)
    needed = sum(allocated(base.image) for base in wanted)
    state = os.statvfs(job.out)
    free = state.f_bavail * state.f_frsize
    if needed > free and not job.compress:
        raise PibakeError(
            f"{job.out} has {size(free)} free; {len(wanted)} image(s) need {size(needed)}",
            "free some space, choose another folder with -o, or write compressed images with --compress zst",
        )


def _manifest(
    node: NodePlan, on: Ground, seeded: Seed, job: Job, *, epoch: int, image: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that went into an image, without any secret: enough to make the same bytes again."""
    base = on.base
    return {
        "pibake": __version__,
        "node": node_json(node),
        "hosts": [asdict(host) for host in node.hosts],
        "host_key": job.secrets.nodes[node.hostname].host_key.public if job.secrets else None,
        "ssh_keys": {user.name: list(job.keys[user.name]) for user in node.users},
        "base": {"name": base.name, "sha256": base.sha256, **base.info},
        "inputs": {str(path): artifact.sha256(path) for path in job.sources},
        "source_date_epoch": epoch,
        "vehicle": vehicle(on.system),
        "network": on.system.network,
        "instance_id": seeded.instance_id,
        "seed": {path: hashlib.sha256(file.data).hexdigest() for path, file in seeded.tree},
        "image": image,
        "partitions": [asdict(partition) for partition in table.read(base.image).partitions],
        "made_with": {"python": platform.python_version()},
    }
