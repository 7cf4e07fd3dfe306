"""dnsmasq as an engine: DHCP, PXE and TFTP."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pibake import fsys
from pibake.netboot import dnsmasq
from pibake.netboot.values import DHCP_PORT, TFTP_PORT
from pibake.run import run
from pibake.serve.engine import Engine, Listens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.netboot.dnsmasq import Uefi
    from pibake.netboot.values import Client, Site

CAPABILITIES = ("net_admin", "net_bind_service", "net_raw", "setgid")
"""To listen below port 1024, to answer boards that have no address yet, to look up who has which MAC address, and to leave
the groups it was started with."""
PROGRAM = "dnsmasq"


@dataclass(frozen=True)
class Answers:
    """Ready when both DHCP and TFTP have their sockets."""

    dhcp: Listens
    tftp: Listens

    def __call__(self, pid: int) -> bool:
        """Look for both."""
        return self.dhcp(pid) and self.tftp(pid)


def engine(site: Site, clients: Sequence[Client], tftp: Path, folder: Path, uefi: Uefi | None) -> Engine:
    """Write dnsmasq.conf and the file of nodes into a folder of this server's own, and return the engine that answers boards.

    It reads the file of nodes again while boards load files. With another dnsmasq.conf it starts anew: what a board has not
    got by then, it asks for again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = dnsmasq.config(site, clients, tftp_root=str(tftp), run=str(folder), uefi=uefi)
    hosts = dnsmasq.hosts(site, clients)
    configuration = folder / "dnsmasq.conf"
    fsys.write(configuration, text)
    fsys.write(folder / dnsmasq.HOSTS, hosts)
    # a change of user would clear the signal of the parent's death; root is here the owner of root's files and no more
    limit = ("prlimit", f"--nofile={dnsmasq.FILES}:{dnsmasq.FILES}")
    argv = (*limit, PROGRAM, "-C", str(configuration), "--user=root", "--group=root")
    ready = Answers(Listens("udp", DHCP_PORT), Listens("udp", TFTP_PORT))
    return Engine(PROGRAM, argv, ready, CAPABILITIES, reload=signal.SIGHUP, configuration=hosts, fixed=text)


def check(site: Site, clients: Sequence[Client], tftp: Path) -> None:
    """Have dnsmasq read the configuration.

    Raises:
        CommandFailed: it refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="pibake-") as folder:
        text = dnsmasq.config(site, clients, tftp_root=str(tftp), run=folder)
        configuration = Path(folder, "dnsmasq.conf")
        configuration.write_text(text, "utf-8")
        run([PROGRAM, "--test", "-C", os.fspath(configuration)], why="check what boards would be told")
