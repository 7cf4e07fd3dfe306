"""Boards of every kind on one bridge, with pibake's dnsmasq for a server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

from tests.net import trees
from tests.net.lab import BRIDGE, Lab, Seat, lab
from tests.tools.netns import inside

from pibake.boards import BOARDS
from pibake.netboot.dnsmasq import HOSTS, Uefi, config, hosts
from pibake.netboot.values import PROXY, SERVER, Client, Site
from pibake.probe import MODELS, Result, play
from pibake.serve.late import Late

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SERVER_ADDRESS = IPv4Interface("192.168.10.2/24")
ROUTER_ADDRESS = "192.168.10.1/24"
ALIKE = ("pi3", "pi3b+", "pi4", "pi5")
ROUTER_MAC = "52:54:00:00:00:01"
UEFI = Uefi("uefi/grubnetaa64.efi", "http://192.168.10.2:8069/uefi/boot.efi")
ROUTER = """port=0
interface=eth0
dhcp-range={first},{last},255.255.255.0,1h
dhcp-authoritative
no-ping
log-facility=-
dhcp-leasefile={folder}/leases
pid-file={folder}/pid
"""


@dataclass(frozen=True)
class Played:
    """A board that is played: model, MAC address, serial, and the address its node has."""

    model: str
    mac: str
    serial: str
    address: str

    def client(self, *, mac: bool = True, serial: bool = True) -> Client:
        """Return the node as the server knows it: by its MAC address, its serial, or both."""
        board = BOARDS[MODELS[self.model].board]
        known = (self.mac if mac else "", self.serial if serial and self.model != "uefi" else "")
        return Client(f"node-{self.address[-2:]}", IPv4Address(self.address), *known, board, "nfs")


def boards(models: Sequence[str] = tuple(MODELS)) -> list[Played]:
    return [
        Played(model, f"{MODELS[model].oui}:5f:aa:{n:02x}", f"de5faa{n:02x}", f"192.168.10.{n}")
        for n, model in enumerate(models, 11)
    ]


@contextmanager
def served(folder: Path, clients: Sequence[Client], dhcp: str = SERVER) -> Iterator[Lab]:
    """Run pibake's dnsmasq for these clients on a tree with their folders, as a proxy beside a router."""
    tree = trees.root(folder / "tftp")
    for client in clients:
        if client.board.firmware or client.board.family == "pi5":
            trees.board(tree, client.board.name, client.mac, client.serial)
    site = Site(BRIDGE, SERVER_ADDRESS, dhcp, IPv4Address("192.168.10.1"), ("192.168.10.1",), "lab")
    text = config(site, clients, tftp_root=str(tree), run=str(folder / "dnsmasq"), uefi=UEFI)
    (folder / "dnsmasq").mkdir()
    (folder / "dnsmasq" / HOSTS).write_text(hosts(site, clients))
    with lab(str(SERVER_ADDRESS)) as made:
        made.dnsmasq(made.server, text, folder / "dnsmasq")
        late = Late(site, clients, print)
        made.stack.callback(late.__exit__)
        inside(made.server, late.__enter__)
        if dhcp == PROXY:
            routed(made, folder / "router")
        yield made


@contextmanager
def misserved(folder: Path, conf: str) -> Iterator[tuple[Lab, Path]]:
    """Run a dnsmasq that somebody else configured; its TFTP root is one folder for all boards of `ALIKE`."""
    tree = trees.root(folder / "tftp")
    for model in ALIKE:
        trees.into(tree, model)
    head = (
        f"port=0\ninterface={BRIDGE}\nlog-facility=-\nno-ping\n"
        f"dhcp-leasefile={folder}/leases\npid-file={folder}/pid\n"
        f"dhcp-range=192.168.10.50,192.168.10.99,255.255.255.0,1h\n"
    )
    with lab(str(SERVER_ADDRESS)) as made:
        made.dnsmasq(made.server, head + conf.format(tree=tree), folder / "dnsmasq")
        yield made, tree


def routed(made: Lab, folder: Path, address: str = ROUTER_ADDRESS, mac: str = ROUTER_MAC) -> None:
    """Add a DHCP server that gives addresses and knows nothing of boots."""
    seat = made.seat(mac, address)
    first = 100 if address == ROUTER_ADDRESS else 200
    text = ROUTER.format(first=f"192.168.10.{first}", last=f"192.168.10.{first + 49}", folder=folder)
    made.dnsmasq(seat.namespace, text, folder)


def played(made: Lab, board: Played, folder: Path | None = None, **how: object) -> Result:
    """Plug a board in and play it."""
    seat: Seat = made.seat(board.mac)
    return inside(
        seat.namespace,
        lambda: play(board.model, "eth0", mac=board.mac, serial=board.serial, folder=folder, **how),  # type: ignore[arg-type]
    )


def all_played(made: Lab, which: Sequence[Played], folder: Path, **how: object) -> list[Result]:
    """Play boards at the same time."""
    with ThreadPoolExecutor(len(which)) as pool:
        return list(pool.map(lambda board: played(made, board, folder / board.serial, **how), which))
