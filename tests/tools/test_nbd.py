"""Disks over NBD: the real storage daemon, asked by the node's own client."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools import nbdclient

from pibake.errors import PibakeError
from pibake.netboot.values import Ports, Site
from pibake.run import run, spawn
from pibake.serve import disks, nbd
from pibake.serve.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pibake.serve.engine import Engine

READ, WRITE = 0, 1
client = nbdclient.load()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    path = tmp_path / "golden.img"
    path.write_bytes(b"\x5a" * (4 << 20))
    return path


def disk(golden: Path, name: str, size: str = "64M") -> nbd.Disk:
    path = golden.with_name(f"{name}.qcow2")
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", golden, path, size])
    return nbd.Disk(name, path, golden)


@contextmanager
def daemon(served: Sequence[nbd.Disk], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon behind a gate, once it serves the disks; this host may open all of them."""
    engine = engine_of(served)
    site = Site("lo", ipaddress.IPv4Interface("127.0.0.1/8"), ports=Ports(nbd=port))
    place = disks.socket_of(served[0].golden.with_name("qmp"))
    names = [*(f"node{number}" for number in range(100)), "a" * 63]
    with spawn(engine.command) as child, Gate(site, place, {"127.0.0.1": names}.__getitem__):
        deadline = time.monotonic() + 20
        while not engine.ready(child.pid):
            assert child.poll() is None, child.stderr and child.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield child


def engine_of(served: Sequence[nbd.Disk]) -> Engine:
    return disks.engine(served, served[0].golden.with_name("qmp"))


def kill(child: subprocess.Popen[bytes]) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def request(link: socket.socket, kind: int, offset: int, data: bytes = b"", length: int = 0) -> bytes:
    """Read or write as the kernel does, by a simple request ("Transmission" in the protocol)."""
    link.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, 1, offset, length or len(data)) + data)
    magic, error, handle = struct.unpack(">IIQ", client.receive(link, 16))
    assert (magic, error, handle) == (0x67446698, 0, 1)
    return bytes(client.receive(link, length)) if kind == READ else b""


def test_a_node_has_its_golden_image_and_what_it_wrote(golden: Path, port: int) -> None:
    with daemon([disk(golden, "node1"), disk(golden, "node2", "128M")], port):
        one, size, flags = client.connect("127.0.0.1", port, "node1")
        two, other, _ = client.connect("127.0.0.1", port, "node2")
        with one, two:
            assert (size, other) == (64 << 20, 128 << 20)
            assert flags & 0b101101 == 0b101101, "no FLUSH, FUA or TRIM"
            request(one, WRITE, 4096, b"mine" * 1024)
            assert request(one, READ, 4096, length=4096) == b"mine" * 1024
            assert request(two, READ, 4096, length=4096) == b"\x5a" * 4096
            assert request(two, READ, 100 << 20, length=512) == bytes(512)
    assert golden.read_bytes() == b"\x5a" * (4 << 20)


def test_what_was_acknowledged_is_there_after_the_daemon_was_killed(golden: Path, port: int) -> None:
    served = [disk(golden, "node1")]
    with daemon(served, port) as child:
        link, *_ = client.connect("127.0.0.1", port, "node1")
        with link:
            for number in range(60):
                request(link, WRITE, number << 20, bytes([number + 1]) * 4096)
            kill(child)
    with daemon(served, port):
        link, *_ = client.connect("127.0.0.1", port, "node1")
        with link:
            for number in range(60):
                assert request(link, READ, number << 20, length=4096) == bytes([number + 1]) * 4096


def test_the_daemon_has_no_capability(golden: Path, port: int) -> None:
    with daemon([disk(golden, "node1")], port) as child:
        status = Path(f"/proc/{child.pid}/status").read_text("ascii")
    sets = [line.split()[1] for line in status.splitlines() if line.startswith("Cap")]
    assert set(sets) == {"0" * 16}


def test_the_daemon_ends_with_the_thread_that_started_it(golden: Path) -> None:
    engine = engine_of([disk(golden, "node1")])
    children: list[subprocess.Popen[bytes]] = []
    served, done = threading.Event(), threading.Event()

    def start() -> None:
        children.append(subprocess.Popen(engine.command))
        while not engine.ready(children[0].pid):
            time.sleep(0.01)
        served.set()
        done.wait(20)

    starter = threading.Thread(target=start)
    starter.start()
    assert served.wait(20)
    assert children[0].poll() is None
    done.set()
    children[0].wait(10)
    starter.join()


def test_a_wrong_name_is_answered_with_what_to_look_at(golden: Path, port: int) -> None:
    wrong = pytest.raises(client.Fault, match=r"has no such export: is this node .*\(.*node9")
    with daemon([disk(golden, "node1")], port), wrong:
        client.connect("127.0.0.1", port, "node9")


