"""A new seed on a card that exists: the same node, the same base, and nothing else on the card is touched.

`prepare` decides and reads only; its writes go to `image.rewrite`. The seed is that of a new image, but the firmware's texts
stay the card's own except for what is pibake's in them: people edit them, and systems do at their first boot, when Raspberry
Pi OS gives its disk another number.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import bases, card, delivery, keys, nodes, recipe, vault
from pibake.errors import PibakeError
from pibake.ground import Ground, judge
from pibake.image import ext4, fat
from pibake.image.ext4_tree import Files
from pibake.image.fat_replace import replace
from pibake.image.golden import key_of
from pibake.image.layout import boot_partition
from pibake.image.rewrite import in_use
from pibake.seed import FILES_FILE, MARKER_FILE, SECRETS_FILE, Marker, Vehicle, changes, early
from pibake.seed.marker import read as read_marker
from pibake.seed.marker import release

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.card import Card
    from pibake.image.fat_replace import Write
    from pibake.plan import NodePlan, Plan
    from pibake.progress import Progress
    from pibake.system import System

UNIT = "etc/systemd/system/pibake-seed.service"
INSTALLER = "etc/systemd/system/pibake-install.service"
FIREWALL = "etc/systemd/system/pibake-firewall.service"
ORDER = (SECRETS_FILE, "network-config", "user-data", FILES_FILE, "meta-data", MARKER_FILE)
"""What a seed may have on the boot partition, as it is replaced: what makes a node apply it comes after what is applied."""
OURS = ("net.ifnames=", "cfg80211.ieee80211_regdom=")
"""Words that seeds put on kernel command lines and later ones may leave out; `seed.kernel_cmdline` sees to the others."""
FLASH = "flash the card anew: `pibake build --hostname {}`"


@dataclass(frozen=True)
class Reseed:
    """What is about to be done to a card.

    Attributes:
        card: what it holds now.
        marker: what it will hold.
        words: what is another in the new seed; empty if there is nothing to do.
        warnings: what of the old seed a booted node will keep.
        writes: the writes, in their order.
    """

    card: Card
    marker: Marker
    words: tuple[str, ...]
    warnings: tuple[str, ...]
    writes: tuple[Write, ...]


def prepare(plan: Plan, node: NodePlan, path: Path, cache: Cache, progress: Progress) -> Reseed:
    """Return what reseeding the card `path` as `node` comes to; nothing is written.

    Raises:
        PibakeError: the card cannot be made this node by another seed; the hint says what to do instead.
    """
    in_use(path)
    found = card.read(path)
    marker, root = belongs(found, plan, node)
    base = _base(marker, node, cache, progress)
    system = bases.system(base, cache)
    _carries(found, node, system)
    judge(node.base, base, system, [node], progress)
    start = found.partitions.partitions[0].start
    texts = (*system.cmdlines, system.config)
    names = dict.fromkeys((*ORDER[:3], *texts, *ORDER[3:]))
    there = fat.contents(path, start, names)
    vendors = fat.contents(base.image, boot_partition(base.image).start, names)
    new = _render(plan, node, Ground(base, system, _own_texts(there, vendors, texts)), cache, progress)
    _rename(new, found)
    wanted = {name: new.get(name) or (there if name in texts else vendors).get(name) for name in names}
    after = read_marker(wanted[MARKER_FILE] or b"")
    same = marker.instance_id == found.instance_id == after.instance_id
    if same and root.booted and not found.secrets:
        wanted[SECRETS_FILE] = None  # the node has taken them, and needs them no more
    has = {name: data for name, data in wanted.items() if data is not None}
    words = tuple(changes.words(there, has, marker, after))
    if not words and not same:
        words = ("the end of a reseed that was cut off",)
    left = changes.left_behind(
        changes.content(there), changes.content(has), cloud_init=after.vehicle == Vehicle.CLOUD_INIT
    )
    altered = {name: data for name, data in wanted.items() if there.get(name) != data} if words else {}
    writes = replace(path, start, altered, epoch=after.source_date_epoch) if altered else ()
    warnings = [*(left if root.booted else ()), *_baked(plan, node, Ground(base, system), cache, progress)]
    return Reseed(found, after, words, tuple(warnings), writes)


def belongs(found: Card, plan: Plan, node: NodePlan) -> tuple[Marker, card.Root]:
    """Return the card's marker and root file system if the card can become this node by another seed."""
    marker, root, name = found.marker, found.root, node.hostname
    flash = FLASH.format(name)
    if found.problems:
        raise PibakeError(f"{found.path} is damaged: {'; '.join(found.problems)}", flash)
    if marker is None or root is None:
        made = "was made by a pibake without markers" if found.ours else "was not made by pibake"
        raise PibakeError(f"{found.path} {made}, so what it was made from is not known", flash)
    if marker.cluster != plan.cluster:
        raise PibakeError(
            f"{found.path} belongs to the cluster {marker.cluster}, not to {plan.cluster}",
            f"take the cluster.yaml of {marker.cluster}, or {flash}",
        )
    if marker.hostname != name and root.booted:
        raise PibakeError(
            f"{found.path} is {marker.hostname}, which has been booted: its data, its certificates and its place in the "
            f"cluster have that name, and a seed does not rename it to {name}",
            f"`pibake forget {marker.hostname}`, then {flash}",
        )
    if marker.kubernetes != release(node):
        had, has = (text or "no Kubernetes" for text in (marker.kubernetes, release(node)))
        raise PibakeError(
            f"{found.path} holds {had}; cluster.yaml wants {has}, which is no part of a seed", flash
        )
    if root.booted and node.member and marker.role != node.role:
        raise PibakeError(
            f"{name} has been booted as {marker.role}; a seed does not make it a {node.role}",
            f"`pibake forget {name}`, then {flash}",
        )
    moved = marker.addresses != tuple(str(address) for address in node.link.addresses)
    if moved and node.member and (stuck := _stuck(node, root)):
        raise PibakeError(
            f"{name} cannot get another address by a seed: {stuck}", f"`pibake forget {name}`, then {flash}"
        )
    return marker, root


