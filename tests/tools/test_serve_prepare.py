"""What `pibake serve` gets ready, on a real base: seeds, states, disks, folders for TFTP, and what becomes of them later."""

from __future__ import annotations

import gzip
import stat
import subprocess
import threading
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING

import pytest
from tests.conftest import KEY

from pibake import config, fsys
from pibake.cache import Cache
from pibake.errors import PibakeError
from pibake.image import fat
from pibake.image.firmware import boot_files
from pibake.image.layout import boot_partition
from pibake.netboot.values import Site
from pibake.nodes import compositions
from pibake.plan import plan
from pibake.progress import Silent
from pibake.serve.folders import Folders
from pibake.serve.prepare import prepare
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.serve.prepare import Served

pytestmark = pytest.mark.base

SITE = Site("eth0", IPv4Interface("10.77.0.1/24"), dhcp="server")
FOLDER3, FOLDER4 = "dc-a6-32-01-02-03", "dc-a6-32-01-02-04"
CLUSTER = f"""\
cluster: lab
network: {{subnet: 10.77.0.0/24, gateway: 10.77.0.254}}
users: [{{name: ops, ssh_keys: ["{KEY}"]}}]
nodes:
  - {{hostname: node3, address: 10.77.0.13, mac: "dc:a6:32:01:02:03", serial: abcd1234, board: pi4}}
  - {{hostname: node4, address: 10.77.0.14, mac: "dc:a6:32:01:02:04", root: nbd}}
  - {{hostname: node5, address: 10.77.0.15}}
"""


