"""An assembled Debian base, read with other tools than those that wrote it."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from pibake import catalog
from pibake.errors import ImageError
from pibake.image.debian import recipe
from pibake.system import Network

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
BOOT = MIB
ROOT = 513 * MIB
AARCH64 = 183
"""e_machine of arm64: elf.h, EM_AARCH64."""


def tool(*argv: str | Path) -> str:
    """Run a tool where an administrator's PATH would find it; return what it printed."""
    path = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=path)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def cat(image: Path, path: str) -> str:
    """Return a file of the root file system."""
    return tool("debugfs", "-R", f"cat {path}", f"{image}?offset={ROOT}")


def boot_file(image: Path, name: str) -> str:
    """Return a text file of the boot partition."""
    return tool("mtype", "-i", f"{image}@@{BOOT}", f"::{name}")


def machine(head: bytes) -> int | None:
    """Return e_machine of an ELF file, from its first bytes (ELF64 header, elf(5))."""
    return struct.unpack_from("<H", head, 18)[0] if head[:4] == b"\x7fELF" else None


STANDARD = {
    "trixie": "7d41e6c09516497218bc2e3074e804eb2bcbd1a235fe7e08e3be1da36cf7daaa",
    "bookworm": "6dcc1df8ce040d77d9fece6ba6065cbdea6451477c3f9b33a9bd9812878cb047",
}
"""Digests of the standard recipes. Another one makes everybody assemble anew: change it with images/debian only."""
RESOLVED = {"systemd-resolved", "libnss-resolve"}
FLAVOURS = {
    ("bullseye", Network.NETPLAN, True): ({"systemd-resolved", "util-linux-extra"}, {"dmidecode"}),
    ("bullseye", Network.IFUPDOWN, True): (
        {"netplan.io", "util-linux-extra", *RESOLVED},
        {"ifupdown", "isc-dhcp-client", "dmidecode"},
    ),
    ("bookworm", Network.IFUPDOWN, True): ({"netplan.io", *RESOLVED}, {"ifupdown", "isc-dhcp-client"}),
    ("bookworm", Network.NETWORK_MANAGER, True): ({"netplan.io", *RESOLVED}, {"network-manager"}),
    ("bookworm", Network.DHCPCD, True): ({"netplan.io", *RESOLVED}, {"dhcpcd"}),
    ("bookworm", Network.NETWORK_MANAGER, False): (
        {"netplan.io", "cloud-init", *RESOLVED},
        {"network-manager"},
    ),
    ("trixie", Network.IFUPDOWN, False): (
        {"netplan.io", "cloud-init", *RESOLVED},
        {"ifupdown", "dhcpcd-base"},
    ),
    ("trixie", Network.NETPLAN, False): ({"cloud-init"}, set()),
}
"""Of suite, network program and cloud-init: which of the standard packages are not there, and which are beside them."""


@pytest.mark.parametrize("suite", STANDARD)
def test_flavours_leave_the_standard_recipes_alone(suite: str) -> None:
    assert recipe(suite).digest() == STANDARD[suite]
    assert recipe(suite, Network.NETPLAN, cloud_init=True) == recipe(suite)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: "-".join(map(str, flavour)))
def test_a_flavour_differs_in_its_packages(flavour: tuple[str, Network, bool]) -> None:
    suite, network, cloud_init = flavour
    standard = set(recipe("trixie").packages)
    packages = recipe(suite, network, cloud_init=cloud_init).packages
    without, beside = FLAVOURS[flavour]
    assert set(packages) == standard - without | beside
    assert len(set(packages)) == len(packages)


def test_every_flavour_is_a_base_of_its_own() -> None:
    recipes = [recipe(suite, network, cloud_init=cloud_init) for suite, network, cloud_init in FLAVOURS]
    assert len({*STANDARD.values(), *(r.digest() for r in recipes)}) == len(STANDARD) + len(FLAVOURS)


def test_bullseye_has_its_firmware_where_it_was_before_non_free_firmware() -> None:
    assert recipe("bullseye").components == ("main", "non-free")
    assert recipe("bookworm").components == ("main", "non-free-firmware")


