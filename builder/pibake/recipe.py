"""Recipes: what goes into the golden image of a kind of node. Nodes with the same recipe share one image.

A recipe is Kubernetes, the seed unit where the base needs it, packages, add-ons, what hooks made, and the files of overlays
that are the same on every node. Later ones take the place of earlier ones, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import apt, hooks, payload
from pibake.config.overlays import Kind
from pibake.config.problems import display, nearest
from pibake.errors import ConfigError, PibakeError
from pibake.image import debs, ext4
from pibake.image.ext4_tree import Files
from pibake.image.golden import Payload, PayloadFile, PayloadFolder
from pibake.seed import early
from pibake.system import Network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.config.overlays import Item
    from pibake.delivery import Delivery
    from pibake.plan import Hook, Kubernetes, NodePlan, Overlay
    from pibake.progress import Progress
    from pibake.system import System
    from pibake.web import Policy

ROOT = "root:root"
VOLATILE = ("dev", "proc", "run", "sys")
"""Folders that are empty in an image, and filled at every boot (file-hierarchy(7))."""
HIDDEN = "a template (a name ending in .j2) is written there at the first boot; tmpfiles.d makes what is to be in /run"
BELOW = "a data disk of the node is mounted there: put it elsewhere, or mount the disk elsewhere"
NO_USER = (
    "who belongs to no package of the base, or is made at the first boot, is not there yet: "
    "a line of tmpfiles.d in the overlay (`z /PATH MODE USER GROUP`) hands a file over at boot"
)


@dataclass(frozen=True)
class Recipe:
    """What goes into a golden image, beside what all nodes of a plan have: Kubernetes, and with `airgap` the images of add-ons.

    `starts` says that its node starts the cluster, so that add-ons themselves go along; `mounts` are those of data disks.
    """

    lays: bool
    starts: bool
    packages: tuple[str, ...]
    debs: tuple[Path, ...]
    hooks: tuple[Hook, ...]
    overlays: tuple[Overlay, ...]
    mounts: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """What of pibake's own the node needs beyond what its kind does: names in `payload.PARTS`."""


def of(node: NodePlan, system: System, *, addons: Delivery | None = None) -> Recipe:
    """Return the recipe of a node on a base of this system, with the add-ons that are brought, if any."""
    parts = {"disks": bool(node.disks), "head": node.head is not None, "mdns": node.mdns}
    return Recipe(
        lays=early(node, system),
        starts=addons is not None and addons.starts and node.member is not None and node.member.starts,
        packages=tuple(sorted({*node.packages, *_clients(node, system)})),
        debs=tuple(sorted(set(node.debs))),
        hooks=node.hooks,
        overlays=node.overlays,
        mounts=tuple(sorted(disk.mount for disk in node.disks)),
        parts=tuple(part for part, wanted in parts.items() if wanted),
    )


def _clients(node: NodePlan, system: System) -> Iterator[str]:
    """Yield what programs that configure a network call for the head's way out, and do not bring themselves."""
    outer = node.head.upstream if node.head else None
    if outer and outer.address is None and system.network is Network.IFUPDOWN:
        yield "dhcpcd-base" if system.release.codename == "trixie" else "isc-dhcp-client"
    if outer and outer.wifi and system.network is not Network.NETWORK_MANAGER:
        yield "wpasupplicant"


def obtain(
    recipe: Recipe,
    base: Base,
    system: System,
    cache: Cache,
    progress: Progress,
    *,
    kubernetes: Kubernetes | None,
    addons: Delivery | None = None,
    policy: Policy | None = None,
) -> Payload:
    """Return what a recipe comes to on a base: files in the cache and in the user's folders.

    Args:
        recipe: what is wanted.
        base: what it goes into.
        system: what the base's image says of its system.
        cache: where downloads and the results of hooks are kept.
        progress: where to show what is going on.
        kubernetes: which Kubernetes, if any.
        addons: what brings its add-ons, if any.
        policy: how patient to be with the network.

    Raises:
        ConfigError: an overlay's manifest names an owner whom the base does not know.
        PibakeError: something could not be had, does not fit the base, or a hook failed.
    """
    for path in recipe.debs:
        debs.control(path, system.arch)
    asked = wanted(recipe, base.image)
    found = payload.obtain(kubernetes, base, cache, progress, arch=system.arch, packages=asked, policy=policy)
    if recipe.lays:
        found = payload.with_seed_unit(found, system, cache)
    for part in recipe.parts:
        found = payload.with_part(found, part)
    if addons:
        found |= addons.members(system.arch)
        if recipe.starts:
            found |= addons.first(system.arch)
    for hook in recipe.hooks:
        found |= hooks.obtain(hook, base, system.arch, cache, progress)
    _seen(recipe, found, system)
    accounts = _Accounts(base)
    for overlay in recipe.overlays:
        found |= _laid(overlay.items, accounts, cache)
    return found


