"""What nodes are made from: a base, or a golden image of it, and what its image says of the system in it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import bases, catalog, fit, payload
from pibake.errors import PibakeError
from pibake.image import fat
from pibake.image.golden import Payload, golden
from pibake.image.layout import boot_partition
from pibake.seed import early

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.plan import BaseRef, NodePlan, Plan
    from pibake.progress import Progress
    from pibake.system import System

WORDS = {fit.Level.WARNED: "warning", fit.Level.NOTE: "note"}


@dataclass(frozen=True)
class Ground:
    """What nodes are made from: the image that is copied, and what its base says of the system in it.

    `texts` are the firmware's texts by name where they are not those of the image: a card that was booted has its own.
    """

    base: Base
    system: System
    texts: Mapping[str, str] | None = None


def obtain(ref: BaseRef, plan: Plan, nodes: Sequence[NodePlan], cache: Cache, progress: Progress) -> Ground:
    """Return what the nodes of a base are made from: the base itself, or a golden image of it.

    Args:
        ref: what cluster.yaml calls the base.
        plan: the whole cluster.
        nodes: which of its nodes are made now.
        cache: where bases and golden images are kept.
        progress: where to show what is going on, and what to know about it.

    Raises:
        PibakeError: a node and the base do not go together.
    """
    base = bases.obtain(ref, cache, progress)
    system = bases.system(base, cache)
    judge(ref, base, system, [node for node in nodes if node.base == ref], progress)
    wanted = Payload()
    if plan.kubernetes:
        wanted = payload.obtain(plan.kubernetes, base, cache, progress, arch=system.arch)
    # all nodes of the plan count, so that building some of them gives the same images as building all
    if any(early(node, system) for node in plan.nodes if node.base == ref):
        wanted = payload.with_seed_unit(wanted, system, cache)
    return Ground(golden(base, wanted, cache, progress), system)


def judge(ref: BaseRef, base: Base, system: System, nodes: Sequence[NodePlan], progress: Progress) -> None:
    """Say what does not go together, once for each thing to say, and stop where nothing good can come of it."""
    entry = catalog.entry(ref.name) if ref.name else None
    files = fat.listing(base.image, boot_partition(base.image).start, deep=True)
    today = dt.datetime.now(dt.UTC).date()
    found = [
        finding
        for node in nodes
        for finding in fit.fit(
            node,
            system,
            entry.boards if entry else (),
            today=today,
            end_of_life=entry.end_of_life if entry else None,
            boot_files=files,
        )
    ]
    if system.customised:
        progress.say(f"warning: {base.name} is not as its vendor made it: {system.customised}")
    for finding in dict.fromkeys(found):
        if finding.level is not fit.Level.REFUSED:
            progress.say(f"{WORDS[finding.level]}: {finding.message}\n  hint: {finding.hint}")
    if refused := [finding for finding in dict.fromkeys(found) if finding.level is fit.Level.REFUSED]:
        raise PibakeError(
            "\n".join(f.message for f in refused), "\n".join(dict.fromkeys(f.hint for f in refused))
        )
