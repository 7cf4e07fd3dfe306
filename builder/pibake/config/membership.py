"""What the values of `kubernetes:` may be: versions, components, taints, ranges of addresses."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from pibake.config import kube, names, values
from pibake.config.problems import Bad, listing, nearest, show

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTRIBUTIONS = {
    "k3s": "one binary with everything in it",
    "kubeadm": "upstream Kubernetes, with containerd",
}
SNAPSHOTTERS = ("overlayfs", "native", "fuse-overlayfs", "stargz")
"""k3s documentation, agent flags: `--snapshotter`."""
COMPONENTS = (
    "coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes",
    "kube-proxy", "network-policy", "cloud-controller", "helm-controller",
)  # fmt: skip
"""What a k3s server can be told to leave out (k3s documentation, server flags: `--disable` and `--disable-*`)."""
NODE_NAMES = ("short", "full")
CNIS = ("flannel", "none")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@functools.lru_cache(maxsize=64)
def distribution(text: str) -> str:
    """Return which Kubernetes it is."""
    if text in {"k8s", "kubernetes", "upstream", "vanilla"}:
        raise Bad(f"{show(text)} is not a distribution pibake knows", "did you mean `kubeadm`?")
    return _one_of(text, DISTRIBUTIONS, "a distribution pibake knows")


@functools.lru_cache(maxsize=64)
def version(text: str) -> str:
    """Return a release with its `v`: `v1.31.4`, or k3s' `v1.31.4+k3s1` (semver.org, build metadata)."""
    plain = text if text.startswith("v") else f"v{text}"
    if not re.fullmatch(r"v1\.(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)(-[a-z]+\.?[0-9]+)?(\+k3s[1-9][0-9]*)?", plain):
        raise Bad(
            f"{show(text)} is not a release of Kubernetes",
            "write all three numbers: v1.31.4, or v1.31.4+k3s1",
        )
    return plain


@functools.lru_cache(maxsize=64)
def snapshotter(text: str) -> str:
    """Return the name of a containerd snapshotter that k3s has built in."""
    return _one_of(text, SNAPSHOTTERS, "a snapshotter of k3s")


@functools.lru_cache(maxsize=64)
def component(text: str) -> str:
    """Return a packaged component of k3s."""
    return _one_of(text, COMPONENTS, "a component that k3s can leave out")


@functools.lru_cache(maxsize=64)
def cni(text: str) -> str:
    """Return the network plugin that `kubeadm init` is followed by."""
    return _one_of(text, CNIS, "a network plugin pibake installs")


@functools.lru_cache(maxsize=64)
def node_names(text: str) -> str:
    """Return which of their names nodes have in the cluster."""
    if text in {"fqdn", "long"}:
        raise Bad(f"{show(text)} is none of a node's names", "did you mean `full`?")
    return _one_of(text, NODE_NAMES, "one of a node's names")


@functools.lru_cache(maxsize=64)
def cidr(text: str) -> values.IPNetwork:
    """Return a range of addresses for pods or services."""
    network = values.subnet(text)
    if network.num_addresses < 256:
        raise Bad(f"{show(text)} is too small for a cluster", "write it like 10.42.0.0/16")
    return network


@functools.lru_cache(maxsize=64)
def place(text: str) -> str:
    """Return an address or a DNS name that the API server is reached at."""
    try:
        return str(values.ip(text))
    except Bad:
        if re.fullmatch(r"[0-9.]+|.*[:/].*", text):
            raise Bad(
                f"{show(text)} is neither an address nor a name",
                "write it like 192.168.10.5 or api.lab.example, without a port",
            ) from None
    return names.domain(text)


@functools.lru_cache(maxsize=64)
def duration(text: str) -> str:
    """Return how long, as Go writes it (time.ParseDuration): `24h`, `90m`, `1h30m`; `0s` is for ever."""
    if not re.fullmatch(r"(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s)?", text):
        raise Bad(f"{show(text)} is not a length of time", "write it like 24h or 90m; 0s is for ever")
    return text


@functools.lru_cache(maxsize=256)
def taint(text: str) -> str:
    """Return a taint: `key=value:Effect` or `key:Effect` (Kubernetes: "Taints and Tolerations")."""
    rest, colon, effect = text.rpartition(":")
    if not colon:
        raise Bad(f"{show(text)} has no effect", f"write it like {text or 'storage=yes'}:NoSchedule")
    if effect not in EFFECTS:
        raise Bad(
            f"{show(effect)} is not an effect of a taint",
            nearest(effect, EFFECTS) or f"they are {listing(EFFECTS)}",
        )
    key, _, word = rest.partition("=")
    prefix, slash, name = key.rpartition("/")
    label = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", name) or (
        slash and not re.fullmatch(rf"{label}(\.{label})*", prefix)
    ):
        raise Bad(f"{show(key)} is not a taint's key", "write it like storage=yes:NoSchedule")
    kube.label_value(word)
    return text


def phone(text: str) -> str:
    """Return a URL that nodes report to."""
    return values.url(text, ("https", "http"), "nodes report by http or https")


def _one_of(text: str, known: Iterable[str], what: str) -> str:
    if text not in known:
        raise Bad(f"{show(text)} is not {what}", nearest(text, known) or f"there are {listing(known)}")
    return text
