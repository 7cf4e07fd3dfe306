"""Identities as files, in the places each distribution looks for them.

k3s: /var/lib/rancher/k3s/server/tls, and tokens as `token-file` and `agent-token-file` take them (k3s
documentation, "k3s server"). kubeadm: /etc/kubernetes/pki (kubeadm documentation, "Custom certificates").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.identity.model import K3S, KUBEADM
from pibake.identity.pki import public_pem
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.identity.model import NodeSecrets, Secrets
    from pibake.secret import Secret

PKI = {K3S: "server/tls", KUBEADM: "pki"}
"""Distribution -> its PKI folder, below its own."""
HOME = {K3S: "var/lib/rancher/k3s", KUBEADM: "etc/kubernetes"}
"""Distribution -> its own folder on a node."""
PRIVATE = 0o600


def pki(secrets: Secrets) -> Tree:
    """Return what servers need before they first start, below the distribution's own folder."""
    if not secrets.distribution or secrets.service_account is None:
        raise PibakeError(f"the cluster {secrets.cluster} has no PKI: it was issued without Kubernetes")
    folder = PKI[secrets.distribution]
    files = {}
    for name, pair in secrets.authorities.items():
        files[f"{folder}/{name}.crt"] = _public(pair.cert)
        files[f"{folder}/{name}.key"] = _private(pair.key)
    if secrets.distribution == K3S:
        files[f"{folder}/service.key"] = _private(secrets.service_account)
    else:
        files[f"{folder}/sa.key"] = _private(secrets.service_account)
        files[f"{folder}/sa.pub"] = _public(secrets.service_account_public)
    return Tree(files)


def node(secrets: Secrets, hostname: str) -> Tree:
    """Return a node's own files, below /: an agent's hold nothing but what an agent needs."""
    own = secrets.node(hostname)
    files = {
        "etc/ssh/ssh_host_ed25519_key": _private(own.host_key.private),
        "etc/ssh/ssh_host_ed25519_key.pub": _public(f"{own.host_key.public}\n"),
    }
    if not secrets.distribution:
        return Tree(files)
    tree = Tree({**files, **_joining(secrets, own)})
    if own.role == "server":
        home = HOME[secrets.distribution]
        return tree | Tree({f"{home}/{path}": file for path, file in pki(secrets)})
    return tree


def everything(secrets: Secrets) -> Tree:
    """Return the PKI, every node's own files in a folder per node, add-ons' passwords, and the boot key with its public part."""
    files = dict(pki(secrets).files) if secrets.distribution else {}
    if secrets.boot_key is not None:
        files["boot.key"] = _private(secrets.boot_key)
        files["boot.pub"] = _public(public_pem(secrets.boot_key))
    for name, options in secrets.addons.items():
        files |= {f"addons/{name}/{option}": _private(password, "\n") for option, password in options.items()}
    for hostname in secrets.nodes:
        files |= {f"nodes/{hostname}/{path}": file for path, file in node(secrets, hostname)}
    return Tree(files)


def _joining(secrets: Secrets, own: NodeSecrets) -> dict[str, File]:
    """Return what a node joins with.

    A kubeadm worker gets no pki/ca.crt: `kubeadm join` fetches it, and stops if it is already there.
    """
    server = own.role == "server"
    if secrets.distribution == KUBEADM:
        return {
            "etc/kubernetes/bootstrap-token": _private(secrets.tokens["bootstrap"], "\n"),
            "etc/kubernetes/ca-cert-hash": _public(f"{secrets.ca_pin}\n"),
            **(
                {"etc/kubernetes/certificate-key": _private(secrets.tokens["certificate-key"], "\n")}
                if server
                else {}
            ),
        }
    return {
        "etc/rancher/node/password": _private(own.node_password, "\n"),
        "etc/rancher/k3s/agent-token": _private(secrets.tokens["agent"], "\n"),
        **({"etc/rancher/k3s/token": _private(secrets.tokens["server"], "\n")} if server else {}),
    }


def _private(text: Secret, end: str = "") -> File:
    return File((text.reveal() + end).encode(), PRIVATE)


def _public(text: str) -> File:
    return File(text.encode())
