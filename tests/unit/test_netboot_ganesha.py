"""What NFS-Ganesha is told."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from pibake.errors import PibakeError
from pibake.netboot import ganesha
from pibake.netboot.values import Ports, Site
from pibake.serve import nfs

SITE = Site("eth0", IPv4Interface("192.168.10.2/24"), ports=Ports(nfs=12049))
RECOVERY = Path("/srv/wire/run/recovery")


def block(text: str, number: int) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index(f"Export_Id = {number};") - 1
    return lines[start : lines.index("EXPORT {", start + 1) if "EXPORT {" in lines[start + 1 :] else None]


def test_a_golden_image_is_for_the_subnet_to_read_and_a_folder_for_one_node_to_write() -> None:
    golden = ganesha.golden(1, Path("/srv/wire/golden/0a"), "0123456789abcdef" * 4, SITE.address.network)
    own = ganesha.own(7, Path("/srv/wire/nodes/node1"), "node1", IPv4Address("192.168.10.11"))
    text = ganesha.render(SITE, [golden, own], RECOVERY)
    first, second = block(text, 1), block(text, 7)
    assert 'Pseudo = "/golden/0123456789abcdef";' in first
    assert "Clients = 192.168.10.0/24;" in first
    assert "fsid_type = Device;" in first
    assert [line for line in first if line.startswith("Access_Type")] == [
        "Access_Type = None;",
        "Access_Type = RO;",
    ]
    assert 'Pseudo = "/nodes/node1";' in second
    assert "Clients = 192.168.10.11;" in second
    assert "fsid_type = Device;" not in second
    assert [line for line in second if line.startswith("Access_Type")] == [
        "Access_Type = None;",
        "Access_Type = RW;",
    ]


def test_one_port_at_one_address_and_nothing_beside_version_4() -> None:
    text = ganesha.render(SITE, [], RECOVERY)
    for line in ("NFS_Port = 12049;", "Bind_addr = 192.168.10.2;", "Protocols = 4;", "Enable_NLM = false;",
                 "Enable_RQUOTA = false;", "Enable_UDP = false;", 'RecoveryRoot = "/srv/wire/run/recovery";'):  # fmt: skip
        assert line in text


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_path_that_ganesha_cannot_be_told_is_refused(name: str) -> None:
    own = ganesha.own(1, Path("/srv") / name, "node1", IPv4Address("192.168.10.11"))
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
