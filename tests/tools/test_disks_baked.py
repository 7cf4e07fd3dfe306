"""What a golden image of nodes with data disks holds, and what of it would be hidden."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.seeding import DEBIAN
from tests.tools import layouts
from tests.tools.test_overlays import Site, listed, read

from pibake import recipe, resources
from pibake.apt import Wanted
from pibake.errors import ConfigError, PibakeError
from pibake.plan import Disk

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.plan import NodePlan

UNITS = "etc/systemd/system"
LONGHORN = Disk("/dev/sda", "/var/lib/longhorn", "ext4", "longhorn", "lab/node3/longhorn")
DISKS = "  disks: [{device: /dev/sda, mount: /var/lib/longhorn}]\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    image = layouts.make("debian-13", tmp_path / "small.img", root={"usr/sbin/sfdisk": "sfdisk"}, size=40)
    return Site(tmp_path, image)


def test_the_unit_that_makes_disks_is_baked_in_and_kubernetes_waits_for_it(site: Site) -> None:
    site.write(extra=DISKS)
    on = site.grounds()["node3"]
    found = listed(on, f"/{UNITS}/multi-user.target.wants")
    assert {"pibake-disks.service", "pibake-join.service"} <= found.keys()
    assert listed(on, "/usr/local/lib/pibake")["disks"] == "100755 0:0"
    for unit in ("k3s", "k3s-agent", "kubelet"):
        dropin = read(on, f"{UNITS}/{unit}.service.d/pibake-disks.conf")
        assert dropin
        assert b"Requires=pibake-disks.service\nAfter=pibake-disks.service\n" in dropin


def test_nodes_without_disks_have_none_of_it(site: Site) -> None:
    site.write(extra="  packages: []\n")
    assert read(site.grounds()["node3"], f"{UNITS}/pibake-disks.service") is None


def test_systemd_takes_the_units_as_they_are_meant(tmp_path: Path) -> None:
    """The order at boot has no loop, and a unit of Kubernetes that is started has the disks started first."""
    units = tmp_path / UNITS
    units.mkdir(parents=True)
    for overlay in ("disks", "node", "k3s"):
        for path in resources.path("overlays", overlay, UNITS).rglob("*"):
            if path.is_file():
                target = units / path.relative_to(resources.path("overlays", overlay, UNITS))
                target.parent.mkdir(exist_ok=True)
                text = (
                    path.read_text()
                    .replace("/usr/local/lib/pibake/", "/bin/true #")
                    .replace("/usr/local/bin/k3s", "/bin/true")
                )
                target.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", units / "pibake-disks.service", units / "k3s.service"],
        capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "pibake" not in done.stderr, done.stderr
    assert "k3s" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "name", ["overlays/web/var/lib/longhorn/data", "overlays/web/var/lib/longhorn/data.j2"]
)
def test_files_that_a_disk_would_hide_are_refused(name: str, site: Site) -> None:
    site.put(name, "x")
    site.write(extra=f"{DISKS}  overlays: [web]\n")
    with pytest.raises(
        ConfigError, match=r"would be hidden on the node.*\n.*a data disk of the node is mounted there"
    ):
        site.grounds()


def test_what_a_hook_puts_where_a_disk_would_hide_it_is_refused(site: Site) -> None:
    site.put(
        "hooks/images",
        '#!/bin/sh\nmkdir -p "$PIBAKE_ROOT/var/lib/longhorn" && echo x > "$PIBAKE_ROOT/var/lib/longhorn/image"\n',
        mode=0o755,
    )
    site.write(extra=f"{DISKS}  hooks: [images]\n")
    with pytest.raises(PibakeError, match="the hook's /var/lib/longhorn/image would be hidden"):
        site.grounds()


def test_nodes_whose_disks_are_mounted_elsewhere_share_one_image(site: Site) -> None:
    site.write(extra=DISKS)
    one = site.grounds()["node3"]
    site.write(extra=DISKS.replace("/var/lib/longhorn", "/srv/data"))
    assert site.grounds()["node3"].base.sha256 == one.base.sha256


def test_a_base_without_a_partitioner_gets_one(tmp_path: Path, plain_node: NodePlan) -> None:
    node = replace(plain_node, disks=(LONGHORN,))
    wanted = recipe.of(node, DEBIAN)
    with_it = layouts.make("debian-13", tmp_path / "with.img", root={"usr/sbin/sfdisk": "x"}, size=40)
    without = layouts.make("debian-13", tmp_path / "without.img", root={"usr/sbin/sfdisk": None}, size=40)
    assert recipe.wanted(wanted, with_it) == Wanted()
    assert recipe.wanted(wanted, without) == Wanted(("fdisk",))
    assert recipe.wanted(recipe.of(plain_node, DEBIAN), without) == Wanted()
