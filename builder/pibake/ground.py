"""What nodes are made from: a base, or a golden image of it, and what its image says of the system in it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import bases, catalog, delivery, fit, recipe, uses
from pibake.errors import PibakeError
from pibake.image import fat
from pibake.image.golden import golden, key_of
from pibake.image.layout import boot_partition
from pibake.seed import templates

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


def grounds(plan: Plan, nodes: Sequence[NodePlan], cache: Cache, progress: Progress) -> dict[str, Ground]:
    """Return what nodes are made from, by hostname: the base itself, or a golden image of it.

    A node's golden image depends on that node alone: building some gives the same images as building all.

    Args:
        plan: the whole cluster.
        nodes: which of its nodes are made now.
        cache: where bases and golden images are kept.
        progress: where to show what is going on, and what to know about it.

    Raises:
        ConfigError: a template of an overlay cannot be rendered for one of the nodes, an owner is not known, or a
            manifest of the user's is not what Kubernetes takes.
        PibakeError: a node and its base do not go together, or something that is baked in could not be had.
    """
    templates.check(nodes)
    if plan.addons:
        from pibake.kube import addons, review  # noqa: PLC0415 - a tenth of a second that only add-ons should cost

        for doubt in review.check(plan, addons.render(plan)):
            progress.say(f"warning: {doubt}")
    before, keys = uses.last(plan, cache), dict.fromkeys((node.hostname for node in nodes), "")
    found: dict[str, Ground] = {}
    brought = delivery.of(plan, cache, progress)
    if brought and (charts := brought.unlisted()):
        progress.say(
            f"warning: with `airgap`, nodes still ask registries for the images of {', '.join(charts)}: nobody says which these are\n"
            "  hint: name them, in `images:` of the add-on"
        )
    for ref in dict.fromkeys(node.base for node in nodes):
        mine = [node for node in nodes if node.base == ref]
        base = bases.obtain(ref, cache, progress)
        system = bases.system(base, cache)
        judge(ref, base, system, mine, progress)
        recipes = {node.hostname: recipe.of(node, system, addons=brought) for node in mine}
        for wanted in dict.fromkeys(recipes.values()):
            names = [name for name, one in recipes.items() if one == wanted]
            payload = recipe.obtain(
                wanted, base, system, cache, progress, kubernetes=plan.kubernetes, addons=brought
            )
            former = next((before[name] for name in names if name in before), "")
            on = Ground(golden(base, payload, cache, progress, former=former), system)
            found |= dict.fromkeys(names, on)
            keys |= dict.fromkeys(names, key_of(base, payload) if payload.key else "")
    uses.remember(plan, keys, cache, progress)
    return found


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
