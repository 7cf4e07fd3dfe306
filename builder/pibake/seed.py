"""The seed: the few files that make a golden image one particular node.

`seed` turns a NodePlan into a Tree for the boot partition, which cloud-init's NoCloud data source reads
(cloud-init documentation, "NoCloud": user-data, meta-data and network-config in the root of the partition).
Values in, values out: nothing here touches a disk, a clock or the network.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import kube, network, resources
from pibake.errors import PibakeError
from pibake.plan import K3sAgent, K3sServer, KubeadmInit, KubeadmJoin
from pibake.progress import size
from pibake.system import CloudInit, Network
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.identity import Secrets
    from pibake.plan import Membership, NodePlan

CGROUP_FLAGS = ("cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory")
"""What k3s and kubeadm need on kernels that leave the memory controller off (k3s documentation, requirements)."""

NEWEST = CloudInit("25.1", "link", ("user-data", "meta-data", "network-config"), (Network.NETPLAN,))
"""The cloud-init that a seed is written for: Debian 13's."""

LARGEST_FILES = 512 << 10
"""Bytes of overlay files a seed carries: it is text on a small boot partition, read before anything else runs."""

_CLOCK = (
    "t=$(sed -n 's/.*pibake\\.clock=\\([0-9]*\\).*/\\1/p' /proc/cmdline); "
    '[ "$(date +%s)" -ge "${t:-0}" ] || date -u -s "@$t"'
)


SECRETS_FILE = "pibake-secrets.tar"
"""Where secrets wait on the boot partition until the node has joined; they are in no other file of a seed."""

_UNPACK = (
    "for folder in /boot/firmware /boot; do "
    f'if [ -s "$folder/{SECRETS_FILE}" ]; then rm -f /etc/ssh/ssh_host_*; tar -C / -xpf "$folder/{SECRETS_FILE}"; break; fi; '
    "done"
)
_NO_APT = "systemctl stop apt-daily.timer apt-daily-upgrade.timer 2> /dev/null || :"
_PASSWORDS = "etc/pibake/passwords"
_SET_PASSWORDS = f"[ ! -s /{_PASSWORDS} ] || {{ chpasswd -e < /{_PASSWORDS} && rm /{_PASSWORDS}; }}"


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


def seed(
    node: NodePlan,
    keys: Mapping[str, Sequence[str]],
    overlays: Tree,
    *,
    secrets: Secrets | None = None,
    extras: kube.Extras = kube.Extras(),  # noqa: B008 - immutable
    cmdline: str,
    cmdline_path: str,
    epoch: int,
) -> Seed:
    """Render the seed of one node.

    Args:
        node: what the node is.
        keys: public SSH keys (authorized_keys lines) by user name.
        overlays: files laid over the root file system, from the node's overlays.
        secrets: what was issued for the cluster; without, the node makes its own host keys, and can be no member.
        extras: further files with credentials, for members.
        cmdline: the kernel command line the base came with.
        cmdline_path: where that line stands on the boot partition.
        epoch: unix time the node's clock starts from at the earliest.

    Raises:
        PibakeError: the overlays are too large for a seed.
    """
    member = kube.render(node, secrets, extras) if node.member and secrets else kube.Rendered(Tree(), Tree())
    files = overlays | _own_files(node, secrets) | member.public
    secret = _own_secrets(node, secrets) | member.secret
    total = sum(len(file.data) for _, file in files)
    if total > LARGEST_FILES:
        raise PibakeError(
            f"the overlays of {node.hostname} hold {size(total)}; a seed carries {size(LARGEST_FILES)} at most",
            "overlays in a seed are for configuration files; take large files out of: "
            + ", ".join(overlay.name for overlay in node.overlays),
        )
    user_data = resources.render(
        "cloud-init/user-data.j2",
        node=node,
        keys=keys,
        files=list(files),
        host_key=secrets is not None,
        boot_commands=[_CLOCK, *([_UNPACK] if len(secret) else []), *([_NO_APT] if node.member else [])],
        first_commands=[*([_SET_PASSWORDS] if _PASSWORDS in secret.files else []), *network.commands(node)],
    ).encode()
    config = network.network_config(node, NEWEST).encode()
    packed = _tar(secret) if len(secret) else b""
    identity = hashlib.sha256(b"\0".join([user_data, config, packed])).hexdigest()
    instance_id = f"pibake-{identity[:16]}"
    meta_data = resources.render("cloud-init/meta-data.j2", node=node, instance_id=instance_id).encode()
    tree = Tree(
        {
            "user-data": File(user_data),
            "meta-data": File(meta_data),
            "network-config": File(config),
            cmdline_path: File(kernel_cmdline(cmdline, epoch, network.kernel_words(node)).encode()),
            **({SECRETS_FILE: File(packed, 0o600)} if packed else {}),
        }
    )
    return Seed(tree, instance_id, files, secret)


