"""This server and its nodes, as they meet on the wire."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Interface

    from pibake.boards import Board

PROXY = "proxy"
"""DHCP beside a router that gives the addresses: only what to boot from is answered (PXE 2.1 section 2.2.3)."""
SERVER = "server"
"""DHCP with a reserved address for each node."""


DHCP_PORT, TFTP_PORT = 67, 69
"""Where boards ask (RFC 2131, RFC 1350), and nowhere else."""


@dataclass(frozen=True)
class Ports:
    """Where the engines listen whose ports nodes are told."""

    http: int = 8069
    nfs: int = 2049
    nbd: int = 10809


@dataclass(frozen=True)
class Site:
    """This server as its nodes see it.

    Attributes:
        interface: the network interface the nodes are behind.
        address: its address and subnet.
        dhcp: `PROXY` or `SERVER`.
        gateway: the nodes' router, or None.
        nameservers: as text, in order.
        domain: of the nodes.
        ports: where the engines listen.
    """

    interface: str
    address: IPv4Interface
    dhcp: str = PROXY
    gateway: IPv4Address | None = None
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    ports: Ports = field(default=Ports())


@dataclass(frozen=True)
class Client:
    """One node on the wire; its MAC address (`dc:a6:32:01:02:03`) or its serial (8 hex digits) may be "", not both.

    `root` is "nfs" or "nbd", and `state` where its own files live beside a shared root, as in cluster.yaml. With `pinned`,
    cluster.yaml gives its serial only, and the MAC address is that of the first board with this serial.
    """

    hostname: str
    address: IPv4Address
    mac: str
    serial: str
    board: Board
    root: str
    state: str = "server"
    pinned: bool = False

    @property
    def folder(self) -> str:
        """The name of its folder in the TFTP tree: its MAC address as the EEPROM writes it, else its serial."""
        return self.mac.replace(":", "-") or self.serial

    @property
    def machine_id(self) -> str:
        """A machine-id of its own (machine-id(5): 32 hex digits), for a root file system that forgets the one it made.

        The MAC address of a board that is known by its serial may become known later, and makes no difference.
        """
        known = self.serial or self.folder
        return hashlib.sha256(f"pibake {self.hostname} {known}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Root:
    """A golden image as nodes mount it.

    Attributes:
        name: of the image's file in the export, without `.img`: the first 16 hex digits of its SHA-256.
        offset: where its root file system starts, in bytes.
        boot: where its system has the boot partition, without leading slash.
    """

    name: str
    offset: int
    boot: str
