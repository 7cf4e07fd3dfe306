"""The head's rules and names in real life: nft and dnsmasq in a namespace of their own, with a network on either side."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import secrets
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.net.lab import COUNT, ended, made_namespace
from tests.tools.netns import inside, ip, needs_namespaces
from tests.tools.nodes import HEADS, heading

from pibake import resources
from pibake.config.head import Opening
from pibake.network import gateway
from pibake.plan import Forward
from pibake.probe.packet import DISCOVER, REQUEST, Message
from pibake.probe.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.plan import NodePlan

pytestmark = needs_namespaces

OUTSIDE, UP = "203.0.113.9", "203.0.113.5"
HEAD, WORKER, POD, SERVICE = "10.0.0.1", "10.0.0.11", "10.42.0.5", "10.43.0.80"
WORKER_MAC = "dc:a6:32:01:02:03"
LEFT_ALONE = f"""
table ip kube-proxy {{
    chain services {{
        type nat hook prerouting priority -100; policy accept;
        ip daddr {SERVICE} tcp dport 80 dnat to {POD}:8080
        fib daddr type local tcp dport {{ 30080, 30081 }} dnat to {POD}:8080
    }}
    chain masquerading {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr 10.42.0.0/16 ip daddr != 10.42.0.0/16 masquerade
    }}
}}
table ip filter {{
    chain FORWARD {{
        type filter hook forward priority 0; policy accept;
        ct state invalid drop
    }}
}}
"""
"""What Kubernetes has of its own: a Service, two NodePorts, and pods that go out."""


@dataclass
class Town:
    """A head between two networks, with a pod on it: each is the name of a namespace."""

    outer: str
    head: str
    inner: str
    pod: str
    stack: ExitStack
    folder: Path

    def load(self, node: NodePlan) -> str:
        """Load the rules, and return what nft has of them."""
        gateway.files(node).write(self.folder)
        self.nft("-f", str(self.folder / gateway.FIREWALL))
        return self.nft("list", "ruleset")

    def nft(self, *arguments: str, where: str = "") -> str:
        argv = ["ip", "netns", "exec", where or self.head, "nft", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dnsmasq(self, node: NodePlan) -> None:
        """Run dnsmasq as its unit does, with a lease file and hosts of the test's."""
        tree = gateway.files(node)
        text = tree[gateway.DNSMASQ].data.decode().replace(gateway.LEASES, str(self.folder / "leases"))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{WORKER} node2.lab.example node2\n")
        (self.folder / "resolv.conf").write_text(f"nameserver {OUTSIDE}\n")
        more = f"no-hosts\naddn-hosts={self.folder}/hosts\nresolv-file={self.folder}/resolv.conf\nuser=root\n"
        self.run_dnsmasq(self.head, text + more)

    def run_dnsmasq(self, namespace: str, text: str) -> None:
        config = self.folder / f"dnsmasq-{namespace}.conf"
        config.write_text(text)
        log = config.with_suffix(".log")
        argv = ["ip", "netns", "exec", namespace, "dnsmasq", "--keep-in-foreground", f"--conf-file={config}"]
        with log.open("wb") as file:
            child = subprocess.Popen(argv, stdout=file, stderr=file)
        self.stack.callback(ended, child)
        until = time.monotonic() + 10
        while "started" not in log.read_text():
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)

    def serves(self, namespace: str, port: int, address: str = "0.0.0.0") -> list[str]:  # noqa: S104 - it is a namespace of its own
        """Serve TCP there: answer with the namespace's name; return a list that fills with who asked."""
        seen: list[str] = []
        listening = inside(namespace, lambda: socket.create_server((address, port)))
        self.stack.callback(listening.close)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, (peer, _) = listening.accept()
                    seen.append(peer)
                    with connection:
                        connection.sendall(namespace.encode())

        threading.Thread(target=answer, daemon=True).start()
        return seen


