"""The whole build on an image in the layout of every vendor: is the seed where that system looks, and nowhere else?"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.conftest import KEY
from tests.tools import layouts

from pibake import bases, build, catalog, config, plan
from pibake.cache import Cache
from pibake.cli.system import FOUND
from pibake.errors import PibakeError
from pibake.image import fat, table
from pibake.image.ext4_tree import Files
from pibake.image.inspect import inspect
from pibake.progress import Silent
from pibake.seed import CGROUP_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.system import System

PAGE = Path(__file__).parents[2] / "docs/bases.md"
NETPLAN, MANAGER = "network-config", "etc/NetworkManager/system-connections/"
EXPECTED = {
    "ubuntu-18.04-pi3": ("cloud-init", NETPLAN),
    "ubuntu-18.04-pi4": ("cloud-init", NETPLAN),
    "ubuntu-20.04": ("cloud-init", NETPLAN),
    "ubuntu-22.04": ("cloud-init", NETPLAN),
    "ubuntu-24.04": ("cloud-init", NETPLAN),
    "ubuntu-26.04": ("cloud-init", NETPLAN),
    "raspios-bookworm": ("files", MANAGER),
    "raspios-trixie": ("cloud-init", NETPLAN),
    "hypriotos-rpi64": ("cloud-init", "etc/network/interfaces.d/"),
    "hypriotos-1.12": ("cloud-init", NETPLAN),
    "debian-raspi-12": ("files", "etc/network/interfaces.d/"),
    "centos-7": ("files", "etc/sysconfig/network-scripts/ifcfg-"),
    "debian-11": ("cloud-init", NETPLAN),
    "debian-12": ("cloud-init", NETPLAN),
    "debian-13": ("cloud-init", NETPLAN),
}
"""Layout -> what configures the node, and where its network stands: on the boot partition, or among the files laid in place."""
LINK = "etc/systemd/system/sysinit.target.wants/pibake-seed.service"


@dataclass
class Made:
    """What one build made."""

    manifest: dict[str, Any]
    system: System
    boot: dict[str, bytes]
    root: Files

    def laid(self, name: str = "pibake-seed.tar") -> dict[str, tarfile.TarInfo]:
        if name not in self.boot:
            return {}
        with tarfile.open(fileobj=io.BytesIO(self.boot[name])) as archive:
            return {entry.name: entry for entry in archive}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    cache = Cache(tmp_path_factory.mktemp("cache"))

    def made(name: str, node: str = "", **changes: Any) -> Made:
        folder = tmp_path_factory.mktemp(name)
        # the size of the boot partition is the one thing that matters to nothing here but time
        image = layouts.make(name, folder / f"{name}.img", size=40, **changes)
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        path = folder / "cluster.yaml"
        path.write_text(
            "cluster: lab\nnetwork:\n  subnet: 192.168.10.0/24\n  gateway: 192.168.10.1\n"
            f"  wifi: {{ssid: lab, psk: {'ab' * 32}, country: DE}}\n"
            f"defaults: {{base: {{file: {image.name}, sha256: {digest}}}}}\n"
            f"users: [{{name: ops, ssh_keys: ['{KEY}']}}]\n"
            f"nodes:\n  - {{hostname: n1, address: 192.168.10.11{node}}}\n"
        )
        decided = plan.plan(config.load(path, bases=()))
        (built,) = build.build(decided, decided.nodes, out=folder / "out", cache=cache, progress=Silent())
        partitions = table.read(built.image).partitions
        names = [
            n for n in fat.listing(built.image, partitions[0].start, deep=True) if not n.endswith(".dtb")
        ]
        found = dict(fat.contents(built.image, partitions[0].start, names))
        base = bases.obtain(decided.nodes[0].base, cache, Silent())
        return Made(
            json.loads(built.manifest.read_text()),
            bases.system(base, cache),
            found,
            Files(built.image, max(part.start for part in partitions)),
        )

    return made


def test_every_layout_is_expected_to_come_to_something() -> None:
    assert set(EXPECTED) == set(layouts.NAMES)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_seed_is_where_the_system_looks(name: str, make: Callable[..., Made]) -> None:
    vehicle, network = EXPECTED[name]
    made = make(name)
    assert made.manifest["vehicle"] == vehicle
    for path in made.system.cmdlines:
        text = made.boot[path].decode()
        words = text.split()
        assert text.count("\n") == 1
        assert [words.count(flag) for flag in CGROUP_FLAGS] == [1, 1, 1], path
        assert any(word.startswith("root=") for word in words), "what the base needs is kept"
    laid = made.laid()
    seeded = {*made.system.cloud_init.files, "user-data", "meta-data"} if made.system.cloud_init else set()
    if network == NETPLAN:
        assert laid == {}
        assert "network-config" in seeded
        assert not made.root.find(LINK, follow=False)[1]
        assert b"192.168.10.11" in made.boot["network-config"]
    else:
        assert any(path.startswith(network) for path in laid), sorted(laid)
        assert made.root.find(LINK, follow=False)[1], "the unit that lays the files is enabled"
        assert made.root.read("etc/machine-id") == b""
        assert "etc/pibake/seed-id" in laid
        seeded -= {"network-config"}
    assert ("user-data" in made.boot) == (vehicle == "cloud-init")
    if vehicle == "cloud-init":
        data = yaml.safe_load(made.boot["user-data"])
        assert data["hostname"] == "n1"
        assert made.manifest["instance_id"].encode() in made.boot["meta-data"]
    else:
        assert "etc/pibake/accounts" in laid
    assert seeded <= set(made.boot)


def test_python_less_systems_get_the_shell_program(make: Callable[..., Made]) -> None:
    program = make("centos-7").root.read("usr/local/lib/pibake/join") or b""
    assert program.startswith(b"#!/bin/sh")
    program = make("raspios-bookworm").root.read("usr/local/lib/pibake/join") or b""
    assert program.startswith(b"#!/usr/bin/python3")


def test_units_that_ask_questions_are_masked(make: Callable[..., Made]) -> None:
    made = make("raspios-bookworm")
    assert made.system.wizard
    for unit in (*made.system.wizard, "regenerate_ssh_host_keys.service"):
        made.root.find(f"etc/systemd/system/{unit}")
        assert made.root.targets[f"etc/systemd/system/{unit}"] == "/dev/null"


@pytest.mark.parametrize("name", ["ubuntu-24.04", "debian-13", "raspios-trixie"])
def test_a_wi_fi_key_is_in_the_archive_of_secrets_only(name: str, make: Callable[..., Made]) -> None:
    made = make(name, ", link: wifi")
    assert [path for path, data in made.boot.items() if b"ab" * 32 in data] == ["pibake-secrets.tar"]


def test_a_board_that_the_image_has_no_firmware_for_is_refused(make: Callable[..., Made]) -> None:
    with pytest.raises(PibakeError, match="n1 is a pi5, and the boot partition of"):
        make("hypriotos-rpi64", ", board: pi5")


LAYOUT = {
    "debian-13": "debian-13",
    "debian-12": "debian-12",
    "debian-11": "debian-11",
    "ubuntu-26.04": "ubuntu-26.04",
    "ubuntu-24.04": "ubuntu-24.04",
    "ubuntu-22.04": "ubuntu-22.04",
    "ubuntu-20.04": "ubuntu-20.04",
    "ubuntu-18.04-raspi4": "ubuntu-18.04-pi4",
    "ubuntu-18.04-raspi3": "ubuntu-18.04-pi3",
    "raspios-trixie-lite": "raspios-trixie",
    "raspios-bookworm-lite": "raspios-bookworm",
    "debian-12-raspi4": "debian-raspi-12",
    "debian-12-raspi3": "debian-raspi-12",
    "hypriotos-rpi64": "hypriotos-rpi64",
    "hypriotos-1.12": "hypriotos-1.12",
    "centos-7-raspi4": "centos-7",
    "centos-7-raspi3": "centos-7",
}
"""Base of the catalogue -> the image that stands in for it."""


def layout_table(folder: Path) -> str:
    rows = [
        "| base | boot partition at | kernel command lines | first boot by | seed found | network by | root grows by |",
        "|---|---|---|---|---|---|---|",
    ]
    seen = {name: inspect(layouts.make(name, folder / f"{name}.img"), "") for name in layouts.NAMES}
    for base, name in LAYOUT.items():
        system = seen[name]
        cloud = system.cloud_init
        cells = (
            f"`{base}`",
            f"/{system.boot}",
            ", ".join(f"`{path}`" for path in system.cmdlines),
            f"cloud-init {cloud.version}" if cloud else "files",
            FOUND[cloud.found_by] if cloud else "",
            system.network if not cloud or cloud.reads_network else f"{system.network}, as files",
            system.growth,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def test_every_base_of_the_catalogue_has_an_image_that_stands_in_for_it() -> None:
    assert set(LAYOUT) == set(catalog.names())
    assert set(LAYOUT.values()) == set(layouts.NAMES)


def test_the_table_of_layouts_is_what_the_images_say(tmp_path: Path, *, update_golden: bool) -> None:
    page = PAGE.read_text("utf-8")
    table = layout_table(tmp_path)
    wanted = re.sub(
        r"(<!-- layouts -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table}\n{found[2]}",
        page,
        flags=re.DOTALL,
    )
    if update_golden:
        PAGE.write_text(wanted, "utf-8")
    assert table in PAGE.read_text("utf-8")
    assert wanted == PAGE.read_text("utf-8")