def test_the_flavours_for_boots_have_recipes() -> None:
    entries = catalog.parse((Path(__file__).parents[1] / "boot/bases.yaml").read_text(), Path())
    for entry in entries.values():
        assert isinstance(entry.source, catalog.Assemble)
        assert recipe(entry.source.suite, entry.source.network, cloud_init=entry.source.cloud_init).flavour, (
            f"{entry.name} is a standard base"
        )


@pytest.mark.parametrize(
    ("suite", "network", "said"),
    [
        ("buster", Network.NETPLAN, "no recipe for Debian 'buster'"),
        ("trixie", Network.IFCFG, "no recipe for Debian trixie with ifcfg"),
    ],
)
def test_what_there_is_no_recipe_for_is_refused(suite: str, network: Network, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        recipe(suite, network)


@pytest.fixture(scope="session")
def tree(debian_13: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system, taken out with debugfs (which warns about owners unless run by root)."""
    folder = tmp_path_factory.mktemp("tree")
    tool("debugfs", "-R", f"rdump / {folder}", f"{debian_13}?offset={ROOT}")
    return folder


def test_the_partition_table_is_that_of_ubuntus_image(debian_13: Path) -> None:
    table = json.loads(tool("sfdisk", "--json", debian_13))["partitiontable"]
    assert table["label"] == "dos"
    first, second = table["partitions"]
    assert (first["start"], first["size"], first["type"]) == (2048, 512 * 2048, "c")
    assert (second["start"], second["type"]) == (513 * 2048, "83")
    assert (second["start"] + second["size"]) * 512 == debian_13.stat().st_size


def test_both_file_systems_carry_the_labels_that_fstab_and_cmdline_name(debian_13: Path) -> None:
    def probe(offset: int) -> str:
        return tool(
            "blkid", "--probe", "--offset", str(offset), "-o", "value", "-s", "LABEL", "-s", "TYPE", debian_13
        )

    assert probe(BOOT).split() == ["system-boot", "vfat"]
    assert probe(ROOT).split() == ["writable", "ext4"]
    devices = [
        line.split()[:3] for line in cat(debian_13, "/etc/fstab").splitlines() if not line.startswith("#")
    ]
    assert devices == [["LABEL=writable", "/", "ext4"], ["LABEL=system-boot", "/boot/firmware", "vfat"]]
    (cmdline,) = boot_file(debian_13, "cmdline.txt").splitlines()
    assert "root=LABEL=writable" in cmdline.split()
    assert "cgroup" not in cmdline  # the seed's business


def test_both_file_systems_are_clean(debian_13: Path, tmp_path: Path) -> None:
    tool("e2fsck", "-f", "-n", f"{debian_13}?offset={ROOT}")
    boot = tmp_path / "boot.fat"
    with debian_13.open("rb") as image:
        image.seek(BOOT)
        boot.write_bytes(image.read(ROOT - BOOT))
    tool("fsck.vfat", "-n", boot)


def test_the_boot_partition_holds_all_that_its_config_names(debian_13: Path) -> None:
    names = set(tool("mdir", "-b", "-i", f"{debian_13}@@{BOOT}", "::").split())
    for wanted in (
        "bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat",
        "vmlinuz", "initrd.img", "cmdline.txt", "config.txt",
        "bcm2837-rpi-3-b.dtb", "bcm2837-rpi-3-b-plus.dtb", "bcm2711-rpi-4-b.dtb", "bcm2712-rpi-5-b.dtb",
    ):  # fmt: skip
        assert f"::/{wanted}" in names
    settings = boot_file(debian_13, "config.txt").splitlines()
    for setting in (
        "arm_64bit=1",
        "kernel=vmlinuz",
        "initramfs initrd.img followkernel",
        "cmdline=cmdline.txt",
    ):
        assert setting in settings


def test_no_program_of_another_architecture_is_left_in_the_tree(tree: Path) -> None:
    foreign, arm64 = [], 0
    for path in tree.rglob("*"):
        assert "pibake-arm64" not in path.name
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            found = machine(file.read(20))
        if found == AARCH64:
            arm64 += 1
        elif found is not None and path.parent.name != "raspi-firmware":  # those run on the VideoCore
            foreign.append(path)
    assert not foreign
    assert arm64 > 1000
    assert not (tree / ".pibake").exists()
    assert not (tree / "usr/lib/x86_64-linux-gnu").exists()
    assert not (tree / "usr/lib64").exists()


def test_every_package_is_installed_and_of_this_architecture(tree: Path) -> None:
    stanzas = (tree / "var/lib/dpkg/status").read_text().strip().split("\n\n")
    fields = [
        dict(line.split(": ", 1) for line in s.splitlines() if ": " in line and line[0] != " ")
        for s in stanzas
    ]
    assert {f["Status"] for f in fields} == {"install ok installed"}
    assert {f["Architecture"] for f in fields} == {"all", "arm64"}
    names = {f["Package"] for f in fields}
    assert {
        "cloud-init",
        "netplan.io",
        "openssh-server",
        "nfs-common",
        "open-iscsi",
        "conntrack",
        "socat",
    } <= names


def test_the_kernel_has_the_modules_kubernetes_asks_for(tree: Path) -> None:
    (modules,) = (tree / "usr/lib/modules").iterdir()
    have = {path.name.split(".ko")[0] for path in modules.rglob("*.ko*")}
    assert {"overlay", "br_netfilter", "vxlan", "nf_conntrack", "iscsi_tcp", "nbd"} <= have
    assert (modules / "modules.dep.bin").stat().st_size > 100_000


def test_identities_are_left_to_the_node(tree: Path) -> None:
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert not list((tree / "etc/ssh").glob("ssh_host_*"))
    assert not (tree / "var/lib/systemd/random-seed").exists()
    assert not (tree / "var/lib/dbus/machine-id").exists()
    assert "\nInitiatorName" not in (tree / "etc/iscsi/initiatorname.iscsi").read_text()
    assert [path.name for path in (tree / "var/log").rglob("*") if path.is_file()] == []
    assert not list((tree / "home").iterdir())


def test_cloud_init_looks_for_the_seed_in_the_boot_partition_only(debian_13: Path, tree: Path) -> None:
    (ours,) = (tree / "etc/cloud/cloud.cfg.d").glob("*_pibake.cfg")
    assert "datasource_list: [NoCloud, None]" in ours.read_text()
    assert (tree / "var/lib/cloud/seed/nocloud").readlink() == Path("/boot/firmware")
    assert 'Fast link dest: "/boot/firmware"' in tool(
        "debugfs", "-R", "stat /var/lib/cloud/seed/nocloud", f"{debian_13}?offset={ROOT}"
    )


def test_kernel_upgrades_leave_config_and_cmdline_alone(tree: Path) -> None:
    diverted = (tree / "var/lib/dpkg/diversions").read_text().splitlines()
    for hook in ("kernel/postinst.d", "kernel/postrm.d", "initramfs/post-update.d"):
        ours = tree / "etc" / hook / "z50-raspi-firmware"
        assert ours.readlink() == Path("/usr/lib/pibake/update-boot-partition")
        assert f"/etc/{hook}/z50-raspi-firmware.debian" in diverted
    script = (tree / "usr/lib/pibake/update-boot-partition").read_text()
    assert "config.txt" not in script.partition("set -e")[2]


def test_the_initrd_holds_arm64_programs_only_and_drivers_of_boards_and_of_qemu(
    debian_13: Path, tmp_path: Path
) -> None:
    initrd = tmp_path / "initrd.img"
    tool("mcopy", "-i", f"{debian_13}@@{BOOT}", "::initrd.img", initrd)
    machines, names = set(), set()
    for name, head in cpio_members(initrd.read_bytes()):
        names.add(Path(name).name.split(".ko")[0])
        machines.add(machine(head))
    assert machines == {None, AARCH64}
    assert {"busybox", "modprobe", "fsck.ext4", "virtio_blk", "sdhci-iproc", "genet", "nfs"} <= names


def cpio_members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and first bytes of every member of an initrd: newc archives (cpio(5)) one after another, the last
    one compressed."""
    at = 0
    while at < len(archive):
        if archive[at : at + 4] == b"\x28\xb5\x2f\xfd":
            archive, at = zstandard.ZstdDecompressor().decompressobj().decompress(archive[at:]), 0
        if archive[at : at + 6] != b"070701":
            at += 4  # padding between archives
            continue
        size, name_size = (int(archive[at + i : at + i + 8], 16) for i in (54, 94))
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        content = (at + 110 + name_size + 3) & ~3
        if name != "TRAILER!!!":
            yield name, archive[content : content + 20]
        at = (content + size + 3) & ~3
