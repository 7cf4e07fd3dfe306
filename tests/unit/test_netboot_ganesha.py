"""What NFS-Ganesha is told."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from pibake.errors import PibakeError
from pibake.netboot import ganesha
from pibake.netboot.ganesha import Export
from pibake.netboot.values import Ports, Site
from pibake.serve import nfs

SITE = Site("eth0", IPv4Interface("192.168.10.2/24"), ports=Ports(nfs=12049))
RECOVERY = Path("/srv/wire/run/recovery")


def block(text: str, number: int) -> list[str]:
    lines = [
        line.strip()
        for line in text.partition(f"Export_Id = {number};")[2].partition("EXPORT")[0].splitlines()
    ]
    return [line for line in lines if line.startswith(("Path", "Pseudo", "Clients", "Access_Type"))]


def test_golden_images_are_for_the_subnet_to_read_and_a_folder_for_one_node_to_write() -> None:
    images = Export(1, Path("/srv/wire/golden"), ganesha.GOLDEN, SITE.address.network)
    own = Export(
        7, Path("/srv/wire/nodes/node1"), ganesha.own("node1"), IPv4Address("192.168.10.11"), writable=True
    )
    text = ganesha.render(SITE, [images, own], RECOVERY)
    assert block(text, 1) == [
        'Path = "/srv/wire/golden";',
        "Pseudo = /golden;",
        "Access_Type = None;",
        "Clients = 192.168.10.0/24;",
        "Access_Type = RO;",
    ]
    assert block(text, 7) == [
        'Path = "/srv/wire/nodes/node1";',
        "Pseudo = /nodes/node1;",
        "Access_Type = None;",
        "Clients = 192.168.10.11;",
        "Access_Type = RW;",
    ]


def test_one_port_at_one_address_and_nothing_beside_version_4() -> None:
    text = ganesha.render(SITE, [], RECOVERY)
    for line in ("NFS_Port = 12049;", "Bind_addr = 192.168.10.2;", "Protocols = 4;", "Enable_NLM = false;",
                 "Enable_RQUOTA = false;", "Enable_UDP = false;", 'RecoveryRoot = "/srv/wire/run/recovery";'):  # fmt: skip
        assert line in text


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_path_that_ganesha_cannot_be_told_is_refused(name: str) -> None:
    own = Export(1, Path("/srv") / name, ganesha.own("node1"), IPv4Address("192.168.10.11"))
    with pytest.raises(ValueError, match="srv"):
        ganesha.render(SITE, [own], RECOVERY)


def test_the_number_of_an_export_is_never_given_to_another(tmp_path: Path) -> None:
    file = tmp_path / "exports.json"
    assert nfs.numbers(file, ["/nodes/b", "/nodes/a"]) == {"/nodes/a": 1, "/nodes/b": 2}
    assert nfs.numbers(file, ["/nodes/c"])["/nodes/c"] == 3
    assert nfs.numbers(file, ["/nodes/a", "/nodes/d"]) == {
        "/nodes/a": 1,
        "/nodes/b": 2,
        "/nodes/c": 3,
        "/nodes/d": 4,
    }


def test_all_numbers_given_away_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "exports.json"
    file.write_text('{"/nodes/a": 65535}')
    with pytest.raises(PibakeError, match="65535"):
        nfs.numbers(file, ["/nodes/b"])
