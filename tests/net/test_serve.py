"""`pibake serve` as a person runs it: every board boots from it, it follows cluster.yaml, and it leaves nothing behind."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.net.lab import BRIDGE
from tests.net.serving import ADDRESS, NEEDED, SUBNET, Ground, Serving, serving
from tests.net.walks import Played, all_played, boards, routed
from tests.tools import command, nfs41, wired
from tests.tools.images import tool
from tests.tools.netns import inside, ip

from pibake.cache import Cache
from pibake.errors import PibakeError
from pibake.netboot.values import PROXY, SERVER
from pibake.probe import MODELS, Result, Verdict, wire
from pibake.probe.messages import Board, discover
from pibake.progress import Silent
from pibake.serve import unit
from pibake.serve.engines import SOCKETS
from pibake.serve.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = NEEDED
KNOWN = {"pi3b+": ("serial",), "cm4": ("serial",), "pi500": ("mac",), "uefi": ("mac",)}
"""What cluster.yaml says of a board; of the others both."""
MOVED = ("--http-port", "8169", "--nfs-port", "3049", "--nbd-port", "20809")
RIVALLED = "rivalled"
ENGINES = ("ganesha.nfsd", "qemu-storage-daemon", "dnsmasq")


def line(board: Played, more: str = "") -> str:
    """Return a board's line in cluster.yaml."""
    known = {"mac": board.mac, "serial": board.serial}
    said = "".join(f', {key}: "{known[key]}"' for key in KNOWN.get(board.model, ("mac", "serial")))
    name = f"node{board.address.rpartition('.')[2]}"
    return f"{{hostname: {name}, address: {board.address}, board: {MODELS[board.model].board}{said}{more}}}"


def lines(which: list[Played]) -> list[str]:
    return [line(board, ", root: nbd" if board.model == "pi400" else "") for board in which]


@pytest.fixture(scope="module")
def servers(on: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Serving]]:
    """Networks of each kind of DHCP, with a node for every model, and one with a router that should not be there."""
    with (
        serving(tmp_path_factory.mktemp(PROXY), on) as proxy,
        serving(tmp_path_factory.mktemp(SERVER), on) as server,
        serving(tmp_path_factory.mktemp(RIVALLED), on) as rivalled,
    ):
        for dhcp, one in ((PROXY, proxy), (SERVER, server)):
            one.write(*lines(boards()), more=f"netboot: {{dhcp: {dhcp}}}\n")
        pi4, pi400 = boards(["pi4", "pi400"])
        rivalled.write(line(pi4), line(pi400, ", root: nbd"), more=f"netboot: {{dhcp: {SERVER}}}\n")
        for one in (proxy, rivalled):
            routed(one.lab, one.folder / "router")
        rivalled.start(*MOVED)
        server.start()
        proxy.start()
        yield {PROXY: proxy, SERVER: server, RIVALLED: rivalled}


@pytest.fixture(scope="module")
def walks(servers: dict[str, Serving]) -> dict[str, dict[str, Result]]:
    def walk(one: Serving) -> dict[str, Result]:
        which = boards()
        results = all_played(one.lab, which, one.folder / "boards")
        return {board.model: result for board, result in zip(which, results, strict=True)}

    with ThreadPoolExecutor(2) as pool:
        results = pool.map(walk, (servers[PROXY], servers[SERVER]))
        return dict(zip((PROXY, SERVER), results, strict=True))


@pytest.fixture
def served(servers: dict[str, Serving]) -> Serving:
    return servers[SERVER]


@pytest.fixture
def small(on: Ground, tmp_path: Path) -> Iterator[Serving]:
    """A network of its own for a test that ends the server."""
    with serving(tmp_path, on) as one:
        pi4, pi400 = boards(["pi4", "pi400"])
        one.write(line(pi4), line(pi400, ", root: nbd"), more="netboot: {dhcp: server}\n")
        yield one


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_every_board_boots_from_it(walks: dict[str, dict[str, Result]], dhcp: str, model: str) -> None:
    result = walks[dhcp][model]
    steps = [
        f"{step.asked}: {step.got}: {step.note}" for step in result.steps if step.verdict is not Verdict.OK
    ]
    assert steps == []
    assert str(result.server) == ADDRESS
    assert result.kernel
    if model == "uefi":
        assert result.kernel.read_bytes() == b"MZ shim"
        return
    (board,) = (board for board in boards() if board.model == model)
    words = result.cmdline.split()
    assert f"pibake.ip={board.address}/24" in words
    assert f"pibake.root={'nbd' if model == 'pi400' else 'nfs'}" in words
    assert result.initramfs