def wanted(recipe: Recipe, image: Path) -> apt.Wanted:
    """Return what to ask apt for: a recipe's packages, and what data disks need that a base's image does not have."""
    lacking: tuple[str, ...] = ()
    if recipe.mounts:
        files = Files(image, ext4.root_partition(image).start)
        there = any(files.find(f"{folder}/sfdisk")[1] for folder in ("usr/sbin", "sbin"))
        lacking = () if there else ("fdisk",)
    return apt.Wanted((*recipe.packages, *lacking), recipe.debs)


def _seen(recipe: Recipe, made: Payload, system: System) -> None:
    """Raise where something would go below a folder that another file system hides once the node is up."""
    hidden = tuple(f"{folder}/" for folder in (system.boot, *VOLATILE))
    below = tuple(f"{mount.lstrip('/')}/" for mount in recipe.mounts)
    for path in (*(file.path for file in made.files), *made.links):
        if path.startswith((*hidden, *below)):
            raise PibakeError(
                f"the hook's /{path} would be hidden on the node: another file system is mounted there",
                BELOW if path.startswith(below) else HIDDEN,
            )
    for overlay in recipe.overlays:
        for item in overlay.items:
            under = item.kind is not Kind.FOLDER and item.path.startswith(below)
            if under or (item.kind in {Kind.FILE, Kind.LINK} and item.path.startswith(hidden)):
                message = "this would be hidden on the node: another file system is mounted there"
                raise ConfigError(
                    [f"{display(item.source)}: {message}\n   hint: {BELOW if under else HIDDEN}"]
                )


def _laid(items: tuple[Item, ...], accounts: _Accounts, cache: Cache) -> Payload:
    """Return what of an overlay is the same on every node; owners of what is not are only looked for."""
    owned = [(item, *accounts.owner(item)) for item in items]
    files = [
        PayloadFile(item.path, item.source, item.mode, cache.sha256(item.source), uid, gid)
        for item, uid, gid in owned
        if item.kind is Kind.FILE
    ]
    folders = [
        PayloadFolder(item.path, item.mode, uid, gid, claims=True)
        for item, uid, gid in owned
        if item.kind is Kind.FOLDER and item.claimed
    ]
    links = {item.path: str(item.source.readlink()) for item in items if item.kind is Kind.LINK}
    return Payload(tuple(files), links=links, folders=tuple(folders))


class _Accounts:
    """The users and groups of a base, read when somebody other than root is asked for."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.known: dict[str, dict[str, int]] = {}

    def owner(self, item: Item) -> tuple[int, int]:
        """Return the numbers of an item's owner."""
        if item.owner == ROOT:
            return 0, 0
        user, _, group = item.owner.partition(":")
        return self._number(item, user, "etc/passwd", "user"), self._number(item, group, "etc/group", "group")

    def _number(self, item: Item, name: str, file: str, what: str) -> int:
        if name.isdigit():
            return int(name)
        if not self.known:
            start = ext4.root_partition(self.base.image).start
            texts = Files(self.base.image, start).contents(["etc/passwd", "etc/group"])
            self.known = {path: dict(_ids(text.decode(errors="replace"))) for path, text in texts.items()}
        ids = self.known.get(file, {})
        if name not in ids:
            hint = nearest(name, ids) or NO_USER
            raise ConfigError([f"{item.place}: {self.base.name} has no {what} {name}\n   hint: {hint}"])
        return ids[name]


def _ids(text: str) -> Iterator[tuple[str, int]]:
    """Yield the names and numbers of passwd(5) or group(5)."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            yield fields[0], int(fields[2])
