"""The real NFS-Ganesha serves golden images and nodes' own folders, across every restart."""

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
from typing import IO, TYPE_CHECKING, Any

import pytest
from tests.tools.netns import Place, needs_namespaces, places
from tests.tools.nfs41 import (
    ACCESS,
    BADCHAR,
    BADNAME,
    BADSESSION,
    GRACE,
    NOENT,
    NOTDIR,
    ROFS,
    STALE,
    SYMLINK,
    TO_READ,
    TO_WRITE,
    Client,
    NfsError,
)  # fmt: skip

from pibake.netboot import ganesha
from pibake.serve import handles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

pytestmark = [
    needs_namespaces,
    pytest.mark.skipif(
        not all(map(shutil.which, ("ganesha.nfsd", "dnsmasq"))), reason="needs nfs-ganesha and dnsmasq"
    ),
]
PORT = 2049
SERVE = """
import json, sys
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from pibake.netboot import ganesha
from pibake.netboot.ganesha import Export
from pibake.netboot.values import Site
from pibake.serve import dhcp, nfs
from pibake.serve.handles import Handles
from pibake.serve.supervisor import Supervisor

folder = Path(sys.argv[1])
site = Site("eth0", IPv4Interface("10.77.0.1/24"))

def engine(nodes):
    ids = nfs.numbers(folder / "exports.json", [ganesha.GOLDEN, *map(ganesha.own, nodes)])
    exports = [Export(ids[ganesha.GOLDEN], folder / "golden", ganesha.GOLDEN, site.address.network)]
    for name, address in nodes.items():
        path = ganesha.own(name)
        exports.append(Export(ids[path], folder / "nodes" / name, path, IPv4Address(address), writable=True))
    roots[:] = [export.path for export in exports]
    return nfs.engine(site, exports, folder / "run", socket)

roots, socket = [], Path(sys.argv[2])
first = json.loads(sys.stdin.readline())
boards = dhcp.engine(site, [], folder / "tftp", folder / "run", None)
with Handles(socket, lambda: roots), Supervisor([engine(first), boards], say=lambda text: print(json.dumps(text), flush=True)) as supervisor:
    print(json.dumps([state.pid for state in supervisor.states()]), flush=True)
    for line in sys.stdin:
        supervisor.update([engine(json.loads(line)), boards])
"""


@dataclass
class Serve:
    """A server that runs, and two nodes that can reach it."""

    child: subprocess.Popen[str]
    node1: Place
    node2: Place
    folder: Path
    pid: int = 0
    dnsmasq: int = 0

    def send(self, nodes: Mapping[str, str]) -> None:
        stdin: IO[str] | None = self.child.stdin
        assert stdin
        stdin.write(json.dumps(nodes) + "\n")
        stdin.flush()

    def told(self) -> Any:
        assert self.child.stdout
        return json.loads(self.child.stdout.readline())

    def client(
        self, node: Place | None = None, owner: str = "node1", verifier: bytes = b"boot-one"
    ) -> Client:
        deadline = time.monotonic() + 5
        while True:
            try:
                return Client((node or self.node1).inside(_connection), owner, verifier)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def _connection() -> socket.socket:
    return socket.create_connection(("10.77.0.1", PORT), 5)


