"""The head and a worker behind it, booted from their cards: two networks, and one way between them."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.net.lab import lab
from tests.tools.multicast import heard
from tests.tools.netns import entered, ip

from pibake import health, vm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.net.lab import Lab

OUTSIDE, UP = "203.0.113.1", "203.0.113.5"
INNER_MAC, OUTER_MAC, WORKER_MAC = "dc:a6:32:01:02:01", "00:e0:4c:68:00:01", "dc:a6:32:01:02:03"
CLUSTER = f"""\
cluster: lab
domain: lab.example
network: {{subnet: 10.0.0.0/24, mdns: true}}
head:
  node: node1
  upstream: {{port: "{OUTER_MAC}"}}
  dhcp: 10.0.0.100-10.0.0.199
  forward: {{2222: "10.0.0.11:22"}}
users:
  - {{name: ops, ssh_keys: [{{file: id.pub}}]}}
nodes:
  - {{hostname: node1, address: 10.0.0.1, mac: "{INNER_MAC}"}}
  - {{hostname: node2, address: 10.0.0.11, mac: "{WORKER_MAC}"}}
"""
WORLD = f"""
interface=br0
bind-interfaces
no-resolv
no-hosts
log-facility=-
log-dhcp
dhcp-range=203.0.113.0,static,255.255.255.0,1h
dhcp-host={OUTER_MAC},{UP}
dhcp-option=option:router,{OUTSIDE}
dhcp-option=option:dns-server,{OUTSIDE}
dhcp-leasefile={{folder}}/leases
address=/world.example/{OUTSIDE}
"""
"""What a router outside does: it gives the head its address, and knows one name."""
LIMIT = 1200


@dataclass
class Site:
    """Two cards, and the two networks they are to be on: br0 is outside, br1 has nobody on it but nodes."""

    folder: Path
    lab: Lab
    stack: ExitStack
    asked: list[str]

    def pibake(self, *arguments: str) -> None:
        argv = [sys.executable, "-m", "pibake", *arguments]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def tap(self, name: str, bridge: str) -> str:
        ip("-n", self.lab.server, "tuntap", "add", name, "mode", "tap")
        ip("-n", self.lab.server, "link", "set", name, "master", bridge, "up")
        return name

    def guest(self, address: str) -> str:
        """Return the namespace of a machine among the nodes that knows nothing of them."""
        self.lab.bridge = "br1"
        return self.lab.seat("dc:a6:32:0f:0f:0f", f"{address}/24").namespace

    def booted(self, hostname: str, outer: str = "") -> tuple[vm.Machine, list[health.Check]]:
        """Boot a card; return the machine, and what is not as its manifest says."""
        image = self.folder / f"images/out/{hostname}.img"
        manifest: dict[str, Any] = json.loads(image.with_suffix(".manifest.json").read_text())
        boot = vm.Boot(
            image, manifest, memory=1024, timeout=LIMIT, tap=self.tap(f"in-{hostname}", "br1"), outer=outer
        )
        work = self.folder / f"machine-{hostname}"
        work.mkdir()
        machine = self.stack.enter_context(vm.booted(boot, work))
        report = machine.wait_for_report(boot)
        judged = health.judge(report, manifest, disk_bytes=machine.disk_bytes)
        return machine, [check for check in judged if not check.ok]

    def ssh(self, port: int, command: str) -> str:
        """Run a command on what is behind a port of the head's address outside."""
        argv = ["ssh", "-i", str(self.folder / "id"), "-p", str(port), "-o", "BatchMode=yes"]
        argv += ["-o", "ConnectTimeout=60", "-o", "StrictHostKeyChecking=accept-new"]
        argv += ["-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}", f"ops@{UP}", command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def site(tmp_path: Path, debian_13: Path) -> Iterator[Site]:
    assert debian_13.exists()
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", tmp_path / "id"], check=True
    )
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    with ExitStack() as stack:
        network = stack.enter_context(lab(f"{OUTSIDE}/24"))
        ip(
            "-n",
            network.server,
            "link",
            "add",
            "br1",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
        )
        ip("-n", network.server, "link", "set", "br1", "up")
        # whoever is outside knows where the nodes' network is
        ip("-n", network.server, "route", "add", "10.0.0.0/24", "via", UP)
        network.dnsmasq(network.server, WORLD.format(folder=tmp_path), tmp_path / "world")
        made = Site(tmp_path, network, stack, [])
        made.pibake("build", "--all")
        stack.enter_context(entered(network.server))
        stack.enter_context(served(made.asked))
        yield made


class served:  # noqa: N801 - it is a context
    """A web server outside, which tells everyone who they are, and keeps it."""

    def __init__(self, asked: list[str]) -> None:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.client_address[0])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.client_address[0].encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((OUTSIDE, 80), Answer)

    def __enter__(self) -> None:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def reached(address: str, port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((address, port), timeout=3).close()
        return True
    return False


@pytest.mark.flavours
def test_a_worker_behind_the_head_reaches_the_world_and_nobody_reaches_it_but_by_a_port_that_leads_there(
    site: Site,
) -> None:
    _, wrong = site.booted("node1", outer=site.tap("out-node1", "br0"))
    assert wrong == []
    rules = site.ssh(22, "sudo nft list ruleset")
    _, wrong = site.booted("node2")
    assert wrong == []
    assert site.ssh(2222, "hostname -f") == "node2.lab.example"
    assert site.ssh(2222, "ip route show default").startswith("default via 10.0.0.1 ")
    assert site.ssh(2222, "curl -sS http://world.example/") == UP
    assert site.asked == [UP]
    assert site.ssh(2222, "getent hosts node1").split()[0] == "10.0.0.1"
    assert "10.0.0.11" in site.ssh(
        2222, "resolvectl query --cache=no node2.lab.example || getent hosts node2"
    )
    assert site.ssh(2222, "getent hosts node1.local").split()[0] == "10.0.0.1"
    guest = site.guest("10.0.0.50")
    assert heard(guest, "node1.local", "10.0.0.50") == "10.0.0.1"
    assert heard(guest, "node2.local", "10.0.0.50") == "10.0.0.11"
    assert not reached("10.0.0.11", 22)
    assert not reached("10.0.0.1", 22)
    assert not reached(UP, 53)
    assert reached(UP, 22)
    again = "sudo systemctl reload pibake-firewall && sudo systemctl restart pibake-firewall && sudo nft list ruleset"
    assert site.ssh(22, again) == rules
    assert site.ssh(22, "cat /proc/sys/net/ipv4/ip_forward") == "1"
    assert site.ssh(22, "ss -Hlun 'sport = 53'").count("10.0.0.1:53") == 1
