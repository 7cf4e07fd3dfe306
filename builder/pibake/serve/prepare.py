"""Everything that is to be served, got ready: from a plan to files that engines hand out."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pibake import nodes, vault
from pibake.boards import BOARDS
from pibake.errors import FetchError, PibakeError, about
from pibake.fsys import delete
from pibake.netboot import grub
from pibake.netboot.values import Client
from pibake.plan.wire import mac, obstacle
from pibake.serve import golden as goldens
from pibake.serve import node as own
from pibake.serve import signedgrub
from pibake.serve.files import Boot
from pibake.serve.nbd import Disk
from pibake.system import Growth

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pibake.cache import Cache
    from pibake.ground import Ground
    from pibake.netboot.values import Site
    from pibake.nodes import Job
    from pibake.plan import NodePlan, Plan
    from pibake.progress import Progress
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
        left_out: hostnames of the other nodes, and why they cannot.
        key: signs what boards load by HTTP.
        behind: hostnames of nodes that are on an older golden image than cluster.yaml leads to.
        outdated: hostnames of nodes whose disk was made with another seed than cluster.yaml leads to.
    """

    site: Site
    boots: Mapping[str, Boot]
    disks: tuple[Disk, ...]
    uefi: bool
    key: Secret | None
    left_out: tuple[tuple[str, str], ...]
    behind: tuple[str, ...]
    outdated: tuple[str, ...]

    @property
    def clients(self) -> tuple[Client, ...]:
        """The nodes that boot from the wire."""
        return tuple(boot.client for boot in self.boots.values())


def prepare(
    plan: Plan, site: Site, folders: Folders, cache: Cache, progress: Progress, *, renew: Collection[str] = ()
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

    Raises:
        PibakeError: no node can boot from the wire, one to start anew is none of these, or anything that failed, about
            the node it failed on.
    """
    clients, left_out = wired(plan)
    names = {client.hostname for client in clients}
    anew = {plan.node(name).hostname for name in renew}
    if strange := anew - names:
        name = min(strange)
        raise PibakeError(f"{name} boots from a card only: {dict(left_out)[name]}", "flash its card anew")
    chosen = [_on_wire(node, site) for node in plan.nodes if node.hostname in names]
    folders.make()
    job, found = nodes.prepare(plan, chosen, cache, progress, plan.netboot.disk << 20)
    placing, placed = _Placing(job, site, folders, plan.netboot.disk), []
    for node in chosen:
        with about(node.hostname):
            if node.hostname in anew:
                delete(folders.node(node.hostname))
            placed.append(placing.place(node, found[node.hostname]))
    own.withdraw(clients, folders)
    goldens.clean(own.goldens(folders), {one.boot.tftp for one in placed}, folders)
    uefi = _uefi(placed, folders, cache, progress)
    return Served(
        site,
        {one.hostname: one.boot for one in placed},
        tuple(
            Disk(one.hostname, folders.node(one.hostname) / own.DISK, one.golden.on.base.image)
            for one in placed
            if one.boot.client.root == "nbd"
        ),
        uefi,
        _key(plan, job, placed),
        left_out,
        tuple(one.hostname for one in placed if one.behind),
        tuple(one.hostname for one in placed if one.outdated),
    )


def _uefi(placed: Sequence[_Placed], folders: Folders, cache: Cache, progress: Progress) -> bool:
    """Put shim and GRUB where machines with UEFI find them, if there may be such machines: a board that is not named may be."""
    for one in placed:
        system = one.golden.on.system
        if grub.CONFIG in one.boot.own.files and system.release.id == "debian":
            try:
                tree = signedgrub.tree(one.newest.base, cache, progress)
            except FetchError as error:
                progress.say(f"warning: machines with UEFI will not boot, and Raspberry Pis will: {error}")
                return False
            for path, file in tree | grub.shared():
                own.put(folders.tftp / path, file)
            return True
    return False


def _key(plan: Plan, job: Job, placed: Sequence[_Placed]) -> Secret | None:
    """Return the key that signs what a Pi 4 or 5 loads by HTTP, if there may be one."""
    if job.secrets and job.secrets.boot_key:
        return job.secrets.boot_key
    if plan.folder is None or not any(one.boot.client.board.netboot.startswith("eeprom-") for one in placed):
        return None
    place = vault.Vault(plan.folder / vault.FOLDER)
    return place.issue(replace(vault.wanted(plan), boot_key=True)).boot_key


def wired(plan: Plan) -> tuple[tuple[Client, ...], tuple[tuple[str, str], ...]]:
    """Return the nodes that can boot from the wire, and the hostnames of the others with the reason.

    Raises:
        PibakeError: there is none.
    """
    obstacles = {node.hostname: obstacle(node) for node in plan.nodes}
    left_out = tuple((name, reason) for name, reason in obstacles.items() if reason)
    clients = tuple(_client(node) for node in plan.nodes if not obstacles[node.hostname])
    if not clients:
        name, reason = left_out[0]
        raise PibakeError(
            f"no node of {plan.cluster} can boot from the wire; of {name}: {reason}",
            "a node needs the `mac` or `serial` of its board in cluster.yaml",
        )
    return clients, left_out


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

    `disk` is how large a node's state looks, in MiB. `newest` holds the golden images got ready so far, and `kept` those
    that nodes are on already, by digest or name and kind of root.
    """

    job: Job
    site: Site
    folders: Folders
    disk: int
    newest: dict[tuple[str, str], Golden] = field(default_factory=dict)
    kept: dict[tuple[str, str], Golden | None] = field(default_factory=dict)

    def place(self, node: NodePlan, on: Ground) -> _Placed:
        """Place one node."""
        before = own.recorded(node.hostname, node.wire.root, self.folders)
        golden = self.golden(node.wire.root, before, on)
        client = _client(node)
        epoch = nodes.source_date_epoch(golden.on.base, self.job.sources)
        if node.wire.root == "nfs":
            # nothing is the node's to enlarge
            on_wire = replace(golden.on, system=replace(golden.on.system, growth=Growth.NONE))
            seed = nodes.render_seed(node, on_wire, 0, self.job, epoch)
            own.place(client, seed, golden, self.disk, self.folders, before=before)
            self.describe(node, golden, seed, epoch)
        else:
            seed = nodes.render_seed(node, golden.on, 0, self.job, epoch)
            if before is None:
                own.place_disk(client, nodes.compose_node(node, on, self.job), golden, self.folders)
                self.describe(node, golden, seed, epoch)
        files = own.offer(client, seed, golden, self.site, self.folders)
        outdated = node.wire.root == "nbd" and before is not None and before.instance_id != seed.instance_id
        return _Placed(golden, on, Boot(client, golden.tftp, files, epoch), outdated)

    def describe(self, node: NodePlan, golden: Golden, seed: Seed, epoch: int) -> None:
        """Note what has gone into a node; a disk keeps the seed it was made with."""
        manifest = nodes.described(node, golden.on, seed, epoch, self.job)
        own.note(self.folders.node(node.hostname) / own.MANIFEST, manifest)

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


def _client(node: NodePlan) -> Client:
    address = ipaddress.IPv4Address(str(node.link.address.ip))
    return Client(
        node.hostname, address, mac(node), node.serial, BOARDS[node.board], node.wire.root, node.wire.state
    )
