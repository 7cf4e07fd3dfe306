"""A running cluster, looked over from outside: what cluster.yaml says of it against what its API server does.

Sources: Kubernetes API reference (Node `status.conditions`, `nodeInfo`; Lease `spec.renewTime`, which a kubelet renews every
10 s by its own clock: documentation, "Leases"); kubelet's /stats/summary; documentation, "Node-pressure Eviction" (10 % of the
node's file system).
"""

from __future__ import annotations

import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pibake.checkup import addons
from pibake.checkup.values import OK, UNKNOWN, WARNING, WRONG, Facts, Finding
from pibake.errors import CommandFailed
from pibake.identity import pki

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pibake.live import Live
    from pibake.plan import Plan

SOON, VERY_SOON = timedelta(days=30), timedelta(days=7)
"""Before a certificate ends."""
LITTLE, VERY_LITTLE = 0.20, 0.10
"""Of a node's file system that is free: at the latter the kubelet begins to evict pods."""
AHEAD, BEHIND = timedelta(seconds=5), timedelta(seconds=60)
"""How far a node's clock may seem off. That it is behind shows only once it is more than a renewal of its Lease takes."""
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
WORKLOADS = {
    "Deployment": ("readyReplicas", "replicas"),
    "StatefulSet": ("readyReplicas", "replicas"),
    "DaemonSet": ("numberReady", "desiredNumberScheduled"),
}
"""Kind -> where its status says how many are ready, and how many there should be."""
AT_A_TIME = 8


def observe(live: Live, url: str, plan: Plan) -> Facts:
    """Ask a cluster, and for what the plan says should be on it.

    Raises:
        CommandFailed: its API server does not answer.
    """
    version = json.loads(live.kubectl("get", "--raw", "/version", why="ask the API server for its version"))
    nodes = _items(live, "nodes")
    names = [node["metadata"]["name"] for node in nodes]
    # made on trial only: the API server stamps it with its own clock
    trial = ("create", "configmap", "pibake-check", "--dry-run=server", "-o", "json", "-n", "default")
    stamp = json.loads(live.kubectl(*trial, why="ask the API server for the time"))["metadata"][
        "creationTimestamp"
    ]
    here = datetime.now(UTC)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        disks = dict(zip(names, pool.map(lambda name: _disk(live, name), names), strict=True))
    return Facts(
        version=version["gitVersion"],
        now=_time(stamp),
        here=here,
        certificate=_certificate(url),
        troubles=_troubles(live),
        nodes=nodes,
        leases={
            lease["metadata"]["name"]: _time(lease["spec"]["renewTime"])
            for lease in _items(live, "leases", "-n", "kube-node-lease")
            if lease["spec"].get("renewTime")
        },
        disks={name: disk for name, disk in disks.items() if disk},
        workloads=_items(live, "deployments,statefulsets,daemonsets", "-A"),
        addons=addons.observe(live, plan),
    )


def judge(plan: Plan, authorities: Mapping[str, datetime], facts: Facts) -> list[Finding]:
    """Compare what the cluster says with the plan; `authorities` are the ends of its CAs' certificates, by name."""
    return [
        *_server(plan, facts),
        *(_ending(f"authority {name}", end, facts.here) for name, end in authorities.items()),
        *_nodes(plan, facts),
        *addons.judge(plan, facts.addons),
        *_workloads(facts.workloads),
    ]


def _server(plan: Plan, facts: Facts) -> Iterator[Finding]:
    wanted = plan.kubernetes.version if plan.kubernetes else ""
    yield _version("API server", "API server", wanted, facts.version)
    for name in facts.troubles:
        yield Finding("API server", name, WRONG, "its own check fails", "its log says why")
    yield _skew("clock", "API server", facts.now - facts.here, "than this host's")
    if facts.certificate:
        yield _ending("API server's certificate", facts.certificate, facts.here)
    else:
        yield Finding("certificate", "API server", UNKNOWN, "it could not be seen from here")


def _nodes(plan: Plan, facts: Facts) -> Iterator[Finding]:
    seen = {node["metadata"]["name"]: node for node in facts.nodes}
    wanted = {node.member.kubernetes.node_name(node): node for node in plan.nodes if node.member is not None}
    for name, node in wanted.items():
        if name not in seen:
            remedy = f"`pibake status {name}` or its console say how far it has come"
            yield Finding("node", name, WRONG, "is not in the cluster", remedy)
        else:
            yield _ready(name, seen[name])
            yield _address(name, seen[name], str(node.link.address.ip))
            version = plan.kubernetes.version if plan.kubernetes else ""
            yield _version("kubelet", name, version, seen[name]["status"]["nodeInfo"]["kubeletVersion"])
            yield _clock(name, facts)
            yield _room(name, facts.disks.get(name))
    for name in sorted(seen.keys() - wanted.keys()):
        remedy = f"add it to cluster.yaml, or `pibake forget {name} --apply`"
        yield Finding("node", name, WARNING, "is in the cluster, and not in cluster.yaml", remedy)


