"""What the values of `kubernetes:` must be to each other, to the nodes and to the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.config import kube, membership, names, values
from pibake.config.check import value
from pibake.config.model import DEFAULT_DOMAIN
from pibake.config.problems import Bad, Loc, Problem, listing
from pibake.config.rules import holders, items, source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

POD_CIDR = {"k3s": "10.42.0.0/16", "kubeadm": "10.244.0.0/16"}
"""Each distribution's own default; kubeadm's is flannel's."""
SERVICE_CIDR = {"k3s": "10.43.0.0/16", "kubeadm": "10.96.0.0/12"}
LONGEST_NAME = 63
"""Of a label's value (Kubernetes documentation, "Labels and Selectors")."""
ONLY = {
    "k3s": ("disable", "snapshotter", "datastore", "registries"),
    "kubeadm": ("cni", "token_ttl"),
}
"""Keys that mean something with one distribution only."""


def check(data: Any) -> Iterator[Problem]:
    """Yield every problem between the values of `kubernetes:` and the rest of the file."""
    written = value(data, ("kubernetes",))
    if isinstance(written, dict):
        kind = _typed(membership.distribution, written.get("distribution"))
        if kind:
            yield from _distribution(written, kind)
            yield from _ranges(data, kind)
        yield from _servers(data, external="datastore" in written)
        yield from _addresses(data)
        yield from _full_names(data)
    else:
        yield from _tainted(data)


def _typed(parse: Callable[[str], T], raw: Any) -> T | None:
    try:
        return parse(raw) if isinstance(raw, str) else None
    except Bad:
        return None


def _distribution(written: dict[str, Any], kind: str) -> Iterator[Problem]:
    version = _typed(membership.version, written.get("version"))
    if version and kind == "k3s" and "+k3s" not in version:
        yield Problem(
            ("kubernetes", "version"),
            f"{version} is not a release of k3s",
            f"k3s' releases carry a suffix: {version}+k3s1",
        )
    if version and kind == "kubeadm" and "+k3s" in version:
        yield Problem(
            ("kubernetes", "version"),
            f"{version} is a release of k3s, not of kubeadm",
            f"write {version.partition('+')[0]}, or `distribution: k3s`",
        )
    other = "kubeadm" if kind == "k3s" else "k3s"
    for key in ONLY[other]:
        if key in written:
            yield Problem(
                ("kubernetes", key),
                f"`{key}` is for {other}, and this is {kind}",
                "remove the line",
                on_key=True,
            )


def _servers(data: Any, *, external: bool) -> Iterator[Problem]:
    nodes = value(data, ("nodes",))
    if not isinstance(nodes, list):
        return
    roles = [_typed(kube.role, value(data, source(data, at, "role")) or "agent") for at in range(len(nodes))]
    servers = [index for index, role in enumerate(roles) if role == "server"]
    if not servers and None not in roles:
        yield Problem(
            ("nodes",),
            "no node is a server, so there is nothing to join",
            "give one node `role: server`",
            on_key=True,
        )
    # etcd needs a majority: two servers fail when either does, four tolerate no more than three
    if len(servers) > 1 and len(servers) % 2 == 0 and not external:
        lost = (len(servers) - 1) // 2
        fewer = len(servers) - 1
        better = f"{fewer} or {fewer + 2}" if fewer > 1 else "1 or 3"
        yield Problem(
            ("nodes", servers[-1], "role"),
            f"{len(servers)} servers: etcd's quorum is {len(servers) // 2 + 1} of them, so {lost or 'none'} may fail,"
            f" as with {fewer}, and there is one more to fail",
            f"make it {better} servers, or give k3s an external `datastore`",
        )