def test_what_is_no_nbd_server_is_said_to_be_none(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:

        def answering() -> None:
            with server.accept()[0] as link:
                link.sendall(b"SSH-2.0-OpenSSH_9.9p1 Debian\r\n")

        answer = threading.Thread(target=answering)
        answer.start()
        with pytest.raises(client.Fault, match="what answers there is no NBD server"):
            client.connect("127.0.0.1", port, "node1")
        answer.join()


def test_a_client_waits_for_the_daemon_and_says_why(
    golden: Path, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    served = [disk(golden, "node1")]
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(client.persist("127.0.0.1", port, "node1")))
    waiting.start()
    time.sleep(0.5)
    with daemon(served, port):
        waiting.join(10)
        found[0][0].close()
    told = capfd.readouterr().err
    assert told == f"<3>pibake-nbd: node1 of 127.0.0.1:{port}: [Errno 111] Connection refused; trying again\n"


def test_a_disk_of_another_size_does_not_take_the_place_of_one_in_use(golden: Path, port: int) -> None:
    other = pytest.raises(client.Fault, match="67108864 bytes instead of 4096")
    with daemon([disk(golden, "node1")], port), other:
        client.connect("127.0.0.1", port, "node1", 4096)


def test_disks_come_and_go_while_others_are_in_use(golden: Path, port: int) -> None:
    first, second = disk(golden, "node1"), disk(golden, "a" * 63)
    both, only = engine_of([first, second]), engine_of([first])
    with daemon([first], port):
        one, *_ = client.connect("127.0.0.1", port, "node1")
        with one:
            assert both.adapt
            assert only.adapt
            both.adapt()
            two, *_ = client.connect("127.0.0.1", port, second.name)
            with two:
                request(two, WRITE, 0, b"x" * 512)
                only.adapt()
                two.settimeout(10)
                assert two.recv(1) == b""
            with pytest.raises(client.Fault, match="has no such export"):
                client.connect("127.0.0.1", port, second.name)
            both.adapt()
            two, *_ = client.connect("127.0.0.1", port, second.name)
            with two:
                assert request(two, READ, 0, length=512) == b"x" * 512
            assert request(one, READ, 0, length=512) == b"\x5a" * 512


def test_what_the_daemon_refuses_is_said(golden: Path, port: int) -> None:
    refused = pytest.raises(PibakeError, match=r"refused block-export-del: Export 'x' is not found")
    with daemon([disk(golden, "node1")], port), nbd.monitored(golden.with_name("qmp")) as monitor, refused:
        monitor.remove("x", "y")


@contextmanager
def played(path: Path, answers: Sequence[Callable[[str], bytes]]) -> Iterator[None]:
    """Play the daemon at a socket: each connection in turn is greeted and has its commands answered by one of `answers`."""

    def serve(server: socket.socket) -> None:
        for answer in answers:
            with server.accept()[0] as link, link.makefile("rb") as lines:
                link.sendall(b'{"QMP": {}}\n')
                with suppress(OSError):
                    for line in lines:
                        link.sendall(answer(json.loads(line)["execute"]))

    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(10)
        server.bind(str(path))
        server.listen()
        daemon = threading.Thread(target=serve, args=(server,))
        daemon.start()
        yield
        daemon.join()


def test_a_daemon_that_loses_what_it_is_told_first_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "GREETING", 0.1)
    answers = [lambda _: b"", lambda _: b'{"return": []}\n']
    with played(tmp_path / "qmp", answers), nbd.monitored(tmp_path / "qmp") as monitor:
        assert monitor.ask("query-block-exports") == []


def test_a_daemon_that_never_answers_is_said_to_do_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "GREETING", 0.05)
    monkeypatch.setattr(nbd, "PATIENCE", 0.0)
    silent = pytest.raises(PibakeError, match="does not answer, asked for qmp_capabilities: timed out")
    with played(tmp_path / "qmp", [lambda _: b""]), silent, nbd.monitored(tmp_path / "qmp"):
        pass


def test_a_disk_that_stays_in_use_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(command: str) -> bytes:
        return (
            json.dumps({"return": [{"id": "x"}] if command == "query-block-exports" else {}}).encode() + b"\n"
        )

    monkeypatch.setattr(nbd, "PATIENCE", 0.1)
    stays = pytest.raises(PibakeError, match=r"still has x in use after 0\.1 s")
    with played(tmp_path / "qmp", [busy]), stays, nbd.monitored(tmp_path / "qmp") as monitor:
        monitor.remove("x", "y")


def test_a_daemon_that_does_not_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(PibakeError, match=r"does not listen at .*qmp"), nbd.monitored(tmp_path / "qmp"):
        pass


def test_a_hundred_nodes_are_served_in_little_memory(golden: Path, port: int) -> None:
    first = disk(golden, "node0", "16G")
    served = [first]
    for number in range(1, 100):
        path = golden.with_name(f"node{number}.qcow2")
        path.write_bytes(first.path.read_bytes())
        served.append(nbd.Disk(f"node{number}", path, golden))
    with daemon(served, port) as child:
        client.connect("127.0.0.1", port, "node99")[0].close()
        status = Path(f"/proc/{child.pid}/status").read_text("ascii")
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 64 << 10, f"{resident} KiB"