def asks(namespace: str, address: str, port: int) -> str:
    """Return what a TCP server answers, or why none does."""

    def work() -> str:
        try:
            with socket.create_connection((address, port), timeout=1.5) as connection:
                return connection.recv(100).decode()
        except OSError as error:
            return type(error).__name__

    return inside(namespace, work)


def resolved(namespace: str, name: str, kind: int = 1, server: str = HEAD) -> list[str] | int:
    """Ask for a name's addresses (RFC 1035): return them, or the code of the refusal."""
    number = secrets.randbits(16)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)

    def work() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.sendto(query, (server, 53))
            return asking.recv(2000)

    answer = inside(namespace, work)
    flags, count = (int.from_bytes(answer[at : at + 2], "big") for at in (2, 6))
    if flags & 15:
        return flags & 15
    found, at = [], len(query)
    for _ in range(count):
        at += 2 if answer[at] & 0xC0 else answer.index(b"\0", at) + 1 - at
        answered, _, _, size = struct.unpack("!2HIH", answer[at : at + 10])
        if answered == 1:
            found.append(socket.inet_ntoa(answer[at + 10 : at + 10 + size]))
        at += 10 + size
    return found


def leased(namespace: str, mac: str, patience: float = 10) -> Message:
    """Ask for an address as any client does, and return what is granted; dnsmasq looks for three seconds whether it is free."""

    def work() -> Message:
        hardware = bytes.fromhex(mac.replace(":", ""))
        number = secrets.randbits(32)
        with Wire("eth0", hardware) as wire:
            wanted = (55, bytes((1, 3, 6, 15, 51)))
            wire.send(Message(1, number, hardware, ((53, bytes((DISCOVER,))), wanted)))
            offer = wire.hear(number, time.monotonic() + patience)
            assert offer, "no offer"
            chosen = ((50, offer.yiaddr.packed), (54, offer.server.packed), wanted, (12, b"guest"))
            wire.send(Message(1, number, hardware, ((53, bytes((REQUEST,))), *chosen)))
            granted = wire.hear(number, time.monotonic() + patience)
            assert granted, "no answer to the request"
            return granted

    return inside(namespace, work)


def joined(here: str, name: str, there: str, other: str, mac: str = "") -> None:
    hardware = ("address", mac) if mac else ()
    ip(
        "-n",
        there,
        "link",
        "add",
        "name",
        other,
        *hardware,
        "type",
        "veth",
        "peer",
        "name",
        name,
        "netns",
        here,
    )


def addressed(namespace: str, port: str, *addresses: str) -> None:
    for address in addresses:
        more = ("nodad",) if ":" in address else ()
        ip("-n", namespace, "address", "add", address, "dev", port, *more)
    ip("-n", namespace, "link", "set", port, "up")


