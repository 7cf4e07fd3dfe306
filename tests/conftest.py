"""What all tests share: the guards of the unit tests, one real base image, one real cluster."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from pibake.plan import BaseRef, Host, Link, NodePlan, SshKey, User

UNIT = Path(__file__).parent / "unit"


class GuardError(BaseException):
    """Raised where a unit test reaches outside; no `except Exception` swallows it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write what is rendered as the new expectation"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the real base, so that `-m "not base"` leaves it out."""
    for item in items:
        if "debian_13" in getattr(item, "fixturenames", ()):
            item.add_marker("base")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def _guards(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the environment out of every test, and processes and sockets out of the unit tests."""
    for name in list(os.environ):
        if name.startswith("PIBAKE_") or name == "SOURCE_DATE_EPOCH":
            monkeypatch.delenv(name)
    if UNIT not in request.path.parents:
        return
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def refuse(*arguments: object, **_: object) -> NoReturn:
        raise GuardError(f"a unit test reached outside: {arguments[:2]}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def debian_13() -> Path:
    """A real Debian 13 base from the person's own cache, assembled if it is not there yet (minutes)."""
    from pibake import bases
    from pibake.cache import Cache
    from pibake.plan import BaseRef
    from pibake.progress import Plain

    return bases.obtain(BaseRef(name="debian-13"), Cache(), Plain()).image


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image in the layout of Ubuntu's for the Pi, small, with some data that does not compress."""
    from tests.tools import layouts

    path = tmp_path_factory.mktemp("base") / "small.img"
    return layouts.make("ubuntu-24.04", path, root={"data": os.urandom(8 << 20)}, size=40)


def tool(*argv: str | Path, stdin: str = "") -> str:
    """Run a tool the tests make their images with."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    done = subprocess.run(
        [str(a) for a in argv],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    )
    return done.stdout


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"


@pytest.fixture
def plain_node() -> NodePlan:
    """A node with a bit of everything, and no special case."""
    return NodePlan(
        hostname="node3",
        fqdn="node3.lab.example",
        link=Link(
            address=ipaddress.ip_interface("192.168.10.13/24"),
            gateway=ipaddress.ip_address("192.168.10.1"),
            nameservers=("192.168.10.1", "1.1.1.1"),
            search=("lab.example",),
            vlan=None,
            mac="",
        ),
        role="agent",
        labels={"disk": "ssd"},
        board="pi4",
        serial="",
        base=BaseRef(name="debian-13"),
        overlays=(),
        users=(
            User("ops", (SshKey(KEY, "", "here"),), "", sudo=True, groups=("adm",), shell="/bin/bash"),
            User("bob", (), "$6$salt$hash", sudo=False, groups=(), shell="/bin/sh"),
        ),
        locale="C.UTF-8",
        timezone="Europe/Berlin",
        hosts=(
            Host("192.168.10.13", "node3.lab.example", "node3"),
            Host("192.168.10.14", "node4.lab.example", "node4"),
        ),
    )
