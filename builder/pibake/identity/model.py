"""The values of an identity: what a cluster and its nodes are known by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.identity import pki

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.secret import Secret

K3S = "k3s"
KUBEADM = "kubeadm"
DISTRIBUTIONS = (K3S, KUBEADM)

AUTHORITIES: Mapping[str, Mapping[str, str]] = {
    K3S: {
        "server-ca": "server-ca",
        "client-ca": "client-ca",
        "request-header-ca": "request-header-ca",
        "etcd/peer-ca": "etcd-peer-ca",
        "etcd/server-ca": "etcd-server-ca",
    },
    KUBEADM: {"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca", "etcd/ca": "etcd-ca"},
    "": {},
}
"""Distribution -> file name below its PKI folder, without suffix -> the name the CA has in its certificate.

k3s: contrib/util/generate-custom-ca-certs.sh, which calls them `k3s-NAME@UNIX_TIME`.
kubeadm: cmd/kubeadm/app/phases/certs/certlist.go.
"""

TOKENS: Mapping[str, tuple[str, ...]] = {
    K3S: ("server", "agent"),
    KUBEADM: ("bootstrap", "certificate-key"),
    "": (),
}
"""Distribution -> the shared secrets nodes join with."""


@dataclass(frozen=True)
class Pair:
    """A certificate (PEM, one or more) and the private key (PEM) of the first."""

    cert: str
    key: Secret


@dataclass(frozen=True)
class HostKey:
    """A node's SSH host key: OpenSSH PEM, and the line of its .pub file."""

    private: Secret
    public: str


@dataclass(frozen=True)
class NodeSecrets:
    """What one node has for itself; k3s checks `node_password` (/etc/rancher/node/password) when it joins again."""

    role: str
    host_key: HostKey
    node_password: Secret


@dataclass(frozen=True)
class Wanted:
    """What identities there should be; `distribution` is "" for nodes without Kubernetes, `nodes` maps to roles.

    `boot_key` asks for the key that boot images are signed with; `addons` is add-on -> option -> length of its password.
    """

    cluster: str
    distribution: str
    nodes: Mapping[str, str]
    boot_key: bool = False
    addons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Secrets:
    """Everything issued for one cluster; `issued` is the time of the first issue (ISO 8601, UTC).

    `boot_key` (RSA, PEM) signs the boot images that boards load by HTTP; their EEPROMs hold its public part. `addons` is add-on
    -> option -> the password that was made up for it.
    """

    cluster: str
    distribution: str
    issued: str
    authorities: Mapping[str, Pair] = field(default_factory=dict)
    service_account: Secret | None = None
    tokens: Mapping[str, Secret] = field(default_factory=dict)
    nodes: Mapping[str, NodeSecrets] = field(default_factory=dict)
    boot_key: Secret | None = None
    addons: Mapping[str, Mapping[str, Secret]] = field(default_factory=dict)

    @property
    def service_account_public(self) -> str:
        """The public part of the key that signs service-account tokens (kubeadm's sa.pub)."""
        if self.service_account is None:
            raise PibakeError(
                f"the cluster {self.cluster} has no service-account key", "pibake secrets issue"
            )
        return pki.public_pem(self.service_account)

    @property
    def ca(self) -> Pair:
        """The CA that API servers are known by."""
        return self._authority({K3S: "server-ca", KUBEADM: "ca"})

    @property
    def client_ca(self) -> Pair:
        """The CA that API servers know people and components by."""
        return self._authority({K3S: "client-ca", KUBEADM: "ca"})

    @property
    def ca_pin(self) -> str:
        """What a joining node knows the CA by: k3s' hash of the bundle, or kubeadm's `sha256:` of the public key."""
        return pki.k3s_hash(self.ca.cert) if self.distribution == K3S else pki.spki_pin(self.ca.cert)

    def node(self, hostname: str) -> NodeSecrets:
        """Return what was issued for a node."""
        if hostname not in self.nodes:
            raise PibakeError(f"nothing was issued for {hostname} yet", "pibake secrets issue")
        return self.nodes[hostname]

    def values(self) -> Iterator[str]:
        """Yield every secret text, and its parts that are as good as the whole: for scrubbing and leak tests."""
        for pair in self.authorities.values():
            yield pair.key.reveal()
        if self.service_account is not None:
            yield self.service_account.reveal()
        if self.boot_key is not None:
            yield self.boot_key.reveal()
        for token in self.tokens.values():
            yield token.reveal()
            if len(parts := re.split(r"::\w+:|\.", token.reveal())) > 1 and parts[-1]:
                yield parts[-1]  # k3s takes the bare password too; kubeadm's first half is public
        for node in self.nodes.values():
            yield node.host_key.private.reveal()
            yield node.node_password.reveal()
        for options in self.addons.values():
            for password in options.values():
                yield password.reveal()

    def _authority(self, names: Mapping[str, str]) -> Pair:
        pair = self.authorities.get(names.get(self.distribution, ""))
        if pair is None:
            raise PibakeError(
                f"no certificate authority was issued for the cluster {self.cluster}",
                "give cluster.yaml its `kubernetes` section, then: pibake secrets issue",
            )
        return pair
