"""What keeps boards from booting is found: other DHCP servers, spanning tree, taken ports."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools.command import started
from tests.tools.netns import Place, entered, needs_namespaces, places, switch

from pibake.netboot.values import PROXY, SERVER, Site
from pibake.serve import host, wire
from pibake.serve.offers import offers
from pibake.serve.wire import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    needs_namespaces,
    pytest.mark.skipif(not shutil.which("dnsmasq"), reason="needs dnsmasq"),
]
SUBNET = IPv4Network("10.77.0.0/24")
BOOTS = ("--dhcp-boot=pxelinux.0",)
PROXIES = ("--dhcp-range=10.77.0.0,proxy", "--pxe-service=x86PC,Network,pxelinux")


def site(dhcp: str) -> Site:
    return Site("eth0", IPv4Interface("10.77.0.1/24"), dhcp)


@pytest.fixture
def net() -> Iterator[list[Place]]:
    with places("10.77.0.1/24", "10.77.0.250/24") as made:
        yield made


@contextmanager
def dhcp(place: Place, folder: Path, *options: str) -> Iterator[None]:
    """Run a dnsmasq that gives addresses, or does what `options` say."""
    argv = place.argv(
        "dnsmasq", "--keep-in-foreground", "--port=0", "--conf-file=/dev/null", "--user=root", "--pid-file",
        f"--dhcp-leasefile={folder}/leases", "--no-ping", *(options or ("--dhcp-range=10.77.0.100,10.77.0.120",)),
    )  # fmt: skip
    with started(argv, stderr=subprocess.PIPE) as child:
        for line in child.stderr or ():
            if "sockets bound" in line or "DHCP" in line:
                break
        yield


def ranged(*options: str) -> tuple[str, ...]:
    return ("--dhcp-range=10.77.0.100,10.77.0.120", *options)


@pytest.fixture(autouse=True)
def _sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FOR", 0.4)


def told(place: Place, wanted: Site, what: Callable[[list[str]], bool], limit: float = 5.0) -> list[str]:
    """Watch until what is said suffices, or for `limit` seconds; return it."""
    said: list[str] = []
    watch = Watch(wanted, Path("/"), said.append)
    place.inside(watch.__enter__)
    try:
        deadline = time.monotonic() + limit
        while not what(said) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        watch.__exit__()
    return said


def test_each_server_that_answers_is_found_with_what_it_offers(net: list[Place], tmp_path: Path) -> None:
    with dhcp(net[1], tmp_path):
        (plain,) = net[0].inside(lambda: offers("eth0", 0.5))
    assert str(plain.server) == "10.77.0.250"
    assert plain.address in SUBNET
    assert not plain.boots
    with dhcp(net[1], tmp_path, *ranged(*BOOTS)):
        (boots,) = net[0].inside(lambda: offers("eth0", 0.5))
    assert boots.boots
    with dhcp(net[1], tmp_path, *PROXIES):
        (proxy,) = net[0].inside(lambda: offers("eth0", 0.5))
    assert (int(proxy.address), proxy.boots) == (0, True)


def test_a_wire_without_other_servers_is_quiet(net: list[Place]) -> None:
    assert net[0].inside(lambda: offers("eth0", 0.5)) == []
    assert told(net[0], site(SERVER), lambda _: False, 1.0) == []


def test_a_router_is_fine_beside_a_proxy_and_a_rival_of_a_server(net: list[Place], tmp_path: Path) -> None:
    with dhcp(net[1], tmp_path):
        assert told(net[0], site(PROXY), bool, 1.0) == []
        (said,) = told(net[0], site(SERVER), bool)
    assert said.startswith("10.77.0.250 gives addresses, too (it offered 10.77.0.1")


def test_a_server_that_tells_what_to_boot_is_a_rival_of_a_proxy(net: list[Place], tmp_path: Path) -> None:
    with dhcp(net[1], tmp_path, *ranged(*BOOTS)):
        (said,) = told(net[0], site(PROXY), bool)
    assert said.startswith("10.77.0.250 tells machines what to boot, too")


def test_this_servers_own_offers_are_no_rivals(net: list[Place], tmp_path: Path) -> None:
    mine = Site("eth0", IPv4Interface("10.77.0.250/24"), SERVER)
    with dhcp(net[1], tmp_path):
        assert told(net[0], mine, bool, 1.0) == []


def test_a_switch_with_spanning_tree_is_named_once(net: list[Place]) -> None:
    switch(net[0]).ip("link", "set", "br0", "type", "bridge", "stp_state", "1")
    (said,) = told(net[0], site(PROXY), lambda _: False, 4.5)
    assert said.startswith("the switch ")
    assert "at eth0 has spanning tree on" in said


def test_an_interface_that_goes_away_is_said_and_is_no_end(net: list[Place]) -> None:
    gone = Site("eth9", IPv4Interface("10.77.0.1/24"))
    assert told(net[0], gone, bool) == ["cannot look for trouble on eth9: No such device"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_is_said_each_time_it_comes_to_that(
    net: list[Place], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ROOM", 1 << 20)
    monkeypatch.setattr(wire, "ROOM_EVERY", 0.02)
    said: list[str] = []
    with entered(net[0].name), Watch(site(PROXY), small, said.append):
        for times in (1, 2):
            time.sleep(0.1)
            assert len(said) == times - 1
            (small / "state.img").write_bytes(bytes(7 << 19))
            deadline = time.monotonic() + 5
            while len(said) < times and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.1)
            assert len(said) == times
            assert said[-1].startswith(f"{small} has 0 MiB left: when there is nothing, nodes' writes fail")
            (small / "state.img").unlink()


def test_ports_that_are_taken_are_named_with_who_has_them(net: list[Place], tmp_path: Path) -> None:
    def listening(address: str, port: int) -> socket.socket:
        return net[0].inside(lambda: socket.create_server((address, port)))

    assert net[0].inside(lambda: host.taken(site(PROXY))) == []
    with dhcp(net[0], tmp_path), listening("10.77.0.1", 2049), listening("127.0.0.1", 10809):
        nfs, first = net[0].inside(lambda: host.taken(site(PROXY)))
    own = Path("/proc/self/comm").read_text().strip()
    assert nfs == f"port 2049 (tcp, for NFS) is taken by {own} (process {os.getpid()})"
    assert first.startswith("port 67 (udp, for DHCP) is taken by dnsmasq (process ")