def test_a_machine_with_uefi_is_told_a_url_by_http_boot_and_finds_its_own_files_there(
    walks: dict[str, dict[str, Result]], served: Serving
) -> None:
    assert walks[SERVER]["uefi"].boots
    (board,) = (board for board in boards() if board.model == "uefi")
    (stage,) = MODELS["uefi"].stages
    asking = replace(stage.asking, vendor="HTTPClient:Arch:00019:UNDI:003000", architecture=19)
    seat = served.lab.seat(board.mac)

    def offered() -> tuple[bytes, str]:
        machine = Board(MODELS["uefi"], bytes.fromhex(board.mac.replace(":", "")), "")
        with wire.powered("eth0"), wire.Wire("eth0", machine.mac) as raw:
            raw.send(discover(machine, asking, 77))
            offer = raw.hear(77, time.monotonic() + 5)
        assert offer
        return offer.option(60), offer.option(67).rstrip(b"\0").decode() or offer.file

    assert inside(seat.namespace, offered) == (b"HTTPClient", f"http://{ADDRESS}:8069/shimaa64.efi")
    assert served.get("/shimaa64.efi") == (200, b"MZ shim")
    assert served.get("/grubaa64.efi") == (200, b"MZ grub")
    folder = board.mac.replace(":", "-")
    assert b"$net_default_mac" in served.get("/grub/grub.cfg")[1]
    assert b"pibake.root=nfs" in served.get(f"/{folder}/grub.cfg")[1]
    code, kernel = served.get(f"/{folder}/vmlinuz")
    assert (code, kernel[:2]) == (200, b"MZ")


def test_the_status_names_every_engine_and_node(served: Serving) -> None:
    code, body = served.get("/status")
    status = json.loads(body)
    assert code == 200
    assert [(engine["name"], engine["state"]) for engine in status["engines"]] == [
        (n, "ready") for n in ENGINES
    ]
    assert {engine["name"][:15]: engine["pid"] for engine in status["engines"]} == served.engines()
    assert len(status["nodes"]) == len(MODELS)
    pi4 = next(board for board in boards() if board.model == "pi4")
    node = status["nodes"]["node14"]
    assert (node["mac"], node["serial"], node["address"]) == (pi4.mac, pi4.serial, pi4.address)
    assert (node["board"], node["root"], node["golden"]) == ("pi4", "nfs", served.ground.digest[:16])


def test_a_node_finds_the_golden_image_and_its_own_files_and_no_other_nodes_by_nfs(served: Serving) -> None:
    seat = served.lab.seat("02:00:00:00:00:05", f"{SUBNET}.17/24")
    reached = inside(seat.namespace, lambda: socket.create_connection((ADDRESS, 2049), 5))
    with nfs41.Client(reached, "node17") as client:
        client.reclaimed()
        (name,) = client.names("golden") & {f"{served.ground.digest[:16]}.img"}
        image = client.open(f"golden/{name}", nfs41.TO_READ)
        assert client.read(image, 510, 2) == b"\x55\xaa"
        with pytest.raises(nfs41.NfsError):
            client.open(f"golden/{name}", nfs41.TO_WRITE)
        own = client.open("nodes/node17/boot/user-data", nfs41.TO_WRITE)
        assert client.read(own).startswith(b"#cloud-config")
        with pytest.raises(nfs41.NfsError):
            client.open("nodes/node14/boot/user-data", nfs41.TO_READ)


def test_a_node_alone_finds_its_disk_by_nbd(served: Serving) -> None:
    pi400, other = (board for board in boards() if board.model in {"pi400", "pi5"})
    seats = [
        served.lab.seat(f"02:00:00:00:01:0{n}", f"{one.address}/24") for n, one in enumerate((pi400, other))
    ]

    def info(namespace: str) -> subprocess.CompletedProcess[bytes]:
        argv = ["qemu-img", "info", "--output=json", f"nbd://{ADDRESS}:10809/node15"]
        return subprocess.run(["ip", "netns", "exec", namespace, *argv], capture_output=True, check=False)

    assert json.loads(info(seats[0].namespace).stdout)["virtual-size"] == 16 << 30
    assert info(seats[1].namespace).returncode
    assert info(served.lab.server).returncode