NODES = {"node1": "10.77.0.2", "node2": "10.77.0.3"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a state folder with a golden image, and two nodes' own folders."""
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden/a.img").write_bytes(b"golden")
    (tmp_path / "tftp").mkdir()
    for node in NODES:
        (tmp_path / "nodes" / node).mkdir(parents=True)
    return tmp_path


@contextmanager
def served(folder: Path, net: list[Place], nodes: Mapping[str, str] = NODES) -> Iterator[Serve]:
    place = Path(f"/run/pibake/test-{os.getpid()}.nfs")
    argv = net[0].argv(sys.executable, "-c", SERVE, str(folder), str(place))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        serve = Serve(child, net[1], net[2], folder)
        serve.send(nodes)
        try:
            serve.pid, serve.dnsmasq = serve.told()
            yield serve
        finally:
            if child.stdin:
                child.stdin.close()
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


def test_all_nodes_read_golden_images_and_each_writes_to_its_own_folder(
    folder: Path, net: list[Place]
) -> None:
    with served(folder, net) as serve, serve.client() as client:
        client.reclaimed()
        assert client.read(client.open("golden/a.img", TO_READ)) == b"golden"
        assert status(client, "golden/new", TO_WRITE, create=True) == ROFS
        assert status(client, "golden/a.img", TO_WRITE) == ROFS
        assert client.names("nodes") == {"node1"}
        assert status(client, "nodes/node2/disk", TO_WRITE, create=True) == NOENT
        client.write(client.open("nodes/node1/disk", TO_WRITE, create=True), b"mine")
        assert (folder / "nodes/node1/disk").read_bytes() == b"mine"
        with serve.client(serve.node2, "node2") as other:
            assert other.names("nodes") == {"node2"}


def refused(work: Callable[..., object], *arguments: object) -> int:
    with pytest.raises(NfsError) as caught:
        work(*arguments)
    return caught.value.code


def test_no_name_leads_out_of_an_export(folder: Path, net: list[Place]) -> None:
    (folder / "outside").mkdir()
    (folder / "outside/secret").write_bytes(b"secret")
    with served(folder, net) as serve, serve.client() as client:
        client.reclaimed()
        for name, target in (
            ("far", f"{folder}/outside"),
            ("up", "../../outside"),
            ("self", "."),
            ("root", "/"),
        ):
            client.symlink("nodes/node1", name, target)
            assert refused(client.handle, f"nodes/node1/{name}/secret") in {NOTDIR, SYMLINK}
            assert status(client, f"nodes/node1/{name}", TO_WRITE) == SYMLINK
        for name in ("..", ".", "a/../b", "../outside", "/etc", "nul\0byte"):
            own = client.handle("nodes/node1")
            assert refused(client.within, own, name) in {BADNAME, BADCHAR, NOENT}, name
        assert client.above("nodes/node1") == client.handle("nodes")
        assert refused(client.within, client.above("nodes/node1"), "node2") in {NOENT, ACCESS}


def test_another_address_has_no_use_for_a_nodes_handles(folder: Path, net: list[Place]) -> None:
    (folder / "nodes/node2/secret").write_bytes(b"secret")
    with served(folder, net) as serve, serve.client() as client:
        client.reclaimed()
        with serve.client(serve.node2, "node2") as other:
            other.reclaimed()
            taken = [other.handle(f"nodes/node2{path}") for path in ("", "/secret")]
            assert other.read(other.open("nodes/node2/secret", TO_READ)) == b"secret"
        assert [refused(client.look, handle) for handle in taken] == [ACCESS] * 2


def test_handles_that_are_made_up_open_nothing_that_is_not_exported(folder: Path, net: list[Place]) -> None:
    """Ganesha itself opens any handle of its file system: that of the root, and from there every file of the server."""
    (folder / "outside").mkdir()
    (folder / "outside/secret").write_bytes(b"secret")
    with served(folder, net) as serve, serve.client() as client:
        client.reclaimed()
        for export in ("nodes/node1", "golden"):
            own = client.handle(export)
            for path in (
                folder / "outside",
                folder / "outside/secret",
                folder,
                folder / "nodes",
                Path(folder.anchor),
            ):
                assert refused(client.look, made_up(own, path)) == STALE, path
            assert refused(client.within, made_up(own, folder), "outside", "secret") == STALE
            outside = made_up(own, folder / "outside")
            assert refused(client.open_at, outside, "secret", TO_READ) == STALE
        # what is exported is still opened by handle, also what is new
        client.write(client.open("nodes/node1/new", TO_WRITE, create=True), b"mine")
        assert made_up(client.handle("nodes/node1"), folder / "nodes/node1/new") == client.handle(
            "nodes/node1/new"
        )


def made_up(handle: bytes, path: Path) -> bytes:
    """Return a handle of an export as it would be of another file of the same file system: what identifies that comes last."""
    ours = handles.handle_of(path)[handles.HEAD.size :]
    return handle[: -len(ours)] + ours


def test_a_node_goes_on_with_a_file_that_the_kernel_knows_by_no_name(folder: Path, net: list[Place]) -> None:
    (folder / "nodes/node1/deep").mkdir()
    disk = folder / "nodes/node1/deep/disk"
    disk.write_bytes(b"mine")
    with served(folder, net) as serve, serve.client() as client:
        handle = client.handle("nodes/node1/deep/disk")
    Path("/proc/sys/vm/drop_caches").write_text("2")
    with served(folder, net) as serve, serve.client() as client:
        assert client.look(handle) == handle


def test_what_a_node_discards_takes_no_more_space(folder: Path, net: list[Place]) -> None:
    with served(folder, net) as serve, serve.client() as client:
        client.reclaimed()
        disk = client.open("nodes/node1/disk", TO_WRITE, create=True)
        client.write(disk, b"x" * 65536)
        client.write(disk, b"y" * 65536, 1 << 20)
        before = (folder / "nodes/node1/disk").stat().st_blocks
        client.deallocate(disk, 0, 65536)
        assert (folder / "nodes/node1/disk").stat().st_blocks <= before - 128
        assert client.seek_data(disk, 0) == 1 << 20


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_node_goes_on_where_it_was_when_ganesha_was_ended_and_started_again(
    folder: Path, net: list[Place], how: signal.Signals
) -> None:
    with served(folder, net) as serve:
        with serve.client() as client:
            client.reclaimed()
            disk = client.open("nodes/node1/disk", TO_WRITE, create=True)
            image = client.open("golden/a.img", TO_READ)
            client.write(disk, b"before")
            os.kill(serve.pid, how)
        assert "starts again" in str(serve.told())
        with serve.client() as client:
            assert status(client, "golden/a.img") == GRACE
            disk, image = client.reclaim(disk, TO_WRITE), client.reclaim(image, TO_READ)
            client.write(disk, b"after", 6)
            assert client.read(disk) == b"beforeafter"
            assert client.read(image) == b"golden"
            client.reclaimed()
            assert reopened(serve, "golden/a.img") < ganesha.LEASE / 2 + 1


def test_a_handle_means_the_same_file_when_the_whole_server_was_killed_and_other_nodes_were_added(
    folder: Path, net: list[Place]
) -> None:
    with served(folder, net) as serve, serve.client() as client:
        handles = {path: client.handle(path) for path in ("golden/a.img", "nodes/node1", "golden")}
        serve.child.kill()
    (folder / "nodes/node0").mkdir()
    with served(folder, net, {"node0": "10.77.0.3", "node1": "10.77.0.2"}) as serve, serve.client() as client:
        for path, handle in handles.items():
            assert client.look(handle) == handle
            assert client.handle(path) == handle


def test_a_killed_server_leaves_no_process(folder: Path, net: list[Place]) -> None:
    with served(folder, net) as serve:
        serve.child.kill()
        serve.child.wait()
        deadline = time.monotonic() + 5
        while any(Path("/proc", str(pid)).exists() for pid in (serve.pid, serve.dnsmasq)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_exports_come_and_go_while_a_node_reads_and_writes(folder: Path, net: list[Place]) -> None:
    alone = {"node1": "10.77.0.2"}
    with (
        served(folder, net, alone) as serve,
        serve.client() as client,
        serve.client(serve.node2, "node2") as other,
    ):
        client.reclaimed()
        disk, slowest = client.open("nodes/node1/disk", TO_WRITE, create=True), 0.0
        for nodes, seen in ((NODES, {"node2"}), (alone, set[str]()), (NODES, {"node2"})):
            serve.send(nodes)
            began = time.monotonic()
            while other.names("nodes") != seen:
                before = time.monotonic()
                client.write(disk, b"x" * 4096)
                slowest = max(slowest, time.monotonic() - before)
                assert before - began < 3
        assert slowest < 0.5


def test_two_nodes_with_one_name_would_end_what_the_other_has_open(folder: Path, net: list[Place]) -> None:
    """The reason why an initramfs sets the hostname before it mounts anything."""
    with served(folder, net) as serve, serve.client(owner="(none)") as one:
        one.reclaimed()
        disk = one.open("nodes/node1/disk", TO_WRITE, create=True)
        with serve.client(serve.node2, "(none)", b"boot-two"):
            with pytest.raises(NfsError) as caught:
                one.write(disk, b"x")
            assert caught.value.code == BADSESSION


def test_a_hundred_nodes_are_served_in_little_time_and_memory(folder: Path, net: list[Place]) -> None:
    nodes = {f"n{number}": f"10.77.0.{number + 2}" for number in range(100)}
    for name in nodes:
        (folder / "nodes" / name).mkdir()
    began = time.monotonic()
    with served(folder, net, nodes) as serve:
        assert time.monotonic() - began < 3
        resident = Path(f"/proc/{serve.pid}/status").read_text("ascii").partition("VmRSS:")[2].split()[0]
        assert int(resident) < 64 << 10
        with serve.client() as client:
            assert client.names("nodes") == {"n0"}
