"""Cards join a real control plane, made from what pibake issued before anything had power.

The order of the tests is that of a cluster's life; they share one control plane, and each card its disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster import lab as labs

from pibake.errors import PibakeError
from pibake.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.lab import Lab

pytestmark = pytest.mark.cluster

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "hello"},
    "spec": {
        "automountServiceAccountToken": False,
        "tolerations": [{"key": "lab", "operator": "Exists"}],
        "nodeSelector": {"disk": "ssd"},
        "containers": [{"name": "hello", "image": "pibake.test/hello:1", "imagePullPolicy": "Never"}],
    },
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert os.geteuid() == 0, "namespaces and tap devices need root"
    folder = tmp_path_factory.mktemp("lab")
    labs.described(folder, "node3", "node4", "node5")
    with labs.opened(folder) as made:
        made.pibake("build", "--all")
        made.pibake("kubeconfig", "-o", "kubeconfig")
        made.control_plane()
        for name in ("tap3", "tap4", "tap5", "tap6"):
            made.tap(name)
        yield made


@pytest.fixture(scope="module")
def joined(lab: Lab) -> dict[str, Any]:
    """The report of node3's first boot, with what the cluster said of it while it was up."""
    with labs.powered(lab, "node3", "tap3") as boot:
        lab.wait("node/node3", 600)
        answer, running = run_pod(lab)
        said = {**boot.report(), "pod": answer}
        join = said["report"]["join"]
        # the emulated machine's clock is this one's
        moments = {
            **join["reached"],
            "started": join["started"],
            "pod": running - join["time"] + join["uptime"],
        }
        print("\nnode3, seconds after its kernel started:", {k: round(v, 1) for k, v in moments.items()})
        assert state(said) == "scrubbed ok", said["report"]["join"]
        said["node"] = lab.nodes()["node3"]
        boot.off()
    return said


def run_pod(lab: Lab) -> tuple[str, float]:
    """Run a pod from the image that came on the card; return what it answers over the network, and when it ran."""
    lab.kubectl("apply", "-f", "-", stdin=json.dumps(POD))
    running = lab.wait("pod/hello", 120)
    address = lab.get("pod", "hello")["status"]["podIP"]
    lab.run("ip", "route", "replace", "10.244.9.0/24", "via", "192.168.77.23")
    fetch = f"import urllib.request as u; print(u.urlopen('http://{address}:8080/', timeout=20).status)"
    answer = str(
        labs.until(lambda: lab.run(sys.executable, "-c", fetch, check=False), 60, "it answers")
    ).strip()
    lab.kubectl("delete", "pod", "hello", "--grace-period=0", "--force")
    return answer, running


def state(said: dict[str, Any]) -> str:
    join = said["report"]["join"]
    return f"{join['stage']} {join['status']}"


def test_the_kubeconfig_made_before_anything_ran_is_the_administrators(lab: Lab) -> None:
    assert lab.nodes() == {}
    assert lab.kubectl("auth", "can-i", "*", "*").strip() == "yes"