def test_a_pi_4_gets_its_own_boot_image_signed_by_the_clusters_key(served: Serving, tmp_path: Path) -> None:
    pi4 = next(board for board in boards() if board.model == "pi4")
    seat = served.lab.seat("02:00:00:00:00:04", f"{pi4.address}/24")
    (_, image), (_, signature) = (served.get(f"/any/{name}", seat) for name in ("boot.img", "boot.sig"))
    (tmp_path / "boot.img").write_bytes(image)
    cmdline = tool("mtype", "-i", tmp_path / "boot.img", "::cmdline.txt").decode()
    assert "pibake.name=node14" in cmdline.split()
    assert {"start4.elf", "vmlinuz", "initrd.img"} <= set(
        tool("mdir", "-b", "-i", tmp_path / "boot.img").decode().replace("::/", "").split()
    )
    values = dict(line.partition(": ")[::2] for line in signature.decode().splitlines()[1:])
    assert signature.decode().splitlines()[0] == tool("sha256sum", tmp_path / "boot.img").decode()[:64]
    (tmp_path / "sig").write_bytes(bytes.fromhex(values["rsa2048"]))
    (tmp_path / "key.pem").write_text(
        json.loads((served.folder / "secrets/identity.json").read_text())["boot_key"]
    )
    tool("openssl", "rsa", "-in", tmp_path / "key.pem", "-pubout", "-out", tmp_path / "public.pem")
    tool(
        "openssl",
        "dgst",
        "-sha256",
        "-verify",
        tmp_path / "public.pem",
        "-signature",
        tmp_path / "sig",
        tmp_path / "boot.img",
    )
    stranger = served.lab.seat("02:00:00:00:00:99", f"{SUBNET}.99/24")
    assert served.get("/any/boot.img", stranger)[0] == 404


def test_http_serves_nothing_from_outside_of_the_tftp_folder(served: Serving) -> None:
    secret = served.folder / "netboot/outside"
    secret.write_text("secret")
    (served.netboot / "tftp/link").symlink_to("../outside")
    (served.netboot / "tftp/chain").symlink_to(str(secret))
    outside = [
        "/../outside",
        "/%2e%2e/outside",
        "/grub/../../outside",
        "/grub/%2e%2e/%2e%2e/outside",
        f"/{secret}",
        f"/{str(secret).replace('/', '%2f')}",
        "/link",
        "/chain",
        "/..%2fnodes/node11/export/boot/pibake-secrets.tar",
        "/grub",
        "/a%00b",
        f"/{'long' * 99}",
    ]
    assert [(path, served.get(path)[0]) for path in outside] == [(path, 404) for path in outside]
    for name in ("link", "chain"):
        (served.netboot / "tftp" / name).unlink()


def test_shim_finds_grub_whatever_it_makes_of_its_backslash(served: Serving) -> None:
    grub = (served.netboot / "tftp/grub/grub.cfg").read_bytes()
    for path in ("/grub/grub.cfg", "//grub/grub.cfg", "/%5Cgrub%5Cgrub.cfg"):
        assert served.get(path) == (200, grub)


