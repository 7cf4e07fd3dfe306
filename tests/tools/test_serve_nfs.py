"""The real NFS-Ganesha serves golden images of one base, and nodes' own folders, across every restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
from tests.tools.images import MIB, tool
from tests.tools.netns import Place, needs_namespaces, places
from tests.tools.nfs41 import GRACE, NOENT, ROFS, TO_READ, TO_WRITE, Client, NfsError

from pibake.netboot import ganesha

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    needs_namespaces,
    pytest.mark.skipif(
        not shutil.which("ganesha.nfsd") or not Path("/dev/loop-control").exists(),
        reason="needs nfs-ganesha and loop devices",
    ),
]
PORT = 2049
DIGESTS = "1" * 16, "2" * 16
SERVE = """
import json, sys
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from pibake.netboot import ganesha
from pibake.netboot.values import Site
from pibake.serve import mounts, nfs
from pibake.serve.supervisor import Supervisor

folder = Path(sys.argv[1])
site = Site("eth0", IPv4Interface("10.77.0.1/24"))

def engine(wanted):
    paths = [ganesha.golden_path(d) for d in wanted["golden"]] + [ganesha.own_path(n) for n in wanted["nodes"]]
    ids = nfs.numbers(folder / "exports.json", paths)
    exports = [
        ganesha.golden(ids[ganesha.golden_path(d)], folder / "golden" / d, d, site.address.network)
        for d in wanted["golden"]
    ] + [
        ganesha.own(ids[ganesha.own_path(n)], folder / "nodes" / n, n, IPv4Address(a))
        for n, a in wanted["nodes"].items()
    ]
    return nfs.engine(site, exports, folder / "run")

wanted = json.loads(sys.stdin.readline())
mounts.private()
for digest in wanted["golden"]:
    mounts.mount(folder / f"{digest}.img", 1 << 20, 16 << 20, folder / "golden" / digest)
with Supervisor([engine(wanted)], say=lambda text: print(json.dumps(text), flush=True)) as supervisor:
    print(json.dumps(supervisor.states()[0].pid), flush=True)
    for line in sys.stdin:
        supervisor.update([engine(json.loads(line))])
for digest in wanted["golden"]:
    mounts.release(folder / "golden" / digest)
"""


@dataclass
class Serve:
    """A server that runs, and two nodes that can reach it."""

    child: subprocess.Popen[str]
    node1: Place
    node2: Place
    folder: Path
    pid: int = 0

    def send(self, **wanted: object) -> None:
        stdin: IO[str] | None = self.child.stdin
        assert stdin
        stdin.write(json.dumps(wanted) + "\n")
        stdin.flush()

    def told(self) -> object:
        assert self.child.stdout
        return json.loads(self.child.stdout.readline())

    def client(self, node: Place | None = None, owner: str = "node1") -> Client:
        deadline = time.monotonic() + 5
        while True:
            try:
                return Client((node or self.node1).inside(_connection), owner)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def _connection() -> socket.socket:
    return socket.create_connection(("10.77.0.1", PORT), 5)


BOTH = {"golden": DIGESTS, "nodes": {"node1": "10.77.0.2", "node2": "10.77.0.3"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a state folder, with two images whose root file systems differ and have one UUID."""
    for digest in DIGESTS:
        image = tmp_path / f"{digest}.img"
        content = tmp_path / "content"
        content.mkdir()
        (content / "who").write_text(digest)
        with image.open("wb") as file:
            file.truncate(17 * MIB)
        tool("mke2fs", "-q", "-t", "ext4", "-d", content, "-U", "11111111-2222-3333-4444-555555555555",
             "-E", f"offset={MIB}", image, "16M")  # fmt: skip
        shutil.rmtree(content)
    for node in BOTH["nodes"]:
        (tmp_path / "nodes" / node).mkdir(parents=True)
    return tmp_path


@contextmanager
def served(folder: Path, net: list[Place], **wanted: object) -> Iterator[Serve]:
    argv = net[0].argv(sys.executable, "-c", SERVE, str(folder))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        serve = Serve(child, net[1], net[2], folder)
        serve.send(**(wanted or BOTH))
        try:
            serve.pid = int(str(serve.told()))
            yield serve
        finally:
            child.stdin.close()  # type: ignore[union-attr]
            try:
                child.wait(10)
            finally:
                child.kill()


@pytest.fixture(scope="module")
def net() -> Iterator[list[Place]]:
    with places("10.77.0.1/24", "10.77.0.2/24", "10.77.0.3/24") as made:
        yield made


def reopened(serve: Serve, path: str) -> float:
    """Open what was not open before, and return after how many seconds that went well."""
    began = time.monotonic()
    with serve.client(owner="another") as client:
        client.reclaimed()
        while True:
            with suppress(NfsError):
                client.open(path, TO_READ)
                return time.monotonic() - began
            time.sleep(0.1)
            assert time.monotonic() - began < ganesha.GRACE


def status(client: Client, path: str, access: int = TO_READ, *, create: bool = False) -> int:
    with pytest.raises(NfsError) as caught:
        client.open(path, access, create=create)
    return caught.value.code


