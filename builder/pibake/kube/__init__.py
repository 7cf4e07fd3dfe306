"""What Kubernetes needs on a node: files anyone may see, and files only this node may have.

What all members have alike is in their golden image (`pibake.payload`); this is what differs. `render` gives a worker its joining token and the public part of the CA, and nothing else; keys of CAs go to the
servers that sign with them. Values in, values out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.kube import k3s, kubeadm
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.identity import Secrets
    from pibake.plan import NodePlan
    from pibake.secret import Secret

CA_FILE = "etc/pibake/ca.crt"


@dataclass(frozen=True)
class Extras:
    """The texts of files that cluster.yaml names and that hold credentials; `addons` are the Secrets of add-ons, as a manifest."""

    datastore: Secret | None = None
    registries: Secret | None = None
    addons: Secret | None = None


@dataclass(frozen=True)
class Rendered:
    """What goes onto a node: `public` may lie on a card for anyone to read, `secret` may not."""

    public: Tree
    secret: Tree


def render(node: NodePlan, secrets: Secrets, extras: Extras) -> Rendered:
    """Render a member's files.

    Args:
        node: what the node is; it must be a member.
        secrets: what was issued for the cluster; of it the node gets what its part needs.
        extras: files of the user's.
    """
    member = node.member
    assert member is not None  # noqa: S101 - the caller asks for members only
    shared = Tree({CA_FILE: File(secrets.ca.cert.encode())})
    if member.kubernetes.distribution == "k3s":
        public, secret = k3s.render(node, member, secrets, extras.datastore, extras.registries)
        place = f"{k3s.MANIFESTS}/pibake-secrets.yaml"
    else:
        public, secret = kubeadm.render(node, member, secrets)
        place = f"{kubeadm.ADDONS}/secrets.yaml"
    if member.starts and extras.addons:
        secret |= Tree({place: File(extras.addons.reveal().encode(), 0o600)})
    return Rendered(shared | public, secret)