@contextmanager
def a_town(folder: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        number = next(COUNT)
        names = [f"pb{os.getpid()}-{number}-{what}" for what in ("out", "head", "in", "pod")]
        for name in names:
            made_namespace(name, stack)
        outer, head, inner, pod = names
        joined(head, "eth1", outer, "eth0")
        joined(head, "eth0", inner, "eth0", WORKER_MAC)
        joined(head, "cni0", pod, "eth0")
        addressed(outer, "eth0", f"{OUTSIDE}/24", "2001:db8::9/64")
        addressed(head, "eth1", f"{UP}/24", "2001:db8::5/64")
        addressed(head, "eth0", f"{HEAD}/24", "fd00:10::1/64")
        addressed(inner, "eth0", f"{WORKER}/24", "fd00:10::11/64")
        addressed(head, "cni0", "10.42.0.1/24")
        addressed(pod, "eth0", f"{POD}/24")
        for namespace, router in ((inner, HEAD), (pod, "10.42.0.1"), (head, OUTSIDE)):
            ip("-n", namespace, "route", "add", "default", "via", router)
        # somebody out there knows what is behind, and tries
        for subnet in ("10.0.0.0/24", "10.42.0.0/16", "10.43.0.0/16"):
            ip("-n", outer, "route", "add", subnet, "via", UP)
        ip("-n", outer, "route", "add", "fd00:10::/64", "via", "2001:db8::5")
        ip("-n", inner, "route", "add", "default", "via", "fd00:10::1")
        for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            inside(head, lambda path=setting: Path(f"/proc/sys/net/{path}").write_text("1"))  # type: ignore[misc]
        yield Town(outer, head, inner, pod, stack, folder)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with a_town(tmp_path) as made:
        yield made


@pytest.fixture
def node(plain_node: NodePlan) -> NodePlan:
    """The head with two ports open, and one that leads to the worker."""
    found = heading(plain_node)
    assert found.head
    opened = (Opening("tcp", 22, 22), Opening("tcp", 30080, 30080))
    leads = (Forward("tcp", 80, ipaddress.IPv4Address(WORKER), 8080),)
    return dataclasses.replace(found, head=dataclasses.replace(found.head, open=opened, forward=leads))


@pytest.mark.parametrize("name", HEADS)
def test_nft_and_dnsmasq_take_what_is_written_for_every_head(
    name: str, town: Town, plain_node: NodePlan
) -> None:
    node = HEADS[name](plain_node)
    gateway.files(node).write(town.folder)
    town.nft("--check", "-f", str(town.folder / gateway.FIREWALL))
    argv = ["dnsmasq", "--test", f"--conf-file={town.folder / gateway.DNSMASQ}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_node_behind_the_head_reaches_the_world_by_the_head_s_address(town: Town, node: NodePlan) -> None:
    town.load(node)
    seen = town.serves(town.outer, 8000)
    assert asks(town.inner, OUTSIDE, 8000) == town.outer
    assert asks(town.pod, OUTSIDE, 8000) == town.outer
    assert asks(town.head, OUTSIDE, 8000) == town.outer
    assert seen == [UP, UP, UP]


def test_nothing_comes_in_that_was_not_asked_for(town: Town, node: NodePlan) -> None:
    town.serves(town.head, 9999)
    town.serves(town.inner, 8080)
    town.serves(town.pod, 8080)
    assert asks(town.outer, UP, 9999) == town.head, "without the rules it does"
    assert asks(town.outer, WORKER, 8080) == town.inner
    assert asks(town.outer, HEAD, 9999) == town.head
    town.load(node)
    for address, port in ((UP, 9999), (HEAD, 9999), (HEAD, 22), (WORKER, 8080), (POD, 8080)):
        assert asks(town.outer, address, port) == "TimeoutError", (address, port)
    assert asks(town.inner, HEAD, 9999) == town.head


def test_what_is_open_and_what_leads_inside_is_reached(town: Town, node: NodePlan) -> None:
    town.load(node)
    town.serves(town.head, 22)
    seen = town.serves(town.inner, 8080)
    assert asks(town.outer, UP, 22) == town.head
    assert asks(town.outer, UP, 80) == town.inner
    assert seen == [OUTSIDE], "the worker sees who asks"


def test_ipv6_stays_inside(town: Town, node: NodePlan) -> None:
    def served(namespace: str, port: int) -> None:
        listening = inside(
            namespace, lambda: socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        town.stack.callback(listening.close)

    def reaches(namespace: str, address: str, port: int) -> bool:
        def work() -> bool:
            try:
                socket.create_connection((address, port), timeout=1.5).close()
            except OSError:
                return False
            return True

        return inside(namespace, work)

    served(town.inner, 8081)
    served(town.head, 22)
    # link-local addresses, from which routers ask for their neighbours, take two seconds to be sure of
    assert any(reaches(town.outer, "fd00:10::11", 8081) for _ in range(6)), "without the rules it does"
    town.load(node)
    assert not reaches(town.outer, "fd00:10::11", 8081)
    assert not reaches(town.outer, "2001:db8::5", 22)
    assert reaches(town.head, "fd00:10::11", 8081)


def test_loading_twice_is_loading_once_and_leaves_what_others_have(town: Town, node: NodePlan) -> None:
    (town.folder / "others.nft").write_text(LEFT_ALONE)
    town.nft("-f", str(town.folder / "others.nft"))
    others = town.nft("list", "ruleset")
    first = town.load(node)
    assert town.load(node) == first
    assert first.startswith(others)
    (town.folder / "all.nft").write_text(first)
    town.nft("--check", "-f", str(town.folder / "all.nft"))


def test_services_and_node_ports_of_kubernetes_work_as_before_and_are_open_to_the_world_if_they_are_named(
    town: Town, node: NodePlan
) -> None:
    (town.folder / "others.nft").write_text(LEFT_ALONE)
    town.nft("-f", str(town.folder / "others.nft"))
    town.load(node)
    town.serves(town.pod, 8080)
    assert asks(town.inner, SERVICE, 80) == town.pod
    assert asks(town.inner, HEAD, 30081) == town.pod
    assert asks(town.outer, UP, 30080) == town.pod
    assert asks(town.outer, UP, 30081) == "TimeoutError"
    assert asks(town.outer, SERVICE, 80) == "TimeoutError"


def test_the_head_answers_to_names_of_nodes_and_asks_the_world_for_others(town: Town, node: NodePlan) -> None:
    town.load(node)
    world = f"listen-address={OUTSIDE}\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\nlog-facility=-\n"
    town.run_dnsmasq(town.outer, world + "address=/world.example/203.0.113.80\n")
    # as systemd-resolved's
    inside(town.head, lambda: town.stack.enter_context(udp("127.0.0.53", 53)))
    town.dnsmasq(node)
    assert resolved(town.inner, "node2.lab.example") == [WORKER]
    assert resolved(town.inner, "node2") == [WORKER]
    assert resolved(town.inner, "world.example") == ["203.0.113.80"]
    assert resolved(town.inner, "nobody.lab.example") == 3
    with pytest.raises(TimeoutError):
        resolved(town.outer, "node2.lab.example", server=UP)


def test_nodes_get_their_own_addresses_and_guests_one_of_the_pool(town: Town, node: NodePlan) -> None:
    town.load(node)
    town.dnsmasq(node)
    granted = leased(town.inner, WORKER_MAC)
    assert str(granted.yiaddr) == WORKER
    assert [str(granted.address(code)) for code in (1, 3, 6)] == ["255.255.255.0", HEAD, HEAD]
    assert granted.option(15) == b"lab.example"
    ip("-n", town.inner, "link", "set", "eth0", "address", "dc:a6:32:0f:0f:0f")
    guest = leased(town.inner, "dc:a6:32:0f:0f:0f")
    assert ipaddress.IPv4Address("10.0.0.100") <= guest.yiaddr <= ipaddress.IPv4Address("10.0.0.199")
    assert resolved(town.head, "guest.lab.example") == [str(guest.yiaddr)]


def test_without_a_pool_strangers_get_no_address(town: Town, node: NodePlan) -> None:
    assert node.head
    town.dnsmasq(dataclasses.replace(node, head=dataclasses.replace(node.head, pool=None)))
    assert str(leased(town.inner, WORKER_MAC).yiaddr) == WORKER
    with pytest.raises(AssertionError, match="no offer"):
        leased(town.inner, "dc:a6:32:0f:0f:0f", patience=4)


def test_nobody_outside_is_given_an_address(town: Town, node: NodePlan) -> None:
    town.dnsmasq(node)
    with pytest.raises(AssertionError, match="no offer"):
        leased(town.outer, "dc:a6:32:0f:0f:0f", patience=4)


@pytest.mark.parametrize("unit", gateway.UNITS)
def test_systemd_finds_nothing_wrong_with_the_units(unit: str) -> None:
    path = resources.path("overlays", "head", "etc", "systemd", "system", unit)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@contextmanager
def udp(address: str, port: int) -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((address, port))
        yield
