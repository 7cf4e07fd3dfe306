"""What `pibake check` makes of what a cluster says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools.wired import HASH

from pibake import config
from pibake.checkup import judge
from pibake.checkup.values import OK, UNKNOWN, WARNING, WRONG, Facts, Finding, Installed
from pibake.plan import Plan, plan

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
FAR = NOW + timedelta(days=3000)


def node(name: str, address: str, **more: Any) -> dict[str, Any]:
    conditions = more.pop("conditions", [{"type": "Ready", "status": "True"}])
    return {
        "metadata": {"name": name},
        "spec": more,
        "status": {
            "conditions": conditions,
            "nodeInfo": {"kubeletVersion": "v1.31.4"},
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
        },
    }


WELL = Facts(
    version="v1.31.4",
    now=NOW,
    here=NOW,
    certificate=FAR,
    troubles=(),
    nodes=(node("node1", "192.168.10.11"), node("node2", "192.168.10.12")),
    leases={"node1": NOW - timedelta(seconds=9), "node2": NOW},
    disks={"node1": (20_000_000_000, 30_000_000_000), "node2": (20_000_000_000, 30_000_000_000)},
    workloads=(),
    addons={},
)


CLUSTER = f"""\
cluster: lab
kubernetes: {{distribution: kubeadm, version: v1.31.4}}
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1}}
users:
  - {{name: ops, password_hash: "{HASH}"}}
nodes:
  - {{hostname: node1, address: 192.168.10.11, role: server}}
  - {{hostname: node2, address: 192.168.10.12}}
"""


@pytest.fixture
def decided(tmp_path: Path) -> Plan:
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER)
    return plan(config.load(path, bases=["debian-13"]))


def of(decided: Plan, facts: Facts, what: str, subject: str) -> Finding:
    (found,) = [
        one for one in judge(decided, {"ca": FAR}, facts) if (one.what, one.subject) == (what, subject)
    ]
    return found


def test_a_cluster_that_is_as_planned_is_well(decided: Plan) -> None:
    assert {one.status for one in judge(decided, {"ca": FAR}, WELL)} == {OK}


def test_a_node_that_reports_no_condition_is_not_ready(decided: Plan) -> None:
    found = of(
        decided,
        replace(WELL, nodes=(node("node1", "192.168.10.11", conditions=[]), WELL.nodes[1])),
        "node",
        "node1",
    )
    assert (found.status, found.detail) == (WRONG, "is not ready: its kubelet has never reported")


def test_a_node_that_takes_no_pods_is_a_warning_with_the_way_out(decided: Plan) -> None:
    found = of(
        decided,
        replace(WELL, nodes=(node("node1", "192.168.10.11", unschedulable=True), WELL.nodes[1])),
        "node",
        "node1",
    )
    assert (found.status, found.remedy) == (WARNING, "kubectl uncordon node1")


def test_another_machine_under_a_nodes_name_is_wrong(decided: Plan) -> None:
    found = of(decided, replace(WELL, nodes=(node("node1", "10.0.0.9"), WELL.nodes[1])), "address", "node1")
    assert (found.status, found.detail) == (WRONG, "10.0.0.9, where cluster.yaml says 192.168.10.11")


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(6, WRONG), (4, OK), (-59, OK), (-61, WRONG)],
    ids=["late", "a little", "between renewals", "early"],
)
def test_a_clock_is_judged_by_the_lease_it_dates(decided: Plan, seconds: int, status: str) -> None:
    facts = replace(WELL, leases={**WELL.leases, "node1": NOW + timedelta(seconds=seconds)})
    assert of(decided, facts, "clock", "node1").status == status


def test_a_clock_nobody_has_seen_is_unknown(decided: Plan) -> None:
    assert of(decided, replace(WELL, leases={}), "clock", "node1").status == UNKNOWN


@pytest.mark.parametrize(("share", "status"), [(0.21, OK), (0.19, WARNING), (0.09, WRONG)])
def test_a_disk_is_judged_by_what_the_kubelet_does_at_a_tenth(
    decided: Plan, share: float, status: str
) -> None:
    facts = replace(WELL, disks={"node1": (int(share * 10**9), 10**9)})
    assert of(decided, facts, "disk", "node1").status == status


@pytest.mark.parametrize(("days", "status"), [(31, OK), (29, WARNING), (6, WRONG), (-2, WRONG)])
def test_certificates_are_judged_by_the_days_they_have_left(decided: Plan, days: int, status: str) -> None:
    facts = replace(WELL, certificate=NOW + timedelta(days=days))
    found = of(decided, facts, "certificate", "API server's certificate")
    assert found.status == status
    assert ("ended on" in found.detail) == (days < 0)


def test_workloads_are_counted_by_their_kinds(decided: Plan) -> None:
    def workload(kind: str, spec: dict[str, int], **status: int) -> dict[str, Any]:
        return {
            "kind": kind,
            "metadata": {"namespace": "web", "name": kind.lower()},
            "spec": spec,
            "status": status,
        }

    facts = replace(
        WELL,
        workloads=(
            workload("Deployment", {"replicas": 3}, replicas=3, readyReplicas=2),
            workload("StatefulSet", {"replicas": 0}),
            workload("DaemonSet", {}, desiredNumberScheduled=4, numberReady=4),
        ),
    )
    assert (of(decided, facts, "Deployment", "web/deployment").status) == WRONG
    assert (
        of(decided, facts, "Deployment", "web/deployment").remedy
        == "kubectl -n web describe deployment deployment"
    )
    assert of(decided, facts, "StatefulSet", "web/statefulset").status == OK
    assert of(decided, facts, "DaemonSet", "web/daemonset").detail == "4 of 4 ready"


def test_the_api_servers_own_checks_that_fail_are_named(decided: Plan) -> None:
    assert of(decided, replace(WELL, troubles=("etcd",)), "API server", "etcd").status == WRONG


@pytest.mark.parametrize(
    ("there", "status", "detail"),
    [
        (Installed(3), OK, "3 objects"),
        (Installed(3, waiting=("metallb",)), WARNING, "its chart is being installed"),
        (
            Installed(3, missing=("IPAddressPool/default",)),
            WRONG,
            "1 of 3 objects are not there: IPAddressPool/default",
        ),
        (
            Installed(3, missing=("IPAddressPool/default",), failures={"metallb": "no such chart"}),
            WRONG,
            "its chart is not installed: no such chart",
        ),
    ],
    ids=["there", "waits", "misses one", "failed"],
)
def test_an_add_on_is_well_once_its_objects_are_there_and_its_chart_is_installed(
    decided: Plan, there: Installed, status: str, detail: str
) -> None:
    found = of(decided, replace(WELL, addons={"metallb": there}), "add-on", "metallb")
    assert (found.status, found.detail) == (status, detail)
    assert (found.remedy == "") == (status == OK)


def test_nodes_that_go_by_their_full_names_are_looked_for_under_them(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER.replace("v1.31.4}", "v1.31.4, node_names: full}"))
    full = plan(config.load(path, bases=["debian-13"]))
    nodes = (node("node1.home.arpa", "192.168.10.11"), node("node2", "192.168.10.12"))
    seen = {
        one.subject: one.status for one in judge(full, {}, replace(WELL, nodes=nodes)) if one.what == "node"
    }
    assert seen == {"node1.home.arpa": OK, "node2.home.arpa": WRONG, "node2": WARNING}
