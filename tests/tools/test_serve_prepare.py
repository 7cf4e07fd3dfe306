"""What `pibake serve` gets ready before anything listens: golden images, boards' folders, nodes' own files."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools import layouts, wired
from tests.tools.images import MIB, tool

from pibake import config, plan
from pibake.cache import Cache
from pibake.errors import PibakeError
from pibake.fsys import delete, used
from pibake.image import fat
from pibake.netboot import initramfs
from pibake.netboot.values import Site
from pibake.nodes import compositions
from pibake.progress import Plain, Silent
from pibake.rack.adopted import HAND, Adopted
from pibake.seed import Seed
from pibake.seed.archive import tar
from pibake.serve import golden, node, prepare, secrets
from pibake.serve.folders import Folders
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import Plan
    from pibake.serve.prepare import Served

SITE = Site("eth0", IPv4Interface("10.77.0.1/24"))
NODE3 = '{hostname: node3, address: 10.77.0.13, mac: "dc:a6:32:01:02:03", serial: abcd1234, board: pi4}'
NODE4 = '{hostname: node4, address: 10.77.0.14, mac: "dc:a6:32:01:02:04", board: pi4, root: nbd}'
NODE5 = "{hostname: node5, address: 10.77.0.15, serial: 00123456, board: pi3}"
CARD = "{hostname: card, address: 10.77.0.16, board: zero2w}"
FREE = "{hostname: free, address: 10.77.0.17, board: pi5}"


@dataclass
class Bench:
    """A cluster.yaml on a small base, and what is got ready for it."""

    folder: Path
    base: Path
    digest: str
    cache: Cache
    said: list[str] = field(default_factory=list)

    @property
    def folders(self) -> Folders:
        return Folders(self.folder / "netboot")

    def write(self, *nodes: str, more: str = "") -> Plan:
        lines = "".join(f"  - {line}\n" for line in nodes)
        path = self.folder / "cluster.yaml"
        path.write_text(wired.cluster(self.base, self.digest, lines, more))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        return plan.plan(config.load(path, bases=[]))

    def prepare(self, *nodes: str, more: str = "", renew: tuple[str, ...] = ()) -> Served:
        written = self.write(*nodes, more=more)
        return prepare.prepare(written, SITE, self.folders, self.cache, Silent(), renew=renew)

    def boot(self, name: str) -> Path:
        return self.folders.node(name) / "export/boot"

    def other_base(self) -> None:
        """Lead cluster.yaml to another image."""
        self.base, self.digest = wired.base(self.folder / "other.img", root={"etc/motd": "another\n"})


@dataclass(frozen=True)
class Shared:
    base: Path
    digest: str
    cache: Cache


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp("wired")
    return Shared(*wired.base(folder / "base.img"), Cache(folder / "cache"))


@pytest.fixture
def bench(shared: Shared, tmp_path: Path) -> Bench:
    return Bench(tmp_path, shared.base, shared.digest, shared.cache)


@pytest.fixture(scope="module")
def ready(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Served]:
    """What is got ready once, and only looked at."""
    bench = Bench(tmp_path_factory.mktemp("ready"), shared.base, shared.digest, shared.cache)
    return bench, bench.prepare(NODE3, NODE4, NODE5, CARD)


def unpacked(data: bytes, folder: Path) -> Path:
    """Unpack an initramfs as the kernel does: one archive after the other, whatever zeros stand between them."""
    assert data.startswith(wired.INITRAMFS)
    second = data[len(wired.INITRAMFS) :].lstrip(b"\0")
    for archive in (wired.INITRAMFS, second):
        argv = ["cpio", "-idm", "--quiet", "--no-absolute-filenames"]
        subprocess.run(argv, cwd=folder, input=gzip.decompress(archive), check=True)
    return folder


def test_a_board_finds_the_files_of_the_cards_boot_partition_and_its_own(ready: tuple[Bench, Served]) -> None:
    bench, _ = ready
    folder = bench.folders.tftp / "dc-a6-32-01-02-03"
    names = {"dc-a6-32-01-02-03", "abcd1234"}
    assert {entry.name for entry in folder.iterdir()} - names == set(fat.listing(bench.base, MIB))
    assert {path.name for path in folder.iterdir() if not path.is_symlink()} == {"config.txt", "cmdline.txt"}
    for name in ("start4.elf", "bcm2711-rpi-4-b.dtb", "overlays/disable-bt.dtbo", "vmlinuz", "config.txt"):
        fat.read(bench.base, MIB, [name], bench.folder)
        assert (folder / name).read_bytes() == (bench.folder / Path(name).name).read_bytes()
    for line in (
        "root=/dev/nfs",
        "pibake.root=nfs",
        "pibake.mac=dc:a6:32:01:02:03",
        "pibake.ip=10.77.0.13/24",
    ):
        assert line in (folder / "cmdline.txt").read_text().split()


def test_links_are_relative_and_stay_in_the_tftp_folder_wherever_that_is(
    ready: tuple[Bench, Served], tmp_path: Path
) -> None:
    bench, _ = ready
    shutil.copytree(bench.folders.tftp, tmp_path / "moved", symlinks=True)
    links = [path for path in (tmp_path / "moved").rglob("*") if path.is_symlink()]
    assert len(links) > 40
    for link in links:
        assert not link.readlink().is_absolute()
        assert link.resolve(strict=True).is_relative_to(tmp_path / "moved")


def test_a_board_is_found_by_its_serial_and_its_mac_address_inside_of_its_own_folder_too(
    ready: tuple[Bench, Served],
) -> None:
    tftp = ready[0].folders.tftp
    for path in ("abcd1234", "dc-a6-32-01-02-03", "dc-a6-32-01-02-03/abcd1234", "abcd1234/dc-a6-32-01-02-03"):
        assert "pibake.name=node3" in (tftp / path / "cmdline.txt").read_text()
    # a Pi 3 has the end of its serial in its MAC address
    assert "pibake.name=node5" in (tftp / "b8-27-eb-12-34-56/00123456/cmdline.txt").read_text()


def test_every_initramfs_is_the_bases_own_with_an_archive_behind_it(
    ready: tuple[Bench, Served], tmp_path: Path
) -> None:
    bench, _ = ready
    data = (bench.folders.tftp / "dc-a6-32-01-02-03/initrd.img").read_bytes()
    out = unpacked(data, tmp_path)
    assert (out / "init").read_text() == "#!/bin/sh\n"
    assert (out / "scripts/local").read_text() == "# theirs\n"
    for path, file in initramfs.scripts():
        assert (out / path).read_bytes() == file.data
        assert (out / path).stat().st_mode & 0o777 == file.mode
    order = (out / f"pibake/modules/{wired.RELEASE}/order").read_text().split()
    assert order == ["sunrpc", "nfs", "nfsv4", "overlay"]
    assert all((out / f"pibake/modules/{wired.RELEASE}/{name}.ko").exists() for name in order)
    assert not (out / "pibake/python").exists()


def test_with_a_disk_on_the_server_the_initramfs_has_what_attaches_it(
    ready: tuple[Bench, Served], tmp_path: Path
) -> None:
    out = unpacked((ready[0].folders.tftp / "dc-a6-32-01-02-04/initrd.img").read_bytes(), tmp_path)
    assert (out / f"pibake/modules/{wired.RELEASE}/order").read_text() == "nbd\n"
    assert (out / "pibake/nbd/attach").stat().st_mode & 0o111
    assert (out / "pibake/python/bin/python").exists()


def test_the_seed_is_that_of_the_card_but_for_what_is_another_way_on_the_wire(
    ready: tuple[Bench, Served],
) -> None:
    bench, _ = ready
    written = bench.write(NODE3, NODE4, NODE5, CARD)
    (card,) = compositions(written, [written.node("node3")], cache=bench.cache, progress=Silent())
    on_card = {path: file.data.decode() for path, file in card.seed.tree if path != "pibake-secrets.tar"}
    on_wire = {path.name: path.read_text() for path in bench.boot("node3").iterdir() if path.suffix != ".tar"}
    assert set(on_wire) == set(on_card)
    assert on_card["network-config"] == on_wire["network-config"].replace(
        "    # the root file system is behind it\n    critical: true\n", ""
    )
    ours, theirs = (set(text["user-data"].splitlines()) for text in (on_wire, on_card))
    assert {line.partition(":")[0] for line in ours - theirs} <= {"growpart", "resize_rootfs", "    content"}
    secrets = bench.boot("node3") / "pibake-secrets.tar"
    assert b"$6$saltsalt$" in secrets.read_bytes()


def test_a_state_is_a_clean_ext4_that_takes_little_of_the_disk_and_needs_no_more_zeros(
    ready: tuple[Bench, Served],
) -> None:
    image = ready[0].folders.node("node3") / "export/state.img"
    assert image.stat().st_size == 16384 * MIB
    assert used(image) < 8 * MIB
    tool("e2fsck", "-fn", image)
    groups = [
        line
        for line in tool("dumpe2fs", image).decode().splitlines()
        if line.startswith("Group ") and "csum" in line
    ]
    assert len(groups) == 128
    assert all("ITABLE_ZEROED" in line for line in groups)


def test_the_size_of_a_state_is_that_of_cluster_yaml(bench: Bench) -> None:
    bench.prepare(NODE3, more="netboot: {disk: 4GiB}\n")
    assert (bench.folders.node("node3") / "export/state.img").stat().st_size == 4096 * MIB


def test_a_node_takes_less_than_a_mebibyte_beside_its_state(ready: tuple[Bench, Served]) -> None:
    bench, _ = ready
    for name in ("node3", "node4", "node5"):
        state = used(bench.folders.node(name) / "export/state.img")
        (links,) = (bench.folders.tftp / ".nodes").glob(f"{name}-*")
        assert used(bench.folders.node(name)) - state + used(links) < MIB, name


def test_a_disk_is_sound_and_lies_over_the_golden_image_that_stays(ready: tuple[Bench, Served]) -> None:
    bench, served = ready
    disk = bench.folders.node("node4") / "disk.qcow2"
    tool("qemu-img", "check", disk)
    about = json.loads(tool("qemu-img", "info", "--output=json", disk))
    assert about["virtual-size"] == 16384 * MIB
    (image,) = bench.folders.golden.glob("*.img")
    assert about["full-backing-filename"] == str(image)
    assert [(one.name, one.path, one.golden) for one in served.disks] == [("node4", disk, image)]


def test_secrets_are_closed_to_everybody_else_and_what_boards_load_is_open(
    ready: tuple[Bench, Served],
) -> None:
    bench, _ = ready

    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    root = bench.folders.root
    assert mode(root / "nodes") == 0o700
    assert mode(root / "run") == 0o700
    assert mode(bench.boot("node3") / "pibake-secrets.tar") == 0o600
    assert mode(bench.folders.node("node3") / "export/state.img") == 0o600
    assert mode(bench.folders.node("node4") / "disk.qcow2") == 0o600
    for path in (bench.folders.tftp, *bench.folders.tftp.rglob("*")):
        assert mode(path) & 0o444 == 0o444, path
        assert path.is_file() or mode(path) & 0o555 == 0o555, path


def test_nodes_that_cannot_are_left_out_with_the_reason(ready: tuple[Bench, Served]) -> None:
    _, served = ready
    assert [client.hostname for client in served.clients] == ["node3", "node4", "node5"]
    ((name, reason),) = served.left_out
    assert name == "card"
    assert "no Ethernet port" in reason


def test_where_no_node_can_the_first_says_why(bench: Bench) -> None:
    with pytest.raises(
        PibakeError, match="no node of lab can boot from the wire; of card: the Raspberry Pi Zero 2 W has no"
    ) as caught:
        bench.prepare(CARD)
    assert "docs/netboot.md" in caught.value.hint


def test_a_node_waits_for_a_board_with_its_golden_image_ready_and_its_seed_does_not_depend_on_that_board(
    bench: Bench,
) -> None:
    waiting = bench.prepare(FREE, CARD)
    assert (waiting.clients, waiting.free) == ((), ("free",))
    assert [path.suffix for path in bench.folders.golden.glob("*.img")] == [".img"]
    written = bench.write(FREE, CARD)
    seeds = []
    for mac in ("2c:cf:67:00:00:01", "2c:cf:67:00:00:02"):
        board = Adopted(mac, "0000abcd", "pi5", HAND, 1.0)
        served = prepare.prepare(
            written, SITE, bench.folders, bench.cache, Silent(), adopted={"free": board, "card": board}
        )
        assert [(client.hostname, client.mac) for client in served.clients] == [("free", mac)]
        assert (served.free, served.adopted) == ((), {"free": board})
        assert "card was adopted" in served.ignored[0]
        assert (bench.folders.tftp / mac.replace(":", "-") / "cmdline.txt").is_file()
        seeds.append(node.recorded("free", "nfs", bench.folders))
    assert seeds[0] == seeds[1]
    assert not (bench.folders.tftp / "2c-cf-67-00-00-01").exists()


def test_what_is_ready_is_left_alone(bench: Bench) -> None:
    def stamps() -> dict[Path, int]:
        return {
            path: path.lstat().st_mtime_ns
            for path in bench.folders.root.rglob("*")
            if not path.is_symlink() and path.is_file()
        }

    bench.prepare(NODE3, NODE4)
    before = stamps()
    bench.prepare(NODE3, NODE4)
    changed = {path.name for path, stamp in stamps().items() if before[path] != stamp}
    assert changed <= {"serve.holder"}


def test_secrets_that_a_node_took_away_stay_away_until_it_is_started_anew(bench: Bench) -> None:
    bench.prepare(NODE3, NODE4)
    secrets = bench.boot("node3") / "pibake-secrets.tar"
    secrets.unlink()
    state = bench.folders.node("node3") / "export/state.img"
    state.write_bytes(b"used")
    bench.prepare(NODE3, NODE4)
    assert not secrets.exists()
    assert state.read_bytes() == b"used"
    bench.prepare(NODE3, NODE4, renew=("node3.lab.example",))
    assert secrets.exists()
    assert state.stat().st_size == 16384 * MIB


def test_another_seed_comes_to_the_node_with_its_secrets_and_its_state_stays(bench: Bench) -> None:
    bench.prepare(NODE3)
    before = (bench.boot("node3") / "meta-data").read_text()
    (bench.boot("node3") / "pibake-secrets.tar").unlink()
    (bench.boot("node3") / "left").touch()
    state = bench.folders.node("node3") / "export/state.img"
    state.write_bytes(b"used")
    bench.prepare(NODE3.replace("}", ", timezone: Europe/Berlin}"))
    assert (bench.boot("node3") / "meta-data").read_text() != before
    assert (bench.boot("node3") / "pibake-secrets.tar").exists()
    assert not (bench.boot("node3") / "left").exists()
    assert state.read_bytes() == b"used"


SCRUBBED = {"stage": "scrubbed", "status": "ok", "uptime": 0.0}
"""What a node says that has just been switched on, and is through."""


def withdraw(bench: Bench, served: Served, **values: object) -> None:
    secrets.withdraw(served.boots["node3"].client, {**SCRUBBED, **values}, bench.folders)


def packed(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {member.name for member in archive if member.isfile()}


def with_hash(bench: Bench, line: str, value: str) -> Served:
    """Get ready what a node needs whose user has another hash, or none."""
    bench.write(line)
    path = bench.folder / "cluster.yaml"
    said = f", password_hash: '{value}'" if value else ""
    path.write_text(path.read_text().replace(f", password_hash: '{wired.HASH}'", said))
    decided = plan.plan(config.load(path, bases=[]))
    return prepare.prepare(decided, SITE, bench.folders, bench.cache, Silent())


def test_secrets_that_were_withdrawn_come_back_only_if_they_are_others(bench: Bench) -> None:
    archive = bench.boot("node3") / "pibake-secrets.tar"
    withdraw(bench, with_hash(bench, NODE3, ""))
    assert not archive.exists()
    for zone in ("Europe/Berlin", "Europe/Paris"):
        with_hash(bench, NODE3.replace("}", f", timezone: {zone}}}"), "")
        assert zone in (bench.boot("node3") / "user-data").read_text()
        assert not archive.exists()
    served = with_hash(bench, NODE3, wired.HASH)
    assert "etc/pibake/passwords" in packed(archive)
    withdraw(bench, served)
    assert not archive.exists()


def test_of_withdrawn_secrets_hashes_come_along_with_another_seed_as_cloud_init_locks_passwords_then(
    tmp_path: Path,
) -> None:
    names = ("etc/pibake/passwords", "etc/ssh/ssh_host_ed25519_key", "etc/pibake/kubeadm/join.yaml")
    secret = Tree({name: File(b"x", 0o600) for name in names})
    archive = Tree({"pibake-secrets.tar": File(tar(secret), 0o600), "user-data": File(b"#cloud-config\n")})
    seed = Seed(archive, "pibake-1", Tree(), secret)
    assert secrets.placed(tmp_path, seed) == archive
    record = json.loads((tmp_path / secrets.RECORD).read_text())
    (tmp_path / secrets.RECORD).write_text(json.dumps({**record, "withdrawn": True}))
    again = secrets.placed(tmp_path, seed)
    assert again["user-data"] == archive["user-data"]
    (tmp_path / "archive").write_bytes(again["pibake-secrets.tar"].data)
    assert packed(tmp_path / "archive") == set(names[:2])
    assert again["pibake-secrets.tar"].mode == 0o600


@pytest.mark.parametrize(
    "values", [{"stage": "ready"}, {"status": "wait"}, {"uptime": 3600.0}], ids=["not yet", "waits", "older"]
)
def test_secrets_stay_for_a_node_that_is_not_through_or_has_not_seen_them(
    bench: Bench, values: dict[str, object]
) -> None:
    withdraw(bench, bench.prepare(NODE3), **values)
    assert (bench.boot("node3") / "pibake-secrets.tar").exists()


def test_secrets_of_a_node_in_memory_stay_as_it_joins_anew_at_each_boot(bench: Bench) -> None:
    withdraw(bench, bench.prepare(NODE3.replace("}", ", state: ram}")))
    assert (bench.boot("node3") / "pibake-secrets.tar").exists()


@pytest.mark.parametrize("which", [NODE3, NODE4], ids=["nfs", "nbd"])
def test_a_node_stays_on_its_golden_image_until_it_is_started_anew(bench: Bench, which: str) -> None:
    name = which[11:16]
    bench.prepare(which)
    (first,) = bench.folders.golden.glob("*.img")
    cached = next((bench.cache.root / "images").rglob(f"{bench.digest}.img"))
    assert first.stat().st_ino == cached.stat().st_ino or first.read_bytes() == cached.read_bytes()
    bench.other_base()
    served = bench.prepare(which)
    assert served.behind == (name,)
    assert served.boots[name].tftp.name.startswith(first.stem)
    assert list(bench.folders.golden.glob("*.img")) == [first]
    served = bench.prepare(which, renew=(name,))
    assert served.behind == ()
    (second,) = bench.folders.golden.glob("*.img")
    assert second.stem == bench.digest[:16] != first.stem
    assert [path.name[:16] for path in (bench.folders.tftp / ".golden").iterdir()] == [second.stem]


def test_the_golden_image_below_a_node_that_is_not_served_for_a_while_is_kept(bench: Bench) -> None:
    bench.prepare(NODE3, NODE4)
    (first,) = bench.folders.golden.glob("*.img")
    bench.other_base()
    bench.prepare(NODE3, renew=("node3",))
    assert first.exists()
    served = bench.prepare(NODE3, NODE4)
    assert served.behind == ("node4",)
    tool("qemu-img", "check", bench.folders.node("node4") / "disk.qcow2")
    assert served.disks[0].golden == first


def test_a_node_may_go_from_one_kind_of_root_to_the_other_and_back_to_what_it_had(bench: Bench) -> None:
    on_nbd = NODE3.replace("}", ", root: nbd}")
    bench.prepare(NODE3)
    state = bench.folders.node("node3") / "export/state.img"
    state.write_bytes(b"used")
    served = bench.prepare(on_nbd)
    assert [one.name for one in served.disks] == ["node3"]
    assert "pibake.root=nbd" in (bench.folders.tftp / "abcd1234/cmdline.txt").read_text().split()
    disk = (bench.folders.node("node3") / "disk.qcow2").stat()
    served = bench.prepare(NODE3)
    assert served.disks == ()
    assert "pibake.root=nfs" in (bench.folders.tftp / "abcd1234/cmdline.txt").read_text().split()
    assert state.read_bytes() == b"used"
    bench.other_base()
    served = bench.prepare(on_nbd)
    assert served.behind == ("node3",)
    after = (bench.folders.node("node3") / "disk.qcow2").stat()
    assert (after.st_ino, after.st_mtime_ns) == (disk.st_ino, disk.st_mtime_ns)


def test_a_disk_that_was_removed_is_made_anew_over_the_newest_golden_image(bench: Bench) -> None:
    bench.prepare(NODE4)
    delete(bench.folders.node("node4") / "disk.qcow2")
    bench.other_base()
    served = bench.prepare(NODE4)
    assert served.behind == ()
    about = json.loads(tool("qemu-img", "info", "--output=json", bench.folders.node("node4") / "disk.qcow2"))
    assert about["full-backing-filename"].endswith(f"/netboot/golden/{bench.digest[:16]}.img")


def test_a_disk_keeps_what_it_was_made_with_and_that_is_told(bench: Bench) -> None:
    bench.prepare(NODE3, NODE4)
    manifest = bench.folders.node("node4") / "manifest.json"
    before = manifest.read_text()
    assert bench.prepare(NODE3, NODE4).outdated == ()
    changed = [line.replace("}", ", timezone: Europe/Berlin}") for line in (NODE3, NODE4)]
    assert bench.prepare(*changed).outdated == ("node4",)
    assert manifest.read_text() == before
    assert bench.prepare(*changed, renew=("node4",)).outdated == ()
    assert manifest.read_text() != before


def test_a_boards_folder_is_there_at_every_moment_while_it_changes(bench: Bench) -> None:
    served = bench.prepare(NODE3)
    written = bench.write(NODE3)
    (card,) = compositions(written, [written.node("node3")], cache=bench.cache, progress=Silent())
    image = golden.known(bench.digest[:16], "nfs", bench.folders)
    assert image
    folder, lacking, done = bench.folders.tftp / "abcd1234", list[str](), threading.Event()
    names = ("config.txt", "cmdline.txt", "abcd1234/vmlinuz", "overlays/disable-bt.dtbo")

    def look() -> None:
        while not done.is_set():
            lacking.extend(name for name in names if not (folder / name).exists())

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20, 80):
        client = replace(served.clients[0], address=IPv4Address(f"10.77.0.{number}"))
        node.offer(client, card.seed, image, SITE, bench.folders)
    done.set()
    reader.join()
    assert lacking == []
    assert "pibake.ip=10.77.0.79/24" in (folder / "cmdline.txt").read_text().split()
    assert len(list((bench.folders.tftp / ".nodes").iterdir())) <= 2


def test_who_is_to_be_started_anew_has_to_be_on_the_wire(bench: Bench) -> None:
    with pytest.raises(PibakeError, match="no node nod3") as caught:
        bench.prepare(NODE3, CARD, renew=("nod3",))
    assert "node3" in caught.value.hint
    with pytest.raises(PibakeError, match="card boots from a card only: the"):
        bench.prepare(NODE3, CARD, renew=("card",))
    with pytest.raises(PibakeError, match="free has no board") as caught:
        bench.prepare(NODE3, FREE, renew=("free",))
    assert "`pibake adopt SERIAL --as free`" in caught.value.hint


def test_a_name_that_is_no_nodes_any_more_is_taken_out_of_the_tftp_folder(bench: Bench) -> None:
    bench.prepare(NODE3, NODE4)
    (bench.folders.tftp / "shimaa64.efi").touch()
    bench.prepare(NODE3.replace("01:02:03", "01:02:99"))
    names = {"dc-a6-32-01-02-99", "abcd1234", "shimaa64.efi", ".nodes", ".golden"}
    assert {path.name for path in bench.folders.tftp.iterdir()} == names
    (folder,) = (bench.folders.tftp / ".nodes").iterdir()
    assert folder.name.startswith("node3-")
    assert bench.folders.node("node4").exists()


@pytest.mark.parametrize(
    ("layout", "changes", "why"),
    [
        ("raspios-bookworm", {}, "network-manager has not been seen to leave the network under it alone"),
        ("debian-13", {"usr/bin/python3.13": None, "usr/bin/python3": None}, "it has no Python 3"),
        (
            "debian-13",
            {f"usr/lib/modules/{wired.RELEASE}/modules.dep": "kernel/nfsv4.ko:\n"},
            f"the kernel {wired.RELEASE} has no module overlay",
        ),
    ],
)
def test_a_base_that_cannot_have_its_root_on_the_wire_is_refused_with_the_node_and_the_reason(
    bench: Bench, layout: str, changes: dict[str, layouts.Content | None], why: str
) -> None:
    bench.base, bench.digest = wired.base(bench.folder / "base.img", layout=layout, root=changes)
    node = NODE3.replace("}", ", root: nbd}") if "Python" in why else NODE3
    with pytest.raises(PibakeError, match=re.escape(why)) as caught:
        bench.prepare(node)
    assert caught.value.subject == "node3"
    assert caught.value.hint


def test_updates_of_an_eeprom_are_offered_to_the_boards_that_have_it(bench: Bench) -> None:
    update = bench.folders.eeprom("eeprom-2711")
    update.mkdir(parents=True)
    (update / "pieeprom.upd").write_bytes(b"update")
    served = bench.prepare(NODE3, NODE5)
    offered = {
        client.hostname: bench.folders.tftp / client.folder / "pieeprom.upd" for client in served.clients
    }
    assert offered["node3"].read_bytes() == b"update"
    assert not offered["node5"].exists()


def test_a_base_without_an_initramfs_is_refused(bench: Bench) -> None:
    config_txt = "[all]\narm_64bit=1\nkernel=vmlinuz\ncmdline=cmdline.txt\nupstream_kernel=1\n"
    boot = {"config.txt": config_txt, "initrd.img": None}
    bench.base, bench.digest = wired.base(bench.folder / "base.img", boot=boot)
    with pytest.raises(PibakeError, match="boots without an initramfs") as caught:
        bench.prepare(NODE3)
    assert caught.value.subject == "node3"


def test_where_uefis_programs_cannot_be_had_raspberry_pis_are_served_all_the_same(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    line = '{hostname: node6, address: 10.77.0.17, mac: "dc:a6:32:01:02:06"}'
    served = prepare.prepare(bench.write(line), SITE, bench.folders, bench.cache, Plain())
    assert (served.uefi, served.uefi_failed) == (False, True)
    assert "warning: machines with UEFI will not boot, and Raspberry Pis will: " in capsys.readouterr().err
    again = prepare.prepare(bench.write(line), SITE, bench.folders, bench.cache, Plain(), uefi=False)
    assert (again.uefi, again.uefi_failed) == (False, True)
    assert "warning" not in capsys.readouterr().err
    assert (bench.folders.tftp / "dc-a6-32-01-02-06/vmlinuz").exists()