def test_a_card_joins_by_itself_and_is_ready(joined: dict[str, Any]) -> None:
    assert joined["healthy"], [check for check in joined["checks"] if not check["ok"]]
    assert list(joined["report"]["join"]["reached"]) == [
        "network", "clock", "endpoint", "install", "join", "ready", "scrubbed",
    ]  # fmt: skip
    assert state(joined) == "scrubbed ok"
    node = joined["node"]
    assert [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"] == ["True"]
    addresses = {a["type"]: a["address"] for a in node["status"]["addresses"]}
    assert addresses == {"InternalIP": "192.168.77.23", "Hostname": "node3"}
    assert node["metadata"]["labels"]["disk"] == "ssd"
    assert {"key": "lab", "value": "yes", "effect": "NoSchedule"} in node["spec"]["taints"]


def test_a_pod_runs_from_the_archive_that_was_baked_in(joined: dict[str, Any]) -> None:
    assert joined["pod"] == "200"


def test_no_secret_is_left_where_a_card_reader_or_cloud_init_keeps_it(
    lab: Lab, joined: dict[str, Any]
) -> None:
    assert joined
    disk = lab.folder / "node3.qcow2"
    secrets = Vault(lab.folder / "secrets").existing()
    values = [text.encode() for text in secrets.values()]
    card = labs.boot_partition(disk)
    assert b"pibake.clock=" in card
    assert [value[:8] for value in values if value in card] == []
    kept = labs.tree(disk, "/var/lib/cloud") | labs.tree(disk, "/var/log")
    assert any(path.endswith("user-data.txt") for path in kept)
    found = [(path, value[:8]) for path, data in kept.items() for value in values if value in data]
    assert found == []


def test_power_is_cut_three_times_and_the_node_still_joins_once(lab: Lab, joined: dict[str, Any]) -> None:
    whole = joined["report"]["join"]["reached"]["scrubbed"]
    moments = [round(random.uniform(0.25, 0.95) * whole) for _ in range(3)]  # noqa: S311 - no secret
    print("\npower cuts after", moments, "s")
    for moment in moments:
        with labs.powered(lab, "node4", "tap4") as boot:
            with contextlib.suppress(AssertionError):
                labs.until(lambda child=boot.child: child.poll() is not None, moment, "it goes on")
            assert boot.child.poll() is None, "it ended by itself"
            boot.off(hard=True)
    with labs.powered(lab, "node4", "tap4") as boot:
        said = boot.report()
        assert state(said) == "scrubbed ok", said["report"]["join"]
        uid = lab.nodes()["node4"]["metadata"]["uid"]
        boot.off()
    assert [name for name in lab.nodes() if name.startswith("node4")] == ["node4"]
    assert lab.nodes()["node4"]["metadata"]["uid"] == uid


def test_a_card_of_another_cluster_refuses_to_join(lab: Lab) -> None:
    other = lab.folder / "other"
    labs.described(other, "node6")
    lab.pibake("build", "--hostname", "node6", folder=other)
    with labs.powered(lab, "node6", "tap6", folder=other, wait=15) as boot:
        said = boot.report()
        boot.off()
    join = said["report"]["join"]
    assert (join["stage"], join["status"]) == ("endpoint", "failed")
    assert "another CA than the one pinned on this card" in join["detail"]
    assert "node6" not in lab.nodes()


def test_a_token_past_its_time_is_said_and_a_new_one_mends_it(lab: Lab) -> None:
    token = Vault(lab.folder / "secrets").existing().tokens["bootstrap"].reveal().partition(".")[0]
    soon = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch = json.dumps({"stringData": {"expiration": soon}})
    lab.kubectl("-n", "kube-system", "patch", "secret", f"bootstrap-token-{token}", "-p", patch)

    def signed() -> dict[str, str]:
        return dict(lab.get("-n", "kube-public", "configmap", "cluster-info")["data"])

    labs.until(lambda: f"jws-kubeconfig-{token}" not in signed(), 60, "the token is gone")
    with labs.powered(lab, "node5", "tap5", wait=15) as boot:
        join = boot.report()["report"]["join"]
        assert (join["stage"], join["status"]) == ("join", "failed")
        assert f"the bootstrap token {token}... is unknown to the API server" in join["detail"]
        boot.off()
    lab.pibake("secrets", "rotate", "tokens", "--apply")
    lab.pibake("build", "--hostname", "node5")
    with labs.powered(lab, "node5", "tap5") as boot:
        assert state(boot.report()) == "scrubbed ok"
        boot.off()
    assert "node5" in lab.nodes()


def test_a_forgotten_node_is_gone_and_its_rebuilt_card_joins_again(lab: Lab) -> None:
    before = lab.nodes()["node5"]["metadata"]["uid"]
    lab.pibake("forget", "node5", "--apply", "--no-drain")
    assert "node5" not in lab.nodes()
    with pytest.raises(PibakeError):
        Vault(lab.folder / "secrets").existing().node("node5")
    lab.pibake("build", "--hostname", "node5")
    (lab.folder / "node5.qcow2").unlink()
    started = time.monotonic()
    with labs.powered(lab, "node5", "tap5") as boot:
        assert state(boot.report()) == "scrubbed ok"
        boot.off()
    print(f"\nrejoined in {time.monotonic() - started:.0f} s")
    assert lab.nodes()["node5"]["metadata"]["uid"] != before