def test_two_golden_images_with_one_uuid_are_served_and_each_node_has_its_own_folder(
    folder: Path, net: list[Place]
) -> None:
    with served(folder, net) as serve, serve.client() as client:
        client.reclaimed()
        for digest in DIGESTS:
            assert client.read(client.open(f"golden/{digest}/who", TO_READ)) == digest.encode()
        assert status(client, f"golden/{DIGESTS[0]}/new", TO_WRITE, create=True) == ROFS
        assert client.names("nodes") == {"node1"}
        assert status(client, "nodes/node2/disk", TO_WRITE, create=True) == NOENT
        disk = client.open("nodes/node1/disk", TO_WRITE, create=True)
        client.write(disk, b"x" * 65536)
        client.write(disk, b"y" * 65536, 1 << 20)
        assert (folder / "nodes/node1/disk").stat().st_size == (1 << 20) + 65536
        before = (folder / "nodes/node1/disk").stat().st_blocks
        client.deallocate(disk, 0, 65536)
        assert (folder / "nodes/node1/disk").stat().st_blocks <= before - 128
        assert client.seek_data(disk, 0) == 1 << 20
        with serve.client(serve.node2, "node2") as other:
            assert other.names("nodes") == {"node2"}
    assert not any((folder / "golden").iterdir())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_node_goes_on_where_it_was_when_ganesha_was_ended_and_started_again(
    folder: Path, net: list[Place], how: signal.Signals
) -> None:
    with served(folder, net) as serve:
        with serve.client() as client:
            client.reclaimed()
            disk = client.open("nodes/node1/disk", TO_WRITE, create=True)
            who = client.open(f"golden/{DIGESTS[1]}/who", TO_READ)
            client.write(disk, b"before")
            os.kill(serve.pid, how)
        assert "starts again" in str(serve.told())
        with serve.client() as client:
            assert status(client, f"golden/{DIGESTS[0]}/who") == GRACE
            disk, who = client.reclaim(disk, TO_WRITE), client.reclaim(who, TO_READ)
            client.write(disk, b"after", 6)
            assert client.read(disk) == b"beforeafter"
            assert client.read(who) == DIGESTS[1].encode()
            client.reclaimed()
            assert reopened(serve, f"golden/{DIGESTS[0]}/who") < 4


def test_a_handle_means_the_same_file_when_the_whole_server_was_killed_and_other_loop_devices_are_in_use(
    folder: Path, net: list[Place]
) -> None:
    with served(folder, net) as serve, serve.client() as client:
        handles = {
            path: client.handle(path) for path in [*(f"golden/{d}/who" for d in DIGESTS), "nodes/node1"]
        }
        serve.child.kill()
    image = folder / f"{DIGESTS[0]}.img"
    taken = tool("losetup", "--find", "--show", "--read-only", image).decode().strip()
    try:
        backwards = {"golden": DIGESTS[::-1], "nodes": {"node1": "10.77.0.2", "node0": "10.77.0.3"}}
        (folder / "nodes/node0").mkdir()
        with served(folder, net, **backwards) as serve, serve.client() as client:
            for path, handle in handles.items():
                assert client.look(handle) == handle
                assert client.handle(path) == handle
    finally:
        tool("losetup", "--detach", taken)


def shown(folder: Path) -> list[Path]:
    """Return the loop devices that show files of a folder."""
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    return [file for file in files if file.read_text("utf-8").startswith(str(folder))]


def test_a_killed_server_leaves_no_process_mount_or_loop_device(folder: Path, net: list[Place]) -> None:
    with served(folder, net) as serve:
        serve.child.kill()
        serve.child.wait()
        deadline = time.monotonic() + 5
        while Path("/proc", str(serve.pid)).exists() or shown(folder):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert str(folder) not in Path("/proc/self/mountinfo").read_text("utf-8")


def test_exports_come_and_go_while_a_node_reads_and_writes(folder: Path, net: list[Place]) -> None:
    with served(folder, net) as serve, serve.client() as client:
        client.reclaimed()
        disk = client.open("nodes/node1/disk", TO_WRITE, create=True)
        serve.send(golden=DIGESTS[:1], nodes={"node1": "10.77.0.2"})
        began, slowest = time.monotonic(), 0.0
        while client.names("golden") != {DIGESTS[0]}:
            before = time.monotonic()
            client.write(disk, b"x" * 4096)
            slowest = max(slowest, time.monotonic() - before)
            assert time.monotonic() - began < 3
        serve.send(**BOTH)
        while client.names("golden") != set(DIGESTS):
            client.write(disk, b"x" * 4096)
            assert time.monotonic() - began < 6
        assert slowest < 0.5
        assert client.read(client.open(f"golden/{DIGESTS[1]}/who", TO_READ)) == DIGESTS[1].encode()
        with serve.client(serve.node2, "node2") as other:
            assert other.names("nodes") == {"node2"}


def test_a_hundred_nodes_are_served_in_little_time_and_memory(folder: Path, net: list[Place]) -> None:
    nodes = {f"n{number}": f"10.77.0.{number + 2}" for number in range(100)}
    for name in nodes:
        (folder / "nodes" / name).mkdir()
    began = time.monotonic()
    with served(folder, net, golden=DIGESTS, nodes=nodes) as serve:
        assert time.monotonic() - began < 3
        resident = Path(f"/proc/{serve.pid}/status").read_text("ascii").partition("VmRSS:")[2].split()[0]
        assert int(resident) < 64 << 10
        with serve.client() as client:
            assert client.names("nodes") == {"n0"}
