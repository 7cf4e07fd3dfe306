"""What is not meant for somebody in the subnet, nobody there gets, by whatever way; and nobody keeps others out."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from tests.net.serving import ADDRESS, NEEDED, Ground, Serving, serving
from tests.net.walks import boards, played
from tests.tools import nfs41, wired
from tests.tools.netns import inside

from pibake.netboot import pxe
from pibake.netboot.values import SERVER
from pibake.probe import packet, tftp
from pibake.probe.packet import DISCOVER
from pibake.probe.tftp import Arrived
from pibake.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.net.lab import Seat

pytestmark = NEEDED
PI4, PI3, PI5 = boards(["pi4", "pi3", "pi5"])
SILENT = 500


@pytest.fixture(scope="module")
def served(on: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("confined"), on) as one:
        one.write(
            f'{{hostname: node1, address: {PI4.address}, board: pi4, mac: "{PI4.mac}", serial: {PI4.serial}}}',
            f'{{hostname: node2, address: {PI3.address}, board: pi3, mac: "{PI3.mac}"}}',
            f'{{hostname: node3, address: {PI5.address}, board: pi5, mac: "{PI5.mac}", root: nbd}}',
            more=f"netboot: {{dhcp: {SERVER}}}\n",
        )
        one.start()
        yield one


@pytest.fixture(scope="module")
def stranger(served: Serving) -> Seat:
    return served.lab.seat("02:66:66:66:66:66", "192.168.10.66/24")


def names(served: Serving) -> list[str]:
    """Return all names by which TFTP and HTTP have a file; links to the folder they are in are followed once."""
    top = served.netboot / "tftp"
    whole = [path for path in top.rglob("*") if path.is_file()]
    whole += [
        path for link in top.iterdir() if link.is_symlink() for path in link.iterdir() if path.is_file()
    ]
    return [str(path.relative_to(top)) for path in whole]


def test_links_that_boards_meet_lead_to_what_is_served(served: Serving) -> None:
    parts = [(served.netboot / part).resolve() for part in ("tftp", "eeprom")]
    links = [path for path in (served.netboot / "tftp").rglob("*") if path.is_symlink()]
    assert len(links) > 10
    assert [one for one in links if not any(one.resolve().is_relative_to(part) for part in parts)] == []


def test_tftp_gives_nothing_from_outside_of_its_folder_and_takes_nothing(
    served: Serving, stranger: Seat
) -> None:
    (served.netboot / "outside").write_text("secret")
    inner = f"{PI4.serial}/config.txt"
    outside = [
        "../outside", f"{PI4.serial}/../../outside", f"{PI4.serial}/../../../outside", "..\\outside", "/../outside",
        f"{served.netboot}/outside", "/etc/hostname", "//etc/hostname", "tftp/../../outside", f"{inner}\0/../../outside\0",
        "a" * 60000, "%2e%2e/outside", "", ".", "..", "/", "\xff\xfe",
    ]  # fmt: skip

    def asked() -> list[str]:
        found = [name for name in outside if isinstance(_read(name), Arrived)]
        assert isinstance(_read(inner), Arrived)
        return found

    def written() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.settimeout(1)
            wire.sendto(b"\0\2" + inner.encode() + b"\0octet\0", (ADDRESS, tftp.PORT))
            with suppress(TimeoutError):
                return wire.recv(600)
            return b"\0\5"

    before = (served.netboot / "tftp" / inner).read_bytes()
    # what follows a NUL is the mode, and not a part of the name
    assert set(inside(stranger.namespace, asked)) <= {f"{inner}\0/../../outside\0"}
    assert inside(stranger.namespace, written)[:2] == b"\0\5"
    assert (served.netboot / "tftp" / inner).read_bytes() == before


def _read(name: str) -> tftp.Answer:
    with suppress(OSError):
        return tftp.read(IPv4Address(ADDRESS), name)
    return tftp.Silence("too long")


def test_no_secret_is_in_what_everybody_may_load(served: Serving, stranger: Seat) -> None:
    values = [text.strip() for text in Vault(served.folder / "secrets").existing().values()]
    values += [(served.netboot / "token").read_text().strip(), wired.HASH]
    texts = [text.encode() for text in values if text]
    assert len(texts) > 3
    shared = [path for part in ("tftp", "golden", "eeprom") for path in (served.netboot / part).rglob("*")]
    content = {path: path.read_bytes() for path in shared if path.is_file()}
    assert any(
        text in (served.netboot / "nodes/node1/export/boot/pibake-secrets.tar").read_bytes() for text in texts
    )
    assert [path for path, data in content.items() if any(text in data for text in texts)] == []
    asked = [
        *names(served),
        "",
        "status",
        "metrics",
        "node/node1",
        "report",
        "page/page.css",
        "token",
        "boot.img",
        "login",
    ]
    told = {path: served.get(f"/{path}", stranger) for path in set(asked)}
    assert sum(code == 200 for code, _ in told.values()) > 20
    assert [path for path, (_, data) in told.items() if any(text in data for text in texts)] == []
    assert {told[path][0] for path in ("", "status", "metrics", "node/node1")} == {401}


def test_the_boot_rom_of_a_pi_3_is_answered_after_a_message_that_is_cut_off_where_options_go_on(
    served: Serving, stranger: Seat
) -> None:
    mac = bytes.fromhex(PI3.mac.replace(":", ""))
    options = (
        (53, bytes((DISCOVER,))),
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (97, pxe.BOOT_ROM),
        (52, b""),
    )
    frame = packet.broadcast(mac, packet.encode(packet.Message(1, 7, mac, options)))

    def attack() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            wire.send(frame)

    inside(stranger.namespace, attack)
    assert played(served.lab, PI3, patience=20).boots


def test_connections_that_say_nothing_keep_nobody_out(served: Serving, stranger: Seat) -> None:
    node = served.lab.seat("02:00:00:00:00:77", f"{PI4.address}/24")
    engines = served.engines()

    def silent() -> list[socket.socket]:
        links = []
        for number in range(3 * SILENT):
            with suppress(OSError):
                links.append(socket.create_connection((ADDRESS, (8069, 2049, 10809)[number % 3]), 2))
        return links

    with ExitStack() as stack:
        for link in inside(stranger.namespace, silent):
            stack.enter_context(link)
        assert served.get(f"/{PI4.serial}/config.txt", node)[0] == 200
        reached = inside(node.namespace, lambda: socket.create_connection((ADDRESS, 2049), 60))
        with nfs41.Client(reached, "node1") as client:
            client.reclaimed()
            assert client.names("nodes/node1/boot") >= {"user-data"}
        began = time.monotonic()
        disk = served.lab.seat("02:00:00:00:00:78", f"{PI5.address}/24")
        with inside(disk.namespace, lambda: socket.create_connection((ADDRESS, 10809), 5)) as gate:
            gate.settimeout(5)
            assert gate.recv(18).startswith(b"NBDMAGIC")
        assert time.monotonic() - began < 8
    assert served.engines() == engines


@pytest.mark.usefixtures("served")
def test_a_handle_that_a_stranger_made_up_opens_nothing_of_the_server(stranger: Seat) -> None:
    reached = inside(stranger.namespace, lambda: socket.create_connection((ADDRESS, 2049), 60))
    with nfs41.Client(reached, "stranger") as client:
        client.reclaimed()
        root = client.handle("golden")
        assert client.names("golden")
        made_up = root[:-8] + struct.pack("<II", 2, 0)  # the root of an ext4
        with pytest.raises(nfs41.NfsError) as refused:
            client.look(made_up)
        assert refused.value.code == nfs41.STALE
        with pytest.raises(nfs41.NfsError):
            client.names("nodes/node1")
