"""The pipeline from a plan to flash-ready images, readable from top to bottom."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pibake.crew import Crew
from pibake.errors import PibakeError, about
from pibake.image import artifact, bmap, delta, qcow2, seeding, table
from pibake.image.clone import clone
from pibake.image.pieces import volume
from pibake.nodes import compose_node, described, prepare
from pibake.progress import size
from pibake.run import find

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.ground import Ground
    from pibake.nodes import Composed, Job, described
    from pibake.plan import NodePlan, Plan
    from pibake.progress import Progress


@dataclass(frozen=True)
class Built:
    """One finished node: where its image is, its digest, and what it was made of."""

    hostname: str
    image: Path
    sha256: str
    manifest: Path
    seconds: float


@dataclass(frozen=True)
class Form:
    """What images are written as.

    Attributes:
        output: "img", "qcow2" or "delta".
        compress: "zst" or "xz" for compressed .img files, or "".
        size: bytes of every image; those of its base by default.
    """

    output: str = "img"
    compress: str = ""
    size: int = 0


@dataclass(frozen=True)
class Run:
    """One run of `build`: where to, as what, and who does it."""

    out: Path
    form: Form
    job: Job
    crew: Crew


def build(
    plan: Plan,
    nodes: Sequence[NodePlan],
    *,
    out: Path,
    cache: Cache,
    progress: Progress,
    form: Form = Form(),
) -> Iterator[Built]:
    """Bake the images of `nodes`, several at once, yielding them in their order.

    Args:
        plan: the whole cluster.
        nodes: which of its nodes to bake.
        out: folder for the images; made if missing.
        cache: where base images are kept.
        progress: where to show what is going on.
        form: what to write.

    Raises:
        PibakeError: anything that failed, about the node it failed on; nothing half-made is left.
    """
    if form.compress == "xz":
        find("xz", "compress images")
    job, found = prepare(plan, nodes, cache, progress, form.size)
    images = [found[node.hostname].base for node in nodes] if form.output == "img" else []
    total = sum(volume(job.pieces[base.sha256]) for base in images)
    if form.compress:
        total += sum(seeding.length_of(base.image, form.size) for base in images)
    else:
        _check_space(out, total, len(nodes))
    label = f"bake {nodes[0].hostname}" if len(nodes) == 1 else f"bake {len(nodes)} nodes"
    with progress.task(label, total=total) as task:
        run = Run(out, form, job, Crew(task))
        yield from run.crew.each(lambda node: _build_node(node, found[node.hostname], run), nodes)


def _build_node(node: NodePlan, on: Ground, run: Run) -> Built:
    """Bake one node from its golden image: compose, write, digest, manifest."""
    started = time.monotonic()
    out, form = run.out, run.form
    name = f"{node.hostname}.{form.output}" + (f".{form.compress}" if form.compress else "")
    kind = "" if form.output == "img" else f".{form.output}"
    manifest_name = f"{node.hostname}{kind}.manifest.json"
    with about(node.hostname), run.job.cache.lock(f"out-{out.resolve() / name}", run.job.progress):
        made = compose_node(node, on, run.job)
        beside = (f"{name}.sha256", f"{node.hostname}.bmap", manifest_name)
        with artifact.workplace(out, node.image_name, name, *beside) as work:
            final = work.part(name)
            final.touch(mode=0o600 if made.image.secret else 0o644, exist_ok=False)
            facts = _write(made, final, work, run)
            work.part(f"{name}.sha256").write_text(f"{facts['sha256']}  {name}\n")
            if form.output == "img":
                work.part(f"{node.hostname}.bmap").write_text(
                    bmap.render(made.image.pieces, made.image.length)
                )
            manifest = _manifest(made, run.job, {"file": name, **facts})
            work.part(manifest_name).write_text(json.dumps(manifest, indent=2) + "\n")
            work.publish()
    return Built(node.hostname, out / name, facts["sha256"], out / manifest_name, time.monotonic() - started)


def _write(made: Composed, final: Path, work: artifact.Workplace, run: Run) -> dict[str, Any]:
    """Write a composed image as its form says, and return what the manifest tells of the file."""
    image = made.image
    whole = {"image_bytes": image.length, "pieces_sha256": image.digest}
    add = run.crew.add
    match run.form.output:
        case "delta":
            node = {"hostname": made.node.hostname, "cluster": run.job.cluster}
            delta.write(image, final, node=node, base_name=made.on.base.name, epoch=made.epoch)
        case "qcow2":
            qcow2.write(image, final)
            whole["backing_file"] = str(image.base)
        case _ if run.form.compress:
            raw = work.scratch(made.node.image_name)
            raw.touch(mode=final.stat().st_mode & 0o777, exist_ok=False)
            whole["image_sha256"] = clone(image, raw, add)
            artifact.compress(raw, final, run.form.compress, add)
        case _:
            return {**whole, "bytes": image.length, "sha256": clone(image, final, add)}
    return {**whole, "bytes": final.stat().st_size, "sha256": artifact.sha256(final)}


def _check_space(out: Path, needed: int, count: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise PibakeError(
            f"{out} has {size(free)} free; {count} image(s) need {size(needed)}",
            "free some space, choose another folder with -o, or write less: --output delta, or --compress zst",
        )


def _manifest(made: Composed, job: Job, image: dict[str, Any]) -> dict[str, Any]:
    return {
        **described(made.node, made.on, made.seed, made.epoch, job),
        "image": image,
        "partitions": [asdict(partition) for partition in table.read(made.on.base.image).partitions],
    }
