"""Everything that is to be served, got ready: from a plan to files that engines hand out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pibake import nodes, vault
from pibake.errors import FetchError, PibakeError, about
from pibake.fsys import delete, store
from pibake.netboot import grub
from pibake.rack import binding
from pibake.serve import golden as goldens
from pibake.serve import node as own
from pibake.serve import signedgrub
from pibake.serve.clients import client, wired
from pibake.serve.files import Boot
from pibake.serve.nbd import Disk
from pibake.system import Growth

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pibake.cache import Cache
    from pibake.ground import Ground
    from pibake.netboot.values import Client, Site
    from pibake.nodes import Job
    from pibake.plan import NodePlan, Plan
    from pibake.progress import Progress
    from pibake.rack.adopted import Adopted
    from pibake.secret import Secret
    from pibake.seed import Seed
    from pibake.serve.folders import Folders
    from pibake.serve.golden import Golden
    from pibake.serve.node import Own


@dataclass(frozen=True)
class Served:
    """What is served.

    Attributes:
        site: this server.
        boots: the nodes that boot from the wire, by hostname, and what each boots from.
        disks: those of nodes with `root: nbd`.
        uefi: whether machines with UEFI are told what to load.
        uefi_failed: whether that could not be had.
        left_out: hostnames of nodes that cannot, and why.
        free: hostnames of nodes that wait for a board.
        adopted: what was adopted and counts, by hostname.
        ignored: a sentence about each adoption that does not.
        key: signs what boards load by HTTP.
        behind: hostnames of nodes that are on an older golden image than cluster.yaml leads to.
        outdated: hostnames of nodes whose disk was made with another seed than cluster.yaml leads to.
    """

    site: Site
    boots: Mapping[str, Boot]
    disks: tuple[Disk, ...]
    uefi: bool
    uefi_failed: bool
    key: Secret | None
    left_out: tuple[tuple[str, str], ...]
    free: tuple[str, ...]
    adopted: Mapping[str, Adopted]
    ignored: tuple[str, ...]
    behind: tuple[str, ...]
    outdated: tuple[str, ...]

    @property
    def clients(self) -> tuple[Client, ...]:
        """The nodes that boot from the wire."""
        return tuple(boot.client for boot in self.boots.values())


def prepare(
    plan: Plan,
    site: Site,
    folders: Folders,
    cache: Cache,
    progress: Progress,
    *,
    renew: Collection[str] = (),
    adopted: Mapping[str, Adopted] | None = None,
    uefi: bool = True,
) -> Served:
    """Get everything ready; what is there already and right is left alone.

    A node stays on the golden image it was first served from, as a card would, until it is renewed: its own files lie
    over that one.

    Args:
        plan: the whole cluster.
        site: this server.
        folders: where to put things.
        cache: where bases and golden images are.
        progress: where to show what is going on.
        renew: hostnames of nodes to start anew, on the golden image that cluster.yaml leads to now.
        adopted: the boards that are nodes, beside those in cluster.yaml.
        uefi: whether to get what machines with UEFI load; where there is no way to it, trying takes minutes.

    Raises:
        PibakeError: no node could boot from the wire, one to start anew is none of these, or anything that failed, about
            the node it failed on.
    """
    counting, ignored = binding.counted(plan, adopted or {})
    clients, left_out, free = wired(plan, counting)
    names = {client.hostname for client in clients}
    anew = {plan.node(name).hostname for name in renew}
    if strange := anew - names:
        name = min(strange)
        if name in free:
            raise PibakeError(f"{name} has no board", f"`pibake adopt SERIAL --as {name}` gives it one")
        raise PibakeError(f"{name} boots from a card only: {dict(left_out)[name]}", "flash its card anew")
    chosen = [_on_wire(node, site) for node in plan.nodes if node.hostname in names]
    waiting = [node for node in plan.nodes if node.hostname in free]
    folders.make()
    job, found = nodes.prepare(plan, [*chosen, *waiting], cache, progress, plan.netboot.disk << 20)
    placing, placed = _Placing(job, site, folders, plan.netboot.disk, counting), []
    for node in chosen:
        with about(node.hostname):
            if node.hostname in anew:
                delete(folders.node(node.hostname))
            placed.append(placing.place(node, found[node.hostname]))
    own.withdraw(clients, folders)
    # a board that is adopted is to boot at once
    spare = [placing.golden(node.wire.root, None, found[node.hostname]) for node in waiting]
    goldens.clean(
        own.goldens(folders) | {one.root.name for one in spare},
        {one.boot.tftp for one in placed} | {one.tftp for one in spare},
        folders,
    )
    grounds = [one.newest for one in placed if grub.CONFIG in one.boot.own.files]
    got = _uefi(grounds, folders, cache, progress) if uefi else None
    return Served(
        site,
        {one.hostname: one.boot for one in placed},
        tuple(
            Disk(one.hostname, folders.node(one.hostname) / own.DISK, one.golden.on.base.image)
            for one in placed
            if one.boot.client.root == "nbd"
        ),
        bool(got),
        got is False or not uefi,
        _key(plan, job, placed),
        left_out,
        free,
        counting,
        ignored,
        tuple(one.hostname for one in placed if one.behind),
        tuple(one.hostname for one in placed if one.outdated),
    )


def _uefi(grounds: Sequence[Ground], folders: Folders, cache: Cache, progress: Progress) -> bool | None:
    """Put shim and GRUB where machines with UEFI find them, if there may be such machines: a board that is not named may be.

    Return whether that went well; None if there are none.
    """
    for one in grounds:
        if one.system.release.id == "debian":
            try:
                tree = signedgrub.tree(one.base, cache, progress)
            except FetchError as error:
                progress.say(f"warning: machines with UEFI will not boot, and Raspberry Pis will: {error}")
                return False
            for path, file in tree | grub.shared():
                own.put(folders.tftp / path, file)
            return True
    return None


def _key(plan: Plan, job: Job, placed: Sequence[_Placed]) -> Secret | None:
    """Return the key that signs what a Pi 4 or 5 loads by HTTP, if there may be one."""
    if job.secrets and job.secrets.boot_key:
        return job.secrets.boot_key
    if plan.folder is None or not any(one.boot.client.board.netboot.startswith("eeprom-") for one in placed):
        return None
    place = vault.Vault(plan.folder / vault.FOLDER)
    return place.issue(replace(vault.wanted(plan), boot_key=True)).boot_key


def _on_wire(node: NodePlan, site: Site) -> NodePlan:
    """Return a node as it is on the wire: it tells this server how far it has come, unless it is to tell another."""
    return replace(node, wired=True, report=f"http://{site.address.ip}:{site.ports.http}/report")


@dataclass(frozen=True)
class _Placed:
    """A node whose own files are in place: the golden image it is on, the one cluster.yaml leads to, and how it boots.

    `outdated` says that its disk was made with another seed.
    """

    golden: Golden
    newest: Ground
    boot: Boot
    outdated: bool

    @property
    def hostname(self) -> str:
        return self.boot.client.hostname

    @property
    def behind(self) -> bool:
        """Whether there is a newer golden image."""
        return self.golden.on.base.sha256 != self.newest.base.sha256


@dataclass
class _Placing:
    """Puts what is the nodes' own in place.

    `disk` is how large a node's state looks, in MiB, and `adopted` says which boards nodes are. `newest` holds the golden images got ready so far, and `kept` those
    that nodes are on already, by digest or name and kind of root.
    """

    job: Job
    site: Site
    folders: Folders
    disk: int
    adopted: Mapping[str, Adopted]
    newest: dict[tuple[str, str], Golden] = field(default_factory=dict)
    kept: dict[tuple[str, str], Golden | None] = field(default_factory=dict)

    def place(self, node: NodePlan, on: Ground) -> _Placed:
        """Place one node."""
        before = own.recorded(node.hostname, node.wire.root, self.folders)
        golden = self.golden(node.wire.root, before, on)
        it = client(node, self.adopted.get(node.hostname))
        epoch = nodes.source_date_epoch(golden.on.base, self.job.sources)
        if node.wire.root == "nfs":
            # nothing is the node's to enlarge
            on_wire = replace(golden.on, system=replace(golden.on.system, growth=Growth.NONE))
            seed = nodes.render_seed(node, on_wire, 0, self.job, epoch)
            own.place(it, seed, golden, self.disk, self.folders, before=before)
            self.describe(node, golden, seed, epoch)
        else:
            seed = nodes.render_seed(node, golden.on, 0, self.job, epoch)
            if before is None:
                own.place_disk(it, nodes.compose_node(node, on, self.job), golden, self.folders)
                self.describe(node, golden, seed, epoch)
        files = own.offer(it, seed, golden, self.site, self.folders)
        outdated = node.wire.root == "nbd" and before is not None and before.instance_id != seed.instance_id
        return _Placed(golden, on, Boot(it, golden.tftp, files, epoch), outdated)

    def describe(self, node: NodePlan, golden: Golden, seed: Seed, epoch: int) -> None:
        """Note what has gone into a node; a disk keeps the seed it was made with."""
        manifest = nodes.described(node, golden.on, seed, epoch, self.job)
        store(self.folders.node(node.hostname) / own.MANIFEST, manifest)

    def golden(self, root: str, before: Own | None, on: Ground) -> Golden:
        """Return the golden image a node's own files lie over, or the newest if it has none yet."""
        if before:
            if (before.golden, root) not in self.kept:
                self.kept[before.golden, root] = goldens.known(before.golden, root, self.folders)
            if kept := self.kept[before.golden, root]:
                return kept
        if (on.base.sha256, root) not in self.newest:
            self.newest[on.base.sha256, root] = goldens.golden(on, root, self.folders)
        return self.newest[on.base.sha256, root]
