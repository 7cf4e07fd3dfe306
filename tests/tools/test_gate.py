"""A node's disk is opened from the node's address, and from nowhere else, whatever is said there."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.tools import nbdclient
from tests.tools.test_nbd import disk, engine_of, port  # noqa: F401 - a fixture

from pibake.netboot.values import Ports, Site
from pibake.run import spawn
from pibake.serve import disks, gate, haggling
from pibake.serve.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("qemu-storage-daemon"), reason="needs qemu-storage-daemon")
NODES = {"127.0.0.1": ["node1"], "127.0.0.2": ["node2"]}
client = nbdclient.load()


@dataclass(frozen=True)
class Behind:
    """Two disks behind a gate."""

    port: int
    daemon: subprocess.Popen[bytes]

    def link(self, address: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10, (address, 0))

    def haggled(self, address: str) -> socket.socket:
        """Return a connection past the greeting."""
        link = self.link(address)
        assert client.receive(link, 18).startswith(b"NBDMAGICIHAVEOPT")
        link.sendall(struct.pack(">I", 1))
        return link


@pytest.fixture
def behind(tmp_path: Path, port: int) -> Iterator[Behind]:  # noqa: F811
    golden = tmp_path / "golden.img"
    golden.write_bytes(b"\x5a" * (4 << 20))
    engine = engine_of([disk(golden, "node1"), disk(golden, "node2", "128M")])
    site = Site("lo", ipaddress.IPv4Interface("127.0.0.1/8"), ports=Ports(nbd=port))
    place = disks.socket_of(golden.with_name("qmp"))
    with spawn(engine.command) as child, Gate(site, place, lambda peer: NODES.get(peer, ())):
        deadline = time.monotonic() + 20
        while not engine.ready(child.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield Behind(port, child)


def option(number: int, data: bytes) -> bytes:
    return struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data


def named(name: str) -> bytes:
    return struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0)


def reply(link: socket.socket) -> int:
    _, _, kind, length = struct.unpack(">QIII", client.receive(link, 20))
    client.receive(link, length)
    return int(kind)


def closed(link: socket.socket) -> bool:
    try:
        return link.recv(1) == b""
    except ConnectionError:
        return True


def dribbled(link: socket.socket, byte: int) -> bool:
    """Send one byte, wait as long as the link does, and return whether it is closed."""
    try:
        link.sendall(bytes([byte]))
        return closed(link)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_each_address_opens_its_own_disk(behind: Behind) -> None:
    for address, name, size in (("127.0.0.1", "node1", 64), ("127.0.0.2", "node2", 128)):
        with behind.link(address) as link:
            assert client.negotiate(link, name)[0] == size << 20
            link.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 1 << 20, 512))
            assert client.receive(link, 16 + 512).endswith(b"\x5a" * 512)


@pytest.mark.parametrize("name", ["node2", "", "node1\0", "NODE1", "n" * 4000])
def test_no_address_opens_another_disk(behind: Behind, name: str) -> None:
    with behind.haggled("127.0.0.1") as link:
        link.sendall(option(haggling.GO, named(name)))
        assert reply(link) == haggling.UNKNOWN
        link.sendall(option(haggling.INFO, named(name)))
        assert reply(link) == haggling.UNKNOWN
        link.sendall(option(haggling.EXPORT_NAME, name.encode()))
        assert closed(link)


def test_a_client_that_was_refused_may_ask_for_its_own_disk(behind: Behind) -> None:
    with behind.haggled("127.0.0.1") as link:
        for number, data, answer in (
            (3, b"", haggling.UNSUPPORTED),
            (5, b"", haggling.UNSUPPORTED),
            (haggling.GO, named("node2"), haggling.UNKNOWN),
            (haggling.STRUCTURED, b"", haggling.ACK),
        ):
            link.sendall(option(number, data))
            assert reply(link) == answer
        link.sendall(option(haggling.GO, named("node1")))
        while (kind := reply(link)) != haggling.ACK:
            assert kind == 3


def test_an_option_after_one_the_daemon_refuses_is_looked_at_too(behind: Behind) -> None:
    with behind.haggled("127.0.0.1") as link:
        # an information request that promises more than it holds: the daemon's own error
        link.sendall(option(haggling.GO, struct.pack(">I", 5) + b"node1" + struct.pack(">H", 9)))
        assert reply(link) & haggling.ERROR
        link.sendall(option(haggling.GO, named("node2")))
        assert reply(link) == haggling.UNKNOWN


def test_strangers_hear_nothing(behind: Behind) -> None:
    with behind.link("127.0.0.3") as link:
        assert closed(link)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 4,
        bytes(64),
        option(haggling.GO, b"")[:12] + b"\xff\xff\xff\xff",
        os.urandom(64),
        option(haggling.ABORT, b""),
    ],
    ids=["http", "zeros", "endless", "noise", "abort"],
)
def test_what_is_no_client_is_dropped(behind: Behind, said: bytes) -> None:
    with behind.haggled("127.0.0.1") as link:
        link.sendall(said)
        assert closed(link)
    with behind.link() as link:
        assert client.negotiate(link, "node1")


def test_a_client_that_says_nothing_is_dropped_and_one_that_has_its_disk_is_not(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haggling, "PATIENCE", 0.3)
    with behind.link() as silent, behind.link() as node:
        client.negotiate(node, "node1")
        silent.settimeout(5)
        assert client.receive(silent, 18)
        assert closed(silent)
        time.sleep(0.5)
        node.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 0, 512))
        assert client.receive(node, 16 + 512)


def test_a_client_that_dribbles_is_dropped(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haggling, "PATIENCE", 0.5)
    with behind.haggled("127.0.0.1") as link:
        link.settimeout(0.1)
        began, said = time.monotonic(), iter(option(haggling.GO, named("node1")))
        while not dribbled(link, next(said)):
            assert time.monotonic() < began + 2


def test_a_node_that_left_a_connection_behind_is_let_in_and_the_old_one_is_ended(behind: Behind) -> None:
    with (
        behind.link() as old,
        behind.link() as asking,
        behind.link() as new,
        behind.link("127.0.0.2") as other,
    ):
        client.negotiate(old, "node1")
        client.negotiate(other, "node2")
        assert client.receive(asking, 18)
        old.settimeout(0.2)
        with pytest.raises(TimeoutError):
            old.recv(1)
        client.negotiate(new, "node1")
        old.settimeout(5)
        assert closed(old)
        for link in (new, other):
            link.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 0, 512))
            assert client.receive(link, 16 + 512)


def test_connections_that_never_ask_for_a_disk_make_room(behind: Behind) -> None:
    links = []
    for _ in range(gate.TOGETHER + 1):
        links.append(behind.link())
        client.receive(links[-1], 18)  # each is there before the next one
    links[0].settimeout(5)
    assert closed(links[0])
    for link in links:
        link.close()


def test_connections_end_with_the_daemon(behind: Behind) -> None:
    with behind.link() as link:
        client.negotiate(link, "node1")
        behind.daemon.kill()
        link.settimeout(5)
        assert closed(link)
    with behind.link() as link:
        assert closed(link)


def test_what_is_moved_is_what_was_sent(behind: Behind, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(os.urandom(32 << 20))
    url = f"nbd://127.0.0.1:{behind.port}/node1"
    subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", data, url], check=True)
    back = tmp_path / "back"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", url, back], check=True)
    assert back.read_bytes()[: 32 << 20] == data.read_bytes()