def _ready(name: str, node: Mapping[str, Any]) -> Finding:
    conditions = {one["type"]: one for one in node["status"].get("conditions", ())}
    ready = conditions.get("Ready", {"status": "Unknown", "message": "its kubelet has never reported"})
    if ready["status"] != "True":
        return Finding("node", name, WRONG, f"is not ready: {ready.get('message', '')}", f"pibake ssh {name}")
    pressed = [kind for kind in PRESSURES if conditions.get(kind, {}).get("status") == "True"]
    if pressed:
        return Finding(
            "node", name, WRONG, f"{', '.join(pressed)}: {conditions[pressed[0]].get('message', '')}"
        )
    if node["spec"].get("unschedulable"):
        return Finding("node", name, WARNING, "takes no new pods", f"kubectl uncordon {name}")
    return Finding("node", name, OK, "ready")


def _address(name: str, node: Mapping[str, Any], wanted: str) -> Finding:
    addresses = [one["address"] for one in node["status"].get("addresses", ()) if one["type"] == "InternalIP"]
    if wanted in addresses:
        return Finding("address", name, OK, wanted)
    detail = f"{', '.join(addresses) or 'none'}, where cluster.yaml says {wanted}"
    return Finding(
        "address",
        name,
        WRONG,
        detail,
        "is it another machine of that name, or does the kubelet use another port?",
    )


def _version(what: str, subject: str, wanted: str, seen: str) -> Finding:
    if seen == wanted:
        return Finding(what, subject, OK, seen)
    detail = f"{seen}, where cluster.yaml says {wanted}"
    return Finding(what, subject, WARNING, detail, "build its card anew, or say in cluster.yaml what runs")


def _clock(name: str, facts: Facts) -> Finding:
    renewed = facts.leases.get(name)
    if renewed is None:
        return Finding("clock", name, UNKNOWN, "it has renewed no Lease")
    return _skew("clock", name, renewed - facts.now, "than the API server's")


def _skew(what: str, subject: str, ahead: timedelta, whose: str) -> Finding:
    seconds = ahead.total_seconds()
    if -BEHIND <= ahead <= AHEAD:
        return Finding(what, subject, OK, f"not later by more than {AHEAD.seconds} s {whose}")
    detail = f"{abs(seconds):.0f} s {'later' if seconds > 0 else 'earlier'} {whose}"
    if seconds < 0 and subject != "API server":
        detail += ", or its kubelet has been silent for that long"
    return Finding(what, subject, WRONG, detail, "timedatectl there says whether it has found a time server")


def _room(name: str, disk: tuple[int, int] | None) -> Finding:
    if disk is None:
        return Finding("disk", name, UNKNOWN, "its kubelet does not say")
    free, size = disk
    share = free / size if size else 0.0
    status = WRONG if share < VERY_LITTLE else WARNING if share < LITTLE else OK
    detail = f"{free / 1e9:.1f} of {size / 1e9:.1f} GB free"
    return Finding(
        "disk",
        name,
        status,
        detail,
        "" if status == OK else "`crictl rmi --prune` there removes unused images",
    )


def _ending(subject: str, end: datetime, now: datetime) -> Finding:
    left = end - now
    status = WRONG if left < VERY_SOON else WARNING if left < SOON else OK
    word = "ended on" if left < timedelta() else "ends on"
    remedy = "" if status == OK else "docs/identity.md says how each kind is renewed"
    return Finding(
        "certificate",
        subject,
        status,
        f"{word} {end:%Y-%m-%d}, {abs(left.days)} days {'ago' if left.days < 0 else 'from now'}",
        remedy,
    )


def _workloads(workloads: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for one in workloads:
        kind, name = one["kind"], f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        ready, wanted = (one.get("status", {}).get(key, 0) for key in WORKLOADS[kind])
        wanted = one["spec"].get("replicas", wanted) if kind != "DaemonSet" else wanted
        status = OK if ready >= wanted else WRONG
        remedy = (
            ""
            if status == OK
            else f"kubectl -n {one['metadata']['namespace']} describe {kind.lower()} {one['metadata']['name']}"
        )
        yield Finding(kind, name, status, f"{ready} of {wanted} ready", remedy)


def _items(live: Live, kind: str, *arguments: str) -> tuple[Mapping[str, Any], ...]:
    said = live.kubectl("get", kind, *arguments, "-o", "json", why=f"ask for the cluster's {kind}")
    return tuple(json.loads(said)["items"])


def _troubles(live: Live) -> tuple[str, ...]:
    """Return the checks of the API server's own that fail: lines that begin with `[-]` (Kubernetes, "API health endpoints")."""
    try:
        said = live.kubectl("get", "--raw", "/readyz?verbose", why="ask the API server how it is")
    except CommandFailed as error:
        said = str(error)
    return tuple(line.strip()[3:].split()[0] for line in said.splitlines() if line.strip().startswith("[-]"))


def _disk(live: Live, name: str) -> tuple[int, int] | None:
    """Return free and all bytes of a node's file system, by its kubelet; None if that does not answer in time."""
    path = f"/api/v1/nodes/{name}/proxy/stats/summary"
    try:
        said = json.loads(
            live.kubectl("get", "--raw", path, "--request-timeout=5s", why=f"ask the kubelet of {name}")
        )
        return int(said["node"]["fs"]["availableBytes"]), int(said["node"]["fs"]["capacityBytes"])
    except (CommandFailed, ValueError, KeyError):
        return None


def _certificate(url: str) -> datetime | None:
    """Return when the certificate ends that is shown at a URL; whom to trust is not asked here."""
    place = urlsplit(url)
    try:
        shown = ssl.get_server_certificate((place.hostname or "", place.port or 443), timeout=10)
    except OSError:
        return None
    return pki.valid(pki.certificates(shown)[0])[1]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