def _stuck(node: NodePlan, root: card.Root) -> str:
    """Return why a member has to keep its address, "" if it has not."""
    if node.role == "server" and root.booted:
        return "it is a server, whose etcd and certificates hold the old one"
    if node.member and node.member.kubernetes.distribution == "kubeadm":
        if root.joined:
            return "it has joined with kubeadm, and its kubelet was set to the old one then"
        if not root.clean:
            return "it was not shut down cleanly, so whether it has joined cannot be told"
    return ""


def _base(marker: Marker, node: NodePlan, cache: Cache, progress: Progress) -> Base:
    """Return the base a card was made from, under the digest of what was copied onto it."""
    pins = (key for key, pin in cache.pins().items() if pin.get("sha256") == marker.base_sha256)
    base = next((found for key in pins if (found := bases.cached(key, cache, progress))), None)
    base = base or bases.obtain(node.base, cache, progress)
    if base.sha256 != marker.base_sha256:
        raise PibakeError(
            f"the card was made from {marker.base} ({marker.base_sha256[:16]}), which the cache no longer has; "
            f"{node.base} is {base.sha256[:16]} now",
            FLASH.format(node.hostname),
        )
    info = {**base.info, "base_sha256": base.sha256}
    return dataclasses.replace(base, sha256=marker.golden_sha256, name=marker.base, info=info)


def _carries(found: Card, node: NodePlan, system: System) -> None:
    """Raise unless what the seed needs in the root file system is there."""
    root = Files(found.path, ext4.root_partition(found.path).start)
    lacking = {
        "the new seed of {} is laid by pibake-seed.service, which the card has not": (
            early(node, system),
            UNIT,
        ),
        "{} has packages, which are no part of a seed, and the card was made without any": (
            node.packages or node.debs,
            INSTALLER,
        ),
        "{} is to be the head, and the card has no unit that loads its rules": (node.head, FIREWALL),
    }
    for message, (needed, unit) in lacking.items():
        if needed and not root.find(unit, follow=False)[1]:
            raise PibakeError(message.format(node.hostname), FLASH.format(node.hostname))


def _baked(plan: Plan, node: NodePlan, on: Ground, cache: Cache, progress: Progress) -> Iterator[str]:
    """Yield what to say if the node would get another golden image by now: its content is no part of a seed."""
    system, base = on.system, dataclasses.replace(on.base, sha256=on.base.info["base_sha256"])
    try:
        addons = delivery.of(plan, cache, progress)
        mine = recipe.of(node, system, addons=addons)
        wanted = recipe.obtain(mine, base, system, cache, progress, kubernetes=plan.kubernetes, addons=addons)
    except PibakeError as error:
        yield f"whether what is baked in is as cluster.yaml has it cannot be told: {error}"
        return
    now = cache.pinned(key_of(base, wanted)).get("sha256") if wanted.key else base.sha256
    if now != on.base.sha256:
        yield (
            "what is baked in (overlays' files, packages, hooks, add-ons, pibake's own units) is not what cluster.yaml gives now, "
            f"and a seed does not change it: {FLASH.format(node.hostname)}"
        )


def _rename(new: dict[str, bytes], found: Card) -> None:
    """Give a seed that the node had once before another instance-id: `pibake-<digest>-2`.

    cloud-init remembers what it did for each instance (/var/lib/cloud/instances/ID/sem), and would do nothing of it again
    when an old id comes back.
    """
    wanted = read_marker(new[MARKER_FILE]).instance_id
    names = Files(found.path, ext4.root_partition(found.path).start).listing("var/lib/cloud/instances")
    known = {name for name in names if name != found.instance_id}
    ids = [wanted, *(f"{wanted}-{number}" for number in range(2, len(known) + 3))]
    chosen = (
        found.instance_id if found.instance_id in ids else next(name for name in ids if name not in known)
    )
    for name in ("meta-data", MARKER_FILE):
        new[name] = new[name].replace(wanted.encode(), chosen.encode())


def _own_texts(
    there: Mapping[str, bytes], vendors: Mapping[str, bytes], names: Sequence[str]
) -> dict[str, str]:
    """Return the firmware's texts of a card, without the words that only its seed can have put there."""
    texts = {}
    for name in names:
        first = vendors.get(name, b"").decode("utf-8", "replace")
        text = there[name].decode("utf-8", "replace") if name in there else first
        gone = [word for word in text.split() if word.startswith(OURS) and word not in first.split()]
        for word in gone:
            text = re.sub(rf"(?<!\S){re.escape(word)}(?!\S) ?", "", text)
        texts[name] = text
    return texts


def _render(plan: Plan, node: NodePlan, on: Ground, cache: Cache, progress: Progress) -> dict[str, bytes]:
    """Return the files of the new seed, as a build of today would make them."""
    secrets = vault.Vault(plan.folder / vault.FOLDER).issue(vault.wanted(plan)) if plan.folder else None
    job = nodes.Job(
        plan.cluster,
        cache,
        progress,
        {},
        keys.resolve([node]),
        plan.sources,
        secrets,
        nodes.extras(plan, secrets),
    )
    epoch = nodes.source_date_epoch(on.base, job.sources)
    seeded = nodes.render_seed(node, on, boot_partition(on.base.image).start, job, epoch)
    return {name: file.data for name, file in seeded.tree}