def _full_names(data: Any) -> Iterator[Problem]:
    """Yield a problem for each full name that is too long for the label that every Node has its name in."""
    if value(data, ("kubernetes", "node_names")) != "full":
        return
    domain = _typed(names.domain, value(data, ("domain",)) or DEFAULT_DOMAIN)
    for index, node in enumerate(items(data, "nodes")):
        hostname = _typed(names.hostname, value(node, ("hostname",)))
        if domain and hostname:
            full = f"{hostname.partition('.')[0]}.{domain}"
            if len(full) > LONGEST_NAME:
                yield Problem(
                    ("nodes", index, "hostname"),
                    f"{full} has {len(full)} characters, and a Node's label kubernetes.io/hostname takes {LONGEST_NAME}",
                    "a shorter name or domain, or `node_names: short`",
                    first=("kubernetes", "node_names"),
                )


def _addresses(data: Any) -> Iterator[Problem]:
    subnet = _typed(values.subnet, value(data, ("network", "subnet")))
    vip = _typed(values.ip, value(data, ("kubernetes", "vip")))
    endpoint = value(data, ("kubernetes", "endpoint"))
    fixed = _typed(values.ip, endpoint)
    for key, address in (("vip", vip), ("endpoint", fixed)):
        if address and subnet and address not in subnet:
            yield Problem(
                ("kubernetes", key),
                f"{address} is outside the subnet {subnet}",
                "nodes reach the API server on their own network, before anything routes for them",
            )
    taken: dict[Any, tuple[Loc, str]] = {}
    if gateway := _typed(values.ip, value(data, ("network", "gateway"))):
        taken[gateway] = ("network", "gateway"), "the gateway"
    nodes = value(data, ("nodes",))
    for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if address := _typed(values.address, value(node, ("address",))):
            taken[address] = ("nodes", index, "address"), str(value(node, ("hostname",)))
    if vip in taken:
        place, owner = taken[vip]
        yield Problem(
            ("kubernetes", "vip"),
            f"{vip} is the address of {owner}",
            "a VIP belongs to no board",
            first=place,
        )
    servers = {address for address, (place, _) in taken.items() if _is_server(data, place)}
    if fixed and fixed != vip and fixed in taken and fixed not in servers:
        yield Problem(
            ("kubernetes", "endpoint"),
            f"{fixed} is the address of {taken[fixed][1]}, which is no server",
            "name a server, a load balancer, or a `vip`",
            first=taken[fixed][0],
        )


def _is_server(data: Any, place: Loc) -> bool:
    if place[0] != "nodes" or not isinstance(place[1], int):
        return False
    return bool(value(data, source(data, place[1], "role")) == "server")


def _ranges(data: Any, kind: str) -> Iterator[Problem]:
    subnet = _typed(values.subnet, value(data, ("network", "subnet")))
    found: list[tuple[Loc, values.IPNetwork, str]] = []
    if subnet:
        found.append((("network", "subnet"), subnet, "the nodes' subnet"))
    for key, default, what in (
        ("pod_cidr", POD_CIDR[kind], "the pods' addresses"),
        ("service_cidr", SERVICE_CIDR[kind], "the services' addresses"),
    ):
        raw = value(data, ("kubernetes", key))
        network = _typed(membership.cidr, raw if raw is not None else default)
        if network is None:
            continue
        loc: Loc = ("kubernetes", key) if raw is not None else ("kubernetes", "distribution")
        said = network if raw is not None else f"{network}, which is {kind}'s default for {what},"
        if subnet and network.version != subnet.version:
            yield Problem(
                loc, f"{said} is not of IP version {subnet.version}, as the subnet is", f"set `{key}:`"
            )
        else:
            for place, other, name in found:
                if network.overlaps(other):
                    yield Problem(
                        loc, f"{said} overlaps {name} {other}", f"set another `{key}:`", first=place
                    )
        found.append((loc, network, what))


def _tainted(data: Any) -> Iterator[Problem]:
    for holder in holders(data):
        loc = (*holder, "taints")
        if value(data, loc):
            yield Problem(
                loc,
                "taints mean nothing without `kubernetes:`",
                f"add `kubernetes: {{distribution: k3s, version: ...}}`; it is one of {listing(membership.DISTRIBUTIONS)}",
                on_key=True,
            )
