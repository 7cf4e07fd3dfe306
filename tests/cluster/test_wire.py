"""Boards without a card join the real control plane, and containers run on both kinds of root file system."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.boot.wire import MAC, SERIAL, Wire
from tests.cluster import lab as labs
from tests.cluster.test_cluster import run_pod
from tests.net import lab as networks
from tests.tools.netns import entered, ip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.lab import Lab

pytestmark = pytest.mark.cluster
ROOT = "root: nfs"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert os.geteuid() == 0, "namespaces and tap devices need root"
    folder = tmp_path_factory.mktemp("wire")
    labs.described(folder, "node3")
    text = (folder / "cluster.yaml").read_text()
    board = f"hostname: node3, board: pi4, mac: '{MAC}', serial: {SERIAL}, {ROOT},"
    text = text.replace("hostname: node3,", board) + "netboot: {dhcp: server}\n"
    (folder / "cluster.yaml").write_text(text)
    with labs.opened(folder) as made:
        made.pibake("build", "--hostname", "s1")
        made.pibake("kubeconfig", "-o", "kubeconfig")
        made.control_plane()
        yield made


@pytest.fixture(scope="module")
def wired(lab: Lab) -> Iterator[Wire]:
    name = f"pibake-cluster-{os.getpid()}"
    ip("netns", "attach", name, str(lab.holder.pid))
    with ExitStack() as stack:
        stack.callback(ip, "netns", "delete", name)
        stack.enter_context(entered(name))
        network = networks.Lab(name, stack, bridge="wire")
        wire = Wire(lab.folder, network, stack, server=labs.GATEWAY, address="192.168.77.23")
        wire.serve()
        yield wire


@pytest.mark.parametrize("root", ["nfs", "nbd"])
def test_a_board_without_a_card_joins_and_runs_a_container(root: str, lab: Lab, wired: Wire) -> None:
    if root != "nfs":
        cluster = lab.folder / "cluster.yaml"
        cluster.write_text(cluster.read_text().replace(ROOT, f"root: {root}"))
        wired.follows()
    with wired.machine(wired.plays("pi4")) as machine:
        started = time.monotonic()
        lab.wait("node/node3", 600)
        print(f"\n{root}: Ready {time.monotonic() - started:.0f} s after power-on")
        answer, _ = run_pod(lab)
        assert answer == "200"
        report = wired.report(machine, 600)
        assert report["join"]["stage"] == "scrubbed"
        assert wired.problems(report) == []
        assert wired.status()["nodes"]["node3"]["report"]["stage"] == "scrubbed"
    lab.kubectl("delete", "node", "node3")


def test_a_board_that_nobody_knew_joins_as_the_node_it_is_adopted_as(lab: Lab, wired: Wire) -> None:
    cluster = lab.folder / "cluster.yaml"
    cluster.write_text(cluster.read_text().replace(f", mac: '{MAC}', serial: {SERIAL}", ""))
    wired.follows()
    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(wired.plays, "pi4", 100.0)
        deadline = time.monotonic() + 30
        while SERIAL not in {board["serial"] for board in json.loads(wired.pibake("boards", "--json"))}:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert not playing.done()
        print(wired.pibake("adopt", SERIAL, "--as", "node3"))
        print(wired.until("node3 is the pi4"))
        played = playing.result()
    with wired.machine(played) as machine:
        lab.wait("node/node3", 600)
        answer, _ = run_pod(lab)
        assert answer == "200"
        assert wired.report(machine, 600)["join"]["stage"] == "scrubbed"
        (node,) = [
            one for one in json.loads(wired.pibake("status", "--json"))["nodes"] if one["hostname"] == "node3"
        ]
        assert node["state"] == "joined"
    lab.kubectl("delete", "node", "node3")