def test_a_changed_cluster_yaml_is_served_and_a_mistake_in_it_is_not(served: Serving) -> None:
    (new,) = boards(["pi4"] * 20)[19:]
    before, pids = lines(boards()), served.engines()
    served.write(*before, line(new), more="netboot: {dhcp: server}\n")
    served.until("cluster.yaml was changed, and is served as it is now")
    served.until("dnsmasq", 0.1)
    (result,) = all_played(served.lab, [new], served.folder / "new")
    assert result.boots
    assert f"pibake.ip={new.address}/24" in result.cmdline.split()
    assert "node30" in json.loads(served.get("/status")[1])["nodes"]
    assert "/nodes/node30" in (served.netboot / "run/nfs/ganesha.conf").read_text()
    after = served.engines()
    assert {name for name in pids if pids[name] == after[name]} == set(pids)
    served.write(
        *before, line(new), "{hostname: node31, address: 192.168.11.31}", more="netboot: {dhcp: server}\n"
    )
    said = served.until("cluster.yaml was changed, and cannot be served; what was served goes on")
    assert "192.168.11.31" in "\n".join(served.said[served.said.index(said) :])
    assert sum("is served as it is now" in line for line in served.said) == 1
    assert served.engines() == after
    assert "node30" in json.loads(served.get("/status")[1])["nodes"]
    served.said.clear()
    served.write(*before, more="netboot: {dhcp: server}\n")
    served.until("cluster.yaml was changed, and is served as it is now")
    assert "node30" not in json.loads(served.get("/status")[1])["nodes"]
    assert not (served.netboot / "tftp" / new.serial).exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_killed_comes_back_and_that_is_said(served: Serving, engine: str) -> None:
    before = served.engines()[engine[:15]]
    os.kill(before, signal.SIGKILL)
    served.until(f"{engine} was ended by SIGKILL; it starts again")
    served.until(f"{engine} serves again")
    assert served.engines()[engine[:15]] != before
    state = next(one for one in json.loads(served.get("/status")[1])["engines"] if one["name"] == engine)
    assert (state["state"], state["restarts"]) == ("ready", 1)


def left(one: Serving) -> list[str]:
    """Return what there is of it, but for files: processes and ports in its network, mounts, sockets."""
    deadline = time.monotonic() + 3
    while pids := tool("ip", "netns", "pids", one.lab.server).decode().split():
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    listening = tool("nsenter", f"--net=/run/netns/{one.lab.server}", "ss", "-Hlntu").decode().splitlines()
    mounts = [row for row in Path("/proc/self/mounts").read_text().splitlines() if str(one.folder) in row]
    return [*pids, *listening, *mounts]


def monitor(one: Serving) -> Path:
    """Return the socket of its storage daemon."""
    return SOCKETS / f"{hashlib.sha256(str(one.netboot).encode()).hexdigest()[:12]}.nbd"


def test_secrets_that_were_rotated_are_served_to_the_node_they_are_of(small: Serving) -> None:
    small.start()
    boot = small.netboot / "nodes/node11/export/boot"
    before = (boot / "meta-data").read_text(), (boot / "pibake-secrets.tar").read_bytes()
    assert not any("secrets/ was changed" in line for line in small.said)
    rotate = ["secrets", "rotate", "host-key", "--node", "node11"]
    done = command.run(*rotate, cwd=small.folder)
    assert done.returncode == 0, done.stderr
    small.until("secrets/ was changed, and is served as it is now")
    after = (boot / "meta-data").read_text(), (boot / "pibake-secrets.tar").read_bytes()
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_it_ends_at_sigterm_with_all_that_it_started(small: Serving) -> None:
    small.start()
    assert set(small.engines()) == {name[:15] for name in ENGINES}
    assert small.end() == 0
    assert small.until("stopped")
    assert left(small) == []
    assert not [*monitor(small).parent.glob(f"{monitor(small).stem}.*")]


def test_no_engine_outlives_it_when_it_is_killed_and_the_next_one_starts(small: Serving) -> None:
    small.start()
    engines = small.engines()
    small.end(signal.SIGKILL)
    assert left(small) == []
    assert monitor(small).exists()
    small.said.clear()
    small.start()
    assert set(small.engines()) == set(engines)


def test_a_folder_is_served_once_only(served: Serving) -> None:
    done = served.run()
    assert done.returncode == 1
    assert f"another `pibake serve` serves {served.netboot} already" in done.stderr


def test_check_says_what_was_found_good_and_starts_nothing(small: Serving) -> None:
    text = (small.folder / "cluster.yaml").read_text()
    small.put(f"{text}  - {{hostname: card, address: {SUBNET}.99}}\n")
    done = small.run("--check")
    assert done.returncode == 0, done.stderr
    assert "2 nodes boot from the wire: node11, node12" in done.stdout
    assert "without a board yet: card" in done.stdout
    assert f"br0: {ADDRESS}/24, DHCP as server" in done.stdout
    assert not small.netboot.exists()


def test_who_is_not_root_is_told_to_be_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    service = Service(tmp_path / "cluster.yaml", Cache(tmp_path / "cache"), Silent())
    with pytest.raises(PibakeError, match="boards ask at ports that only root may listen at") as caught:
        service.serving().__enter__()
    assert caught.value.hint == "sudo pibake serve"
    assert list(tmp_path.iterdir()) == []


