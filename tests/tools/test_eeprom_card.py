"""`pibake eeprom-card`: what it makes of an EEPROM image, read back by mtools, fsck.vfat and `pibake flash`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests import eeproms
from tests.conftest import KEY as SSH_KEY
from tests.conftest import tool
from tests.tools import command

from pibake.identity import bootkey
from pibake.image import eeprom_card, fat
from pibake.image.layout import boot_partition
from pibake.netboot import eeprom
from pibake.vault import Vault

CLUSTER = f"""
cluster: lab
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1, dns: [192.168.10.1]}}
users: [{{name: ops, ssh_keys: ['{SSH_KEY}']}}]
nodes: [{{hostname: node3, address: 192.168.10.13/24}}]
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bootloader for each chip, as the package has them, and a cluster.yaml."""
    for chip in eeproms.LENGTHS:
        (tmp_path / chip).mkdir()
        (tmp_path / chip / "pieeprom-2026-05-17.bin").write_bytes(eeproms.image(chip))
        (tmp_path / chip / "recovery.bin").write_bytes(b"recovery" * 1000)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*arguments: str) -> Any:
    done = command.run("eeprom-card", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: str) -> str:
    done = command.run("eeprom-card", *arguments)
    assert done.returncode
    return done.stderr


@pytest.mark.parametrize("chip", ["2711", "2712"])
def test_a_card_holds_what_the_boot_rom_and_recovery_look_for(desk: Path, chip: str) -> None:
    said = made("--eeprom", f"{chip}/pieeprom-2026-05-17.bin")
    assert said["chip"] == chip
    assert said["old"]["BOOT_ORDER"] == "0xf41"
    assert said["new"] == {**said["old"], "BOOT_ORDER": "0xf21"}
    image = desk / f"eeprom-{chip}.img"
    assert said["written"] == [image.name]
    start = boot_partition(image).start
    held = fat.contents(image, start, ["recovery.bin", "pieeprom.bin", "pieeprom.sig"])
    assert held["recovery.bin"] == b"recovery" * 1000
    assert eeprom.parse(held["pieeprom.bin"], "card").config.endswith("BOOT_ORDER=0xf21\n")
    digest, time, target = held["pieeprom.sig"].decode().splitlines()
    assert digest == hashlib.sha256(held["pieeprom.bin"]).hexdigest()
    assert int(time.removeprefix("ts: ")) > 1_700_000_000
    assert target == f"target-soc: {chip}"
    volume = desk / "volume"
    volume.write_bytes(image.read_bytes()[start:])
    tool("fsck.vfat", "-n", volume)


def test_pibake_flash_takes_the_card(desk: Path) -> None:
    made("--eeprom", "2711/pieeprom-2026-05-17.bin", "-o", "card.img")
    done = command.run("flash", "card.img", "flashed.img", "--yes")
    assert done.returncode == 0, done.stderr
    names = fat.listing(desk / "flashed.img", boot_partition(desk / "flashed.img").start)
    assert sorted(names) == ["pieeprom.bin", "pieeprom.sig", "recovery.bin"]


def test_http_boot_puts_the_clusters_key_beside_the_address(desk: Path) -> None:
    said = made("--eeprom", "2711/pieeprom-2026-05-17.bin", "--http", "http://192.168.10.2:8069/pi")
    assert (
        said["new"]
        | {
            "BOOT_ORDER": "0xf271",
            "HTTP_HOST": "192.168.10.2",
            "HTTP_PORT": "8069",
            "HTTP_PATH": "pi",
        }
        == said["new"]
    )
    image = desk / "eeprom-2711.img"
    secrets = Vault(desk / "secrets").existing()
    assert secrets.boot_key is not None
    public = bootkey.public(secrets.boot_key)
    (data,) = fat.contents(image, boot_partition(image).start, ["pieeprom.bin"]).values()
    assert public in data
    assert secrets.boot_key.reveal().splitlines()[1].encode() not in image.read_bytes()
    made("--eeprom", "2711/pieeprom-2026-05-17.bin", "--http", "http://192.168.10.2:8069/pi")
    assert Vault(desk / "secrets").existing() == secrets


def test_boards_update_themselves_from_two_files(desk: Path) -> None:
    (desk / "board").mkdir()
    said = made("--eeprom", "2712/pieeprom-2026-05-17.bin", "--set", "TFTP_PREFIX=2", "--tftp", "board")
    assert said["written"] == ["board/pieeprom.upd", "board/pieeprom.sig"]
    found = eeprom.parse((desk / "board/pieeprom.upd").read_bytes(), "board")
    assert "TFTP_PREFIX=2\n" in found.config
    assert (
        (desk / "board/pieeprom.sig")
        .read_text()
        .startswith(tool("sha256sum", "board/pieeprom.upd").split()[0])
    )
    assert not list(desk.glob("*.img"))


def test_a_table_shows_what_was_and_what_is(desk: Path) -> None:
    done = command.run("eeprom-card", "--eeprom", "2711/pieeprom-2026-05-17.bin", cwd=desk)
    assert "BCM2711, built 2026-05-17" in done.stdout
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("BOOT_ORDER")]
    assert row == ["BOOT_ORDER", "0xf41", "0xf21"]
    assert "boots from: card, network, again" in done.stdout


def test_the_newest_bootloader_of_the_package_is_taken(desk: Path) -> None:
    place = desk / "bootloader-2711/default"
    place.mkdir(parents=True)
    for date in ("2024-01-01", "2026-05-17"):
        (place / f"pieeprom-{date}.bin").write_bytes(eeproms.image())
    found = eeprom_card.installed("2711", (desk,))
    assert found.image.source == "pieeprom-2026-05-17.bin"
    assert found.recovery is None


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--eeprom", "none.bin"], "there is no file none.bin"),
        (["--eeprom", "2711/recovery.bin"], "it has 8000 bytes, not 524288 or 2097152"),
        (["--chip", "2711"], "no bootloader for the BCM2711 is installed here"),
        ([], "name the bootloader with --eeprom"),
        (["--eeprom", "2711/pieeprom-2026-05-17.bin", "--order", "0xf8"], "is no boot order"),
        (["--eeprom", "2711/pieeprom-2026-05-17.bin", "--http", "https://x/y"], "is no address"),
        (["--eeprom", "2711/pieeprom-2026-05-17.bin", "--set", "A"], "write it like TFTP_PREFIX=2"),
        (["--eeprom", "2711/pieeprom-2026-05-17.bin", "--set", "X=" + "x" * 4076], "there is room for 4076"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(arguments: list[str], why: str) -> None:
    assert why in refused(*arguments)
    assert not list(Path().glob("*.img"))


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("image", "arguments", "why"),
    [
        (eeproms.image(built=1_600_000_000), ["--http", "http://h/pi"], "was built before"),
        (eeproms.image(config=b"[all]\nSIGNED_BOOT=1\n"), [], "is signed for secure boot"),
        (eeproms.image()[:0x21000] + b"damaged!" + eeproms.image()[0x21008:], [], "is damaged: at byte 135168"),
        (eeproms.image(), [], "there is no recovery.bin beside"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_used_is_refused(image: bytes, arguments: list[str], why: str) -> None:
    Path("other.bin").write_bytes(image)
    assert why in refused("--eeprom", "other.bin", *arguments)
    assert not list(Path().glob("*.img"))
