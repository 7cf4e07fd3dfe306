"""The seed: the few files that make a golden image one particular node.

`seed` turns a NodePlan into a Tree for the boot partition. What the image's system is decides by which vehicle it gets
onto the node: cloud-init's NoCloud data source reads user-data, meta-data and network-config (cloud-init documentation,
"NoCloud"); where there is no cloud-init, or where it cannot pass on a node's network, `pibake-seed.service` of the golden
image lays an archive over the root file system. Values in, values out: nothing here touches a disk, a clock or the network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pibake import fit, kube, network, resources
from pibake.errors import PibakeError
from pibake.progress import size
from pibake.seed import accounts, cloud, own
from pibake.seed import marker as markers
from pibake.seed.archive import FILES_FILE, SECRETS_FILE, tar
from pibake.seed.cmdline import CGROUP_FLAGS, kernel_cmdline
from pibake.seed.marker import MARKER_FILE, Marker, Origin
from pibake.system import Growth, Network
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.identity import Secrets
    from pibake.plan import NodePlan
    from pibake.system import System

__all__ = ["CGROUP_FLAGS", "FILES_FILE", "LARGEST_FILES", "MARKER_FILE", "SECRETS_FILE", "Marker", "Origin", "Seed", "Vehicle",
           "early", "kernel_cmdline", "seed", "vehicle"]  # fmt: skip

LARGEST_FILES = 512 << 10
"""Bytes of rendered templates a seed carries: it lies on a small boot partition, and is read before anything else runs."""
SEED_ID = "etc/pibake/seed-id"


class Vehicle(StrEnum):
    """What configures a node at its first boot."""

    CLOUD_INIT = "cloud-init"
    FILES = "files"


@dataclass(frozen=True)
class Seed:
    """The files of a seed, and the instance-id they carry: the same content, the same id.

    `public` is what the files of the seed put onto the node, `secret` what stands in `pibake-secrets.tar`: another
    sink than a card can put either in place by itself.
    """

    tree: Tree
    instance_id: str
    public: Tree
    secret: Tree


def vehicle(system: System) -> Vehicle:
    """Return what configures nodes of a system."""
    return Vehicle.CLOUD_INIT if system.cloud_init else Vehicle.FILES


def early(node: NodePlan, system: System) -> bool:
    """Return whether a node needs `pibake-seed.service` in its golden image.

    On Wi-Fi it does: its key would otherwise stay on the boot partition, in the network-config that cloud-init reads there. So does
    the head, whose rules have to be there before its port to the outside is.
    """
    cloud_init = system.cloud_init
    if cloud_init is None or network.wireless(node) or node.head or system.growth is Growth.PIBAKE:
        return True
    return bool(network.unfit(node, cloud_init))


def seed(
    node: NodePlan,
    keys: Mapping[str, Sequence[str]],
    overlays: Tree,
    *,
    system: System,
    boot: Mapping[str, str],
    origin: Origin,
    secrets: Secrets | None = None,
    extras: kube.Extras = kube.Extras(),  # noqa: B008 - immutable
    epoch: int,
) -> Seed:
    """Render the seed of one node.

    Args:
        node: what the node is.
        keys: public SSH keys (authorized_keys lines) by user name.
        overlays: files laid over the root file system, from the templates of the node's overlays.
        system: what the base's image says of its system.
        boot: the texts of `system.config` and `system.cmdlines` as they stand on the boot partition.
        origin: what the card is made from, for its marker.
        secrets: what was issued for the cluster; without, the node makes its own host keys, and can be no member.
        extras: further files with credentials, for members.
        epoch: unix time the node's clock starts from at the earliest.

    Raises:
        PibakeError: the templates come to too much for a seed, or nothing there can configure the node's network.
    """
    member = kube.render(node, secrets, extras) if node.member and secrets else kube.Rendered(Tree(), Tree())
    files = overlays | own.files(node, secrets) | member.public
    secret = own.secret(node, secrets) | member.secret
    _fits(node, files)
    lays = early(node, system)
    wires = network.files(node, system.network) if lays else Tree()
    # a Wi-Fi key leaves the boot partition with the other secrets
    secret |= Tree({path: file for path, file in wires if network.wireless(node) and not file.mode & 0o077})
    wires = Tree({path: file for path, file in wires if path not in secret.files})
    parts: dict[str, bytes] = {}
    if system.cloud_init:
        # the golden image has the joining unit already where anything of pibake's is in it
        joins = bool(node.member or lays or node.packages or node.debs or node.disks)
        program = Tree() if joins else Tree.read(resources.path("overlays", "node"))
        parts = cloud.files(node, keys, files | program, secret, system, early=lays, starts_join=not joins)
        laid = wires | accounts.settings(system) if lays else Tree()
    else:
        laid = wires | accounts.files(node, keys, system) | files
    packed = {SECRETS_FILE: tar(secret)} if len(secret) else {}
    identity = hashlib.sha256(b"\0".join([*parts.values(), tar(laid), *packed.values()])).hexdigest()
    instance_id = f"pibake-{identity[:16]}"
    if len(laid):
        packed[FILES_FILE] = tar(laid | Tree({SEED_ID: File(f"{instance_id}\n".encode())}))
    # cloud-init reads it; on every card it tells a reader whose seed this is, and which
    parts["meta-data"] = resources.render(
        "cloud-init/meta-data.j2", node=node, instance_id=instance_id
    ).encode()
    said = markers.marker(node, origin, instance_id=instance_id, vehicle=vehicle(system), epoch=epoch)
    parts[MARKER_FILE] = markers.write(said)
    texts = {path: kernel_cmdline(boot[path], epoch, _words(node, system)) for path in system.cmdlines}
    config = fit.config_txt(boot[system.config], node, system)
    if config != boot[system.config]:
        texts[system.config] = config
    tree = Tree(
        {
            **{path: File(data) for path, data in parts.items()},
            **{path: File(text.encode()) for path, text in texts.items()},
            **{path: File(data, 0o600) for path, data in packed.items()},
        }
    )
    return Seed(tree, instance_id, files | laid, secret)


def _words(node: NodePlan, system: System) -> tuple[str, ...]:
    """Return what the kernel command line needs for the network.

    Programs that know ports by their full names only, as all but three do, find a port without a known MAC address by the
    kernel's own name for it, which udev is told to leave (systemd.net-naming-scheme(7)).
    """
    if node.head:
        return (*network.kernel_words(node), *(("net.ifnames=0",) if node.head.kernel_names else ()))
    by_pattern = system.network in {Network.NETPLAN, Network.NETWORKD, Network.NETWORK_MANAGER}
    if system.cloud_init and not early(node, system):
        by_pattern = system.cloud_init.renders[0] is Network.NETPLAN
    named = () if by_pattern or node.link.mac or node.wifi else ("net.ifnames=0",)
    return (*network.kernel_words(node), *named)


def _fits(node: NodePlan, files: Tree) -> None:
    total = sum(len(file.data) for _, file in files)
    if total > LARGEST_FILES:
        raise PibakeError(
            f"the templates of {node.hostname} come to {size(total)}; a seed carries {size(LARGEST_FILES)} at most",
            "what is the same on every node goes into the golden image, as a file without .j2 in: "
            + ", ".join(overlay.name for overlay in node.overlays),
        )