def test_a_node_stays_on_its_golden_image_and_is_told_of(served: Serving, tmp_path: Path) -> None:
    image, digest = wired.base(tmp_path / "other.img", root={"etc/motd": "another\n"})
    served.said.clear()
    text = (served.folder / "cluster.yaml").read_text()
    served.put(text.replace(str(served.ground.base), str(image)).replace(served.ground.digest, digest))
    assert "`pibake serve --renew node14` starts it anew" in served.until(
        "node14 stays on the golden image it has"
    )
    served.until("cluster.yaml was changed, and is served as it is now")
    nodes = json.loads(served.get("/status")[1])["nodes"]
    assert {node["golden"] for node in nodes.values()} == {served.ground.digest[:16]}
    served.put(text)
    served.said.clear()
    served.put(text.replace("defaults:\n", "defaults:\n  timezone: Europe/Berlin\n"))
    assert "`pibake serve --renew node15` starts it anew" in served.until("node15 keeps its disk")
    served.put(text)


def test_ports_that_are_taken_are_named_with_who_has_them(small: Serving) -> None:
    def take() -> socket.socket:
        return socket.create_server((ADDRESS, 2049))

    with inside(small.lab.server, take):
        done = small.run()
    assert done.returncode == 1
    assert "port 2049 (tcp, for NFS) is taken by " in done.stderr
    assert f"(process {os.getpid()}" in done.stderr


def test_another_dhcp_server_is_warned_of_where_this_one_gives_the_addresses(
    servers: dict[str, Serving], walks: dict[str, dict[str, Result]]
) -> None:
    said = servers[RIVALLED].until(f"{SUBNET}.1 gives addresses, too")
    assert "turn its DHCP off, or set dhcp: proxy" in said
    assert walks
    assert [line for line in servers[PROXY].said if "gives addresses" in line] == []


def test_a_host_outside_of_the_subnet_is_told_how_to_get_into_it(on: Ground, tmp_path: Path) -> None:
    with serving(tmp_path, on, "10.99.0.1/24") as one:
        one.write(*lines(boards(["pi4"])))
        for interface, why in (
            (BRIDGE, f"{BRIDGE} has none in it"),
            ("eth7", "no interface eth7 here has an address"),
        ):
            done = one.run("--check", "--interface", interface)
            assert done.returncode == 1
            assert f"an address in {SUBNET}.0/24, the nodes' subnet, and {why}" in done.stderr
            assert f"ip address add {SUBNET}.1/24 dev {interface}" in done.stderr
        ip("-n", one.lab.server, "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        ip("-n", one.lab.server, "address", "add", "10.98.0.1/24", "dev", BRIDGE)
        assert f"{BRIDGE}: {ADDRESS}/24" in one.run("--check").stdout


def test_moved_ports_are_where_nodes_are_told_to_look(servers: dict[str, Serving]) -> None:
    small = servers[RIVALLED]
    folder = small.netboot / "tftp"
    first, second = (
        (folder / board.serial / "cmdline.txt").read_text() for board in boards(["pi4", "pi400"])
    )
    assert "pibake.nfs=3049" in first.split()
    assert "pibake.nbd=20809" in second.split()
    listening = tool("ip", "netns", "exec", small.lab.server, "ss", "-Hlnt").decode()
    assert {":8169", ":3049", ":20809"} <= {
        f":{line.split()[3].rpartition(':')[2]}" for line in listening.splitlines()
    }


def test_the_unit_serves_this_cluster_and_may_write_where_serving_does(
    on: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.yaml").write_text("cluster: lab\n")
    path = tmp_path / "pibake-serve.service"
    monkeypatch.setattr(unit, "install", functools.partial(unit.install, path=path))
    done = command.run("serve", "--install-unit", env={**os.environ, **on.env}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "`systemctl enable --now pibake-serve` starts it" in done.stdout
    text = path.read_text()
    assert f'"serve" "--config" "{tmp_path}/cluster.yaml"' in text
    cache = Path(on.env["XDG_CACHE_HOME"], "pibake")
    for folder in (tmp_path / "netboot", tmp_path / "secrets", cache):
        assert f'"-{folder}"' in text
        assert folder.is_dir()
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