def kernel_cmdline(existing: str, epoch: int, further: Sequence[str] = ()) -> str:
    """Return the one line of cmdline.txt: what was there, the cgroup flags and `further` once, and the clock's start.

    The firmware reads the first line only (Raspberry Pi documentation, "kernel command line"), so whatever stands
    on further lines was meant for it, and joins it. Quoted values stay whole. What follows `--` belongs to init.
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', existing)
    ours = {*CGROUP_FLAGS, "cgroup_disable=memory", "cgroup_memory=0"}
    given = tuple(f"{word.partition('=')[0]}=" for word in (*further, "pibake.clock="))
    kept = [word for word in words if word not in ours and not word.startswith(given)]
    split = kept.index("--") if "--" in kept else len(kept)
    return " ".join([*kept[:split], *CGROUP_FLAGS, *further, f"pibake.clock={epoch}", *kept[split:]]) + "\n"


def _own_files(node: NodePlan, secrets: Secrets | None) -> Tree:
    # a member's golden image has the joining unit already
    program = Tree() if node.member else Tree.read(resources.path("overlays", "node"))
    return (
        program
        | network.radio(node)
        | Tree(
            {
                "etc/hosts": File(_hosts(node).encode()),
                "etc/pibake/node.json": File(_node_json(node, secrets).encode()),
            }
        )
    )


def _own_secrets(node: NodePlan, secrets: Secrets | None) -> Tree:
    """Return what no seed shows to whoever reads the card: password hashes and host keys."""
    files = {}
    if hashes := [f"{user.name}:{user.password_hash}\n" for user in node.users if user.password_hash]:
        files[_PASSWORDS] = File("".join(hashes).encode(), 0o600)
    if secrets:
        key = secrets.nodes[node.hostname].host_key
        files["etc/ssh/ssh_host_ed25519_key"] = File(key.private.reveal().encode(), 0o600)
        files["etc/ssh/ssh_host_ed25519_key.pub"] = File(f"{key.public.strip()}\n".encode(), 0o644)
    return Tree(files)


def _tar(tree: Tree) -> bytes:
    """Return the files as a ustar archive (POSIX.1-1988, which every tar reads), the same for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, file in tree:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.data), file.mode
            entry.uname, entry.gname = file.owner.split(":")
            archive.addfile(entry, io.BytesIO(file.data))
    return buffer.getvalue()


def _hosts(node: NodePlan) -> str:
    """Return /etc/hosts with every node of the cluster; the node's own name means its real address, as Kubernetes wants."""
    lines = [
        "# Made by pibake: every node of the cluster, so that names work before DNS does.",
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "ff02::1 ip6-allnodes",
        "ff02::2 ip6-allrouters",
        *(f"{host.address} {host.fqdn} {host.hostname}" for host in node.hosts),
    ]
    return "\n".join(lines) + "\n"


def _node_json(node: NodePlan, secrets: Secrets | None) -> str:
    """Return /etc/pibake/node.json: what `pibake-join` knows about the node, with no secret in it."""
    values: dict[str, object] = {
        "node": node.hostname,
        "address": str(node.link.address.ip),
        "distribution": "",
        "part": "",
        "phone_home": "",
    }
    if node.member and secrets:
        values |= _member_values(node, node.member, secrets)
    return json.dumps(values, indent=1) + "\n"


def _member_values(node: NodePlan, member: Membership, secrets: Secrets) -> dict[str, object]:
    kubernetes = member.kubernetes
    host, others = kubernetes.endpoint, [s.address for s in kubernetes.servers if s.hostname != node.hostname]
    match member.part:
        case K3sServer(first=first):
            part = "server-first" if first else "server"
            host = host if first else kubernetes.servers[0].address
        case K3sAgent():
            part = "agent"
        case KubeadmInit():
            part = "init"
        case KubeadmJoin(control_plane=control_plane):
            part = "control-plane" if control_plane else "worker"
    bootstrap = secrets.tokens.get("bootstrap")
    return {
        "distribution": kubernetes.distribution,
        "version": kubernetes.version,
        "part": part,
        "endpoint": [host, kubernetes.port],
        "peers": others if part in {"server-first", "init"} else [],
        "pin": secrets.ca_pin,
        # the part before the dot names the token and is no secret (Kubernetes, "Bootstrap Tokens", token format)
        "token_id": bootstrap.reveal().partition(".")[0] if bootstrap else "",
        "phone_home": kubernetes.phone_home,
    }
