"""A node answers to its name by multicast: avahi itself, with what is written for it, in a namespace with two ports."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.net.lab import COUNT, ended, made_namespace
from tests.tools.multicast import heard
from tests.tools.netns import ip, needs_namespaces
from tests.tools.nodes import heading

from pibake.network import mdns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.plan import NodePlan

pytestmark = needs_namespaces
WANTED = ("avahi-daemon", "libavahi-core7", "libavahi-common3", "libdaemon0")
START = """
mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/group" /etc/group; mount -t tmpfs none /run
shift; exec "$@"
"""
"""avahi wants a user of its own, which its package makes; `ip netns exec` has made a mount namespace already."""
ALONE = "[server]\ndisallow-other-stacks=no\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """avahi, unpacked and not installed."""
    folder = tmp_path_factory.mktemp("avahi")
    subprocess.run(["apt-get", "download", *WANTED], cwd=folder, capture_output=True, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder


@pytest.fixture
def networks(plain_node: NodePlan, daemon: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The head with avahi on it, and the names of the namespaces inside and outside."""
    node = replace(heading(plain_node), mdns=True)
    with ExitStack() as stack:
        head, inner, outer = names = [f"pb{os.getpid()}-{next(COUNT)}-{what}" for what in ("h", "i", "o")]
        for name in names:
            made_namespace(name, stack)
        for port, other, address in (("eth0", inner, "10.0.0.1/24"), ("eth1", outer, "203.0.113.5/24")):
            ip("-n", other, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", head)
            ip("-n", head, "address", "add", address, "dev", port)
            ip("-n", head, "link", "set", port, "up")
            ip("-n", other, "address", "add", address.replace("1/", "9/").replace("5/", "9/"), "dev", "eth0")
            ip("-n", other, "link", "set", "eth0", "up")
        config = tmp_path / "avahi.conf"
        written = mdns.files(node)[mdns.CONFIG].data.decode()
        config.write_text(written.replace("[server]\n", f"{ALONE}"))
        libraries = ":".join(str(path) for path in daemon.glob("usr/lib/*-linux-gnu"))
        for name, line in (("passwd", "avahi:x:64001:64001::/:/bin/false"), ("group", "avahi:x:64001:")):
            (tmp_path / name).write_text(
                f"root:x:0:{'0::/root:/bin/sh' if name == 'passwd' else ''}\n{line}\n"
            )
        argv = ["ip", "netns", "exec", head, "sh", "-euc", START, "sh", str(tmp_path)]
        argv += [str(daemon / "usr/sbin/avahi-daemon"), "--no-drop-root", "--no-chroot", "-f", str(config)]
        log = tmp_path / "avahi.log"
        with log.open("wb") as file:
            child = subprocess.Popen(
                argv, stdout=file, stderr=file, env={**os.environ, "LD_LIBRARY_PATH": libraries}
            )
        stack.callback(ended, child)
        until = time.monotonic() + 20
        while "Server startup complete" not in log.read_text():
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        assert "node3.local" in log.read_text()
        yield inner, outer


def test_the_head_answers_to_its_name_inside_and_not_outside(networks: tuple[str, str]) -> None:
    inner, outer = networks
    assert heard(inner, "node3.local", "10.0.0.9") == "10.0.0.1"
    assert heard(outer, "node3.local", "203.0.113.9") == ""
    assert heard(inner, "node4.local", "10.0.0.9") == ""
