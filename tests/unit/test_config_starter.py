"""The starter file: what it suggests, and that it loads as it is."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest

from pibake import config
from pibake.config import starter
from pibake.config.problems import Bad
from pibake.plan import plan

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"
ROUTES = [
    {"dst": "default", "gateway": "10.1.2.1", "dev": "eth0"},
    {"dst": "172.17.0.0/16", "dev": "docker0", "prefsrc": "172.17.0.1"},
    {"dst": "10.1.2.0/24", "dev": "eth0", "prefsrc": "10.1.2.12"},
]


def test_the_network_of_the_default_route_is_suggested() -> None:
    found = starter.lan(json.dumps(ROUTES))
    assert found.subnet == IPv4Network("10.1.2.0/24")
    assert found.gateway == IPv4Address("10.1.2.1")


def test_nodes_get_addresses_that_neither_this_host_nor_the_router_has() -> None:
    addresses = starter.lan(json.dumps(ROUTES)).addresses()
    assert [str(next(addresses)) for _ in range(3)] == ["10.1.2.11", "10.1.2.13", "10.1.2.14"]


@pytest.mark.parametrize(
    "routes",
    [
        "", "[]", "nonsense", "{}", '["x"]',
        json.dumps(ROUTES[1:]),
        json.dumps(ROUTES[:2]),
        json.dumps([ROUTES[0], {"dst": "10.1.2.0/31", "dev": "eth0"}]),
        json.dumps([ROUTES[0], {"dst": "192.0.2.0/24", "dev": "eth0"}]),
    ],
)  # fmt: skip
def test_without_a_usable_default_route_an_example_is_taken(routes: str) -> None:
    assert starter.lan(routes) == starter.Lan()


def test_small_subnets_are_used_from_the_start() -> None:
    lan = starter.Lan(IPv4Network("10.0.0.0/29"), IPv4Address("10.0.0.1"))
    assert [str(address) for address in lan.addresses()] == [f"10.0.0.{i}" for i in range(2, 7)]
    with pytest.raises(Bad, match=r"10\.0\.0\.0/29 has room for 5 nodes, not 6"):
        starter.text(lan, count=6, key=KEY)


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("key", [f"{KEY} me", {"file": "k.pub"}, {"url": "https://github.com/me.keys"}])
def test_the_starter_loads_as_it_is(tmp_path: Path, count: int, key: str | dict[str, str]) -> None:
    (tmp_path / "k.pub").write_text(f"{KEY} me\n")
    path = tmp_path / "cluster.yaml"
    path.write_text(starter.text(starter.Lan(), count=count, key=key))
    nodes = plan(config.load(path, bases=("debian-13",))).nodes
    assert [node.hostname for node in nodes] == [f"node{i}" for i in range(1, count + 1)]
    assert [node.role for node in nodes].count("server") == 1


def test_the_starter_with_every_comment_opened_loads_too(tmp_path: Path) -> None:
    (tmp_path / "overlays/motd").mkdir(parents=True)
    lines = starter.text(starter.Lan(), count=3, key=KEY).splitlines()
    opened = [
        line.replace("# ", "", 1) if ":" in line and line.lstrip().startswith("# ") and number > 3 else line
        for number, line in enumerate(lines)
        if "AAAA... me" not in line
    ]
    path = tmp_path / "cluster.yaml"
    text = "\n".join(opened).replace('"$6$..."', '"$6$salt$' + "a" * 86 + '"')
    path.write_text(text)
    assert plan(config.load(path, bases=("debian-13",))).nodes[0].serial == "abcd1234"


def test_the_best_usable_key_is_taken(tmp_path: Path) -> None:
    assert starter.public_key(tmp_path / "none") is None
    for name, text in {
        "a.pub": f"{KEY} a\n",
        "id_ed25519.pub": "not a key\n",
        "id_rsa.pub": f"{KEY} rsa\n",
        "z.pub": f"{KEY} z\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert starter.public_key(tmp_path) == tmp_path / "id_rsa.pub"
    (tmp_path / "id_rsa.pub").unlink()
    assert starter.public_key(tmp_path) == tmp_path / "a.pub"