class Lab:
    """A cluster.yaml, and what is made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "cluster.yaml"
        self.source.write_text(CLUSTER)
        self.folders = Folders(folder / "netboot")

    def prepare(self, *renew: str) -> Served:
        decided = plan(config.load(self.source, bases=("debian-13",)))
        return prepare(decided, SITE, self.folders, Cache(), Silent(), renew=renew)

    def change(self, old: str, new: str) -> None:
        text = self.source.read_text()
        assert old in text
        self.source.write_text(text.replace(old, new))

    def boot(self, hostname: str) -> Path:
        return self.folders.node(hostname) / "export/boot"


@pytest.fixture
def lab(tmp_path: Path, debian_13: Path) -> Lab:
    assert debian_13.exists()
    return Lab(tmp_path)


def test_a_board_finds_its_cards_boot_partition_with_its_own_command_line(lab: Lab, debian_13: Path) -> None:
    lab.prepare()
    folder = lab.folders.tftp / FOLDER3
    partition = boot_partition(debian_13).start
    theirs = set(fat.listing(debian_13, partition))
    assert {path.name for path in folder.iterdir()} == theirs | {FOLDER3, "abcd1234"}
    for way in (folder / "abcd1234", folder / FOLDER3, lab.folders.tftp / "abcd1234"):
        assert (way / "start4.elf").read_bytes() == (folder / "start4.elf").read_bytes()
    assert "pibake.name=node3" in (folder / "cmdline.txt").read_text()
    root = lab.folders.tftp.resolve()
    for path in folder.rglob("*"):
        assert path.resolve().is_relative_to(root)
        assert path.stat().st_mode & 0o004, "dnsmasq reads it as anybody"


def test_the_initramfs_is_the_bases_own_with_ours_behind(lab: Lab, debian_13: Path, tmp_path: Path) -> None:
    lab.prepare()
    fat.read(debian_13, boot_partition(debian_13).start, ["config.txt", "initrd.img"], tmp_path)
    name = boot_files((tmp_path / "config.txt").read_text()).initramfs
    for board, root in ((FOLDER3, "nfs"), (FOLDER4, "nbd")):
        path = lab.folders.tftp / board / name
        card, ours = (tmp_path / name).read_bytes(), path.read_bytes()
        assert ours.startswith(card)
        added = gzip.decompress(ours[len(card) :].lstrip(b"\0"))
        listed = subprocess.run(["cpio", "-t"], input=added, capture_output=True, check=True).stdout.decode()
        assert {"pibake/mount", "scripts/pibake"} <= set(listed.splitlines())
        assert ("pibake/nbd/client.py" in listed) == (root == "nbd")
        assert ("/overlay.ko" in listed) == (root == "nfs")
        assert len(ours) - len(card) < 8 << 20


def test_the_seed_is_the_cards_but_for_what_differs_on_the_wire(lab: Lab) -> None:
    lab.prepare()
    decided = plan(config.load(lab.source, bases=("debian-13",)))
    (card,) = compositions(decided, [decided.node("node3")], cache=Cache(), progress=Silent())
    names = {path for path, _ in card.seed.tree}
    assert {path.name for path in lab.boot("node3").iterdir()} == names
    differ = {path for path, file in card.seed.tree if (lab.boot("node3") / path).read_bytes() != file.data}
    assert differ <= {"user-data", "network-config", "meta-data", "pibake.json", "config.txt"}
    assert (lab.boot("node3") / "pibake-secrets.tar").stat().st_mode & 0o777 == 0o600
    assert stat.S_IMODE((lab.folders.root / "nodes").stat().st_mode) == 0o700


def test_what_a_node_took_away_stays_away_until_it_is_renewed(lab: Lab) -> None:
    lab.prepare()
    secrets = lab.boot("node3") / "pibake-secrets.tar"
    secrets.unlink()
    lab.prepare()
    assert not secrets.exists()
    lab.change("node5, address: 10.77.0.15", "node5, address: 10.77.0.16")
    lab.prepare()
    assert secrets.exists(), "another seed: /etc/hosts has changed"
    secrets.unlink()
    (lab.boot("node3").parent / "state.img").write_bytes(b"used")
    lab.prepare("node3")
    assert secrets.exists()
    assert (lab.boot("node3").parent / "state.img").stat().st_size == 16 << 30


def test_states_and_disks_look_large_and_are_small(lab: Lab) -> None:
    served = lab.prepare()
    state = lab.folders.node("node3") / "export/state.img"
    assert state.stat().st_size == 16 << 30
    assert fsys.used(state) < 8 << 20
    subprocess.run(["e2fsck", "-fn", state], check=True, capture_output=True)
    (disk,) = served.disks
    assert disk.golden.parent == lab.folders.golden
    assert disk.path.stat().st_mode & 0o777 == 0o600
    subprocess.run(["qemu-img", "check", "-q", disk.path], check=True)
    beside = [path for path in lab.folders.root.rglob("*") if "node3" in str(path) and path != state]
    assert sum(path.lstat().st_blocks * 512 for path in beside) < 1 << 20


def test_a_node_stays_on_its_golden_image_until_it_is_renewed(lab: Lab) -> None:
    first = lab.prepare()
    assert first.behind == ()
    hook = lab.folder / "hooks/mark"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nmkdir -p $PIBAKE_ROOT/etc && echo 1 > $PIBAKE_ROOT/etc/mark\n")
    hook.chmod(0o755)
    lab.change("users:", "defaults: {hooks: [mark]}\nusers:")
    second = lab.prepare()
    assert second.behind == ("node3", "node4")
    assert second.boots["node3"].tftp == first.boots["node3"].tftp
    third = lab.prepare("node3")
    assert third.behind == ("node4",)
    assert len(list(lab.folders.golden.glob("*.img"))) == 2
    fourth = lab.prepare("node4")
    assert fourth.behind == ()
    assert [path.stem for path in lab.folders.golden.glob("*.img")] == [
        fourth.boots["node4"].tftp.name.partition("-")[0]
    ]


def test_another_kind_of_root_is_a_new_beginning(lab: Lab) -> None:
    lab.prepare()
    lab.change("board: pi4}", "board: pi4, root: nbd}")
    served = lab.prepare()
    assert {disk.name for disk in served.disks} == {"node3", "node4"}
    assert "pibake.root=nbd" in (lab.folders.tftp / FOLDER3 / "cmdline.txt").read_text()


def test_no_board_ever_meets_half_a_folder(lab: Lab) -> None:
    lab.prepare()
    link = lab.folders.tftp / FOLDER3
    stop, missed = threading.Event(), list[OSError]()

    def read() -> None:
        while not stop.is_set():
            for name in ("cmdline.txt", "start4.elf"):
                try:
                    (link / name).open("rb").close()
                except OSError as error:
                    missed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    lab.change("10.77.0.13", "10.77.0.23")
    for address in ("10.77.0.24", "10.77.0.25", "10.77.0.26"):
        lab.prepare()
        previous = lab.source.read_text().split("node3, address: ")[1].split(",")[0]
        lab.change(previous, address)
    stop.set()
    reader.join()
    assert missed == []


def test_who_cannot_boot_from_the_wire_is_told_apart(lab: Lab) -> None:
    ((hostname, reason),) = lab.prepare().left_out
    assert hostname == "node5"
    assert "`mac`" in reason
    lab.source.write_text(
        CLUSTER.split("  - {hostname: node3", maxsplit=1)[0] + "  - {hostname: node5, address: 10.77.0.15}\n"
    )
    with pytest.raises(PibakeError, match="no node of lab can boot from the wire; of node5"):
        lab.prepare()


def test_updates_of_an_eeprom_are_offered_to_boards_that_have_it(lab: Lab) -> None:
    update = lab.folders.eeprom("eeprom-2711")
    Tree({"pieeprom.upd": File(b"update")}).write(update)
    lab.prepare()
    assert (lab.folders.tftp / FOLDER3 / "pieeprom.upd").read_bytes() == b"update"
    assert not (lab.folders.tftp / FOLDER4 / "pieeprom.upd").exists()
