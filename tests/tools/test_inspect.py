"""What is read from an image of every vendor, and from images that are not as they should be."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.tools import command, images, layouts
from tests.tools.layouts import To

from pibake import bases, inventory
from pibake.cache import Cache
from pibake.errors import ImageError
from pibake.image.inspect import inspect
from pibake.plan import BaseRef
from pibake.progress import Silent
from pibake.system import CloudInit, Growth, Kernel, Network, Release, System

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.tools.layouts import Content

SEED = ("user-data", "meta-data", "network-config")
NETPLAN, NETWORKD, NM, ENI = Network.NETPLAN, Network.NETWORKD, Network.NETWORK_MANAGER, Network.IFUPDOWN


def ubuntu(version: str, codename: str, cloud_init: str, python: str, kernel: str) -> System:
    return System(
        release=Release("ubuntu", version, codename, f"Ubuntu {version} LTS"),
        arch="arm64",
        init="systemd",
        boot="boot/firmware",
        cmdlines=("cmdline.txt",),
        network=NETPLAN,
        growth=Growth.CLOUD_INIT,
        cloud_init=CloudInit(cloud_init, "label", SEED, (NETPLAN,)),
        python=python,
        kernels=(Kernel("vmlinuz", kernel),),
    )


def debian(version: str, codename: str, cloud_init: CloudInit | None, python: str, kernel: str) -> System:
    return System(
        release=Release("debian", version, codename, f"Debian GNU/Linux {version} ({codename})"),
        arch="arm64",
        init="systemd",
        boot="boot/firmware",
        cmdlines=("cmdline.txt",),
        network=NETPLAN,
        growth=Growth.CLOUD_INIT,
        cloud_init=cloud_init,
        python=python,
        kernels=(Kernel("vmlinuz", kernel),),
    )


RASPIOS = debian("12", "bookworm", None, "3.11", "")
RPT = "6.12.47+rpt-rpi"
EXPECTED = {
    "ubuntu-18.04-pi3": ubuntu("18.04", "bionic", "20.2", "3.6", "4.15.0-1067-raspi2"),
    "ubuntu-18.04-pi4": replace(
        ubuntu("18.04", "bionic", "19.4", "3.6", "5.3.0-1017-raspi2"), cmdlines=("nobtcmd.txt", "btcmd.txt")
    ),
    "ubuntu-20.04": ubuntu("20.04", "focal", "22.2", "3.8", "5.4.0-1069-raspi"),
    "ubuntu-22.04": ubuntu("22.04", "jammy", "23.4.4", "3.10", "5.15.0-1061-raspi"),
    "ubuntu-24.04": ubuntu("24.04", "noble", "24.4.1", "3.12", "6.8.0-1018-raspi"),
    "ubuntu-26.04": replace(
        ubuntu("26.04", "resolute", "26.1", "3.14", ""),
        cmdlines=("current/cmdline.txt",),
        kernels=(Kernel("current/vmlinuz", "7.0.0-1004-raspi"),),
    ),
    "raspios-bookworm": replace(
        RASPIOS,
        network=NM,
        growth=Growth.RASPBERRY_PI,
        kernels=(Kernel("kernel8.img", f"{RPT}-v8"), Kernel("kernel_2712.img", f"{RPT}-2712", 16)),
        wizard=("userconfig.service",),
    ),
    "raspios-trixie": replace(
        debian("13", "trixie", CloudInit("25.2", "seedfrom", SEED, (NETPLAN, NM)), "3.13", ""),
        growth=Growth.RASPBERRY_PI,
        kernels=(Kernel("kernel8.img", f"{RPT}-v8"), Kernel("kernel_2712.img", f"{RPT}-2712", 16)),
        wizard=("userconfig.service",),
    ),
    "hypriotos-rpi64": System(
        release=Release("debian", "9", "", "Debian GNU/Linux 9 (stretch)"),
        arch="arm64",
        init="systemd",
        boot="boot",
        cmdlines=("cmdline.txt",),
        network=ENI,
        growth=Growth.PIBAKE,
        cloud_init=CloudInit("0.7.9", "link", SEED[:2], (ENI,)),
        python="3.5",
        kernels=(Kernel("kernel8.img", "4.14.37-hypriotos-v8"),),
    ),
    "hypriotos-1.12": System(
        release=Release("raspbian", "10", "buster", "Raspbian GNU/Linux 10 (buster)"),
        arch="armhf",
        init="systemd",
        boot="boot",
        cmdlines=("cmdline.txt",),
        network=ENI,
        growth=Growth.RASPBERRY_PI,
        cloud_init=CloudInit("20.2", "link", SEED, (ENI,)),
        python="3.7",
        kernels=(
            Kernel("kernel7l.img", "4.19.97-v7l+"),
            Kernel("kernel7.img", "4.19.97-v7+"),
            Kernel("kernel.img", "4.19.97+"),
        ),
    ),
    "debian-raspi-12": replace(
        debian("12", "bookworm", None, "", ""),
        network=ENI,
        growth=Growth.PIBAKE,
        kernels=(Kernel("vmlinuz-6.1.0-13-arm64", "6.1.0-13-arm64"),),
    ),
    "centos-7": System(
        release=Release("centos", "7", "", "CentOS Linux 7 (AltArch)"),
        arch="armhf",
        init="systemd",
        boot="boot",
        cmdlines=("cmdline.txt",),
        network=Network.IFCFG,
        growth=Growth.PIBAKE,
        kernels=(Kernel("kernel7.img", "4.19.104-v7.1.el7"),),
    ),
    "debian-11": debian(
        "11", "bullseye", CloudInit("20.4.1", "link", SEED, (NETPLAN,)), "3.9", "5.10.0-36-arm64"
    ),
    "debian-12": debian(
        "12", "bookworm", CloudInit("22.4.2", "link", SEED, (NETPLAN,)), "3.11", "6.1.0-40-arm64"
    ),
    "debian-13": debian(
        "13", "trixie", CloudInit("25.1.4", "link", SEED, (NETPLAN,)), "3.13", "6.12.48+deb13-arm64"
    ),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "card.img"


@pytest.mark.parametrize("name", layouts.NAMES)
def test_every_vendors_image_says_what_it_is(name: str, path: Path) -> None:
    assert inspect(layouts.make(name, path), "") == EXPECTED[name]


def test_a_real_image_says_what_it_is(debian_13: Path) -> None:
    found = inspect(debian_13, "")
    kernel = found.kernels[0].release
    assert kernel.endswith("-arm64")
    version = found.cloud_init.version if found.cloud_init else ""
    assert version.startswith("25.1")
    assert found == debian("13", "trixie", CloudInit(version, "link", SEED, (NETPLAN,)), "3.13", kernel)


def test_what_is_read_survives_being_written_as_json(path: Path) -> None:
    found = inspect(layouts.make("raspios-trixie", path), "")
    assert System.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_board_asked_for_comes_first(path: Path) -> None:
    found = inspect(layouts.make("raspios-bookworm", path), "", board="pi5")
    assert [kernel.file for kernel in found.kernels] == ["kernel_2712.img", "kernel8.img"]


def test_every_slot_has_its_own_command_line(path: Path) -> None:
    slots = {f"{slot}/cmdline.txt": "root=LABEL=writable\n" for slot in ("new", "old")}
    root = {"usr/lib/modules/7.0.0-1010-raspi/modules.dep": ""}
    image = layouts.make("ubuntu-26.04", path, boot={**slots, "new/vmlinuz": layouts.kernel(16)}, root=root)
    found = inspect(image, "")
    assert found.cmdlines == ("current/cmdline.txt", "new/cmdline.txt", "old/cmdline.txt")
    assert found.kernels == (Kernel("current/vmlinuz", "7.0.0-1010-raspi"), Kernel("new/vmlinuz", "", 16))


def test_command_lines_of_every_filter_and_included_file_are_found(path: Path) -> None:
    boot = {
        "config.txt": "[pi3]\ncmdline=three.txt\n[pi4]\ncmdline=FOUR.TXT\n[0x1234abcd]\ninclude extra/more.cfg\n[all]\nkernel=vmlinuz\n",
        "extra/more.cfg": "cmdline=board.txt\n",
        **dict.fromkeys(("three.txt", "four.txt", "board.txt"), "root=LABEL=writable\n"),
    }
    image = layouts.make("debian-13", path, boot=boot)
    assert inspect(image, "").cmdlines == ("four.txt", "three.txt", "board.txt", "cmdline.txt")


def test_files_that_include_each_other_end(path: Path) -> None:
    boot = {
        "config.txt": "kernel=vmlinuz\ninclude a.txt\n",
        "a.txt": "include config.txt\ncmdline=a-cmdline.txt\n",
        "a-cmdline.txt": "x\n",
    }
    assert "a-cmdline.txt" in inspect(layouts.make("debian-13", path, boot=boot), "").cmdlines


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("UUID=1a2b-3c4d /srv/fw vfat defaults 0 0", "srv/fw"),
        ('LABEL="system-boot" /boot vfat defaults 0 0', "boot"),
        (f"/dev/disk/by-partuuid/{layouts.DISK.upper()}-01 /boot/fw vfat defaults 0 0", "boot/fw"),
        ("/dev/sda1 /boot/efi vfat defaults 0 0", "boot/efi"),
        ("/dev/sda2 /boot/efi vfat defaults 0 0", "boot/firmware"),
        ("# LABEL=system-boot /elsewhere vfat defaults 0 0", "boot/firmware"),
        ("LABEL=SYSTEM-BOOT /elsewhere vfat defaults 0 0", "boot/firmware"),
    ],
)
def test_fstab_says_where_the_boot_partition_is_mounted(line: str, expected: str, path: Path) -> None:
    root: dict[str, Content | None] = {
        "etc/fstab": f"{line}\n",
        "var/lib/cloud/seed/nocloud": To(f"/{expected}"),
    }
    assert inspect(layouts.make("debian-13", path, root=root), "").boot == expected


@pytest.mark.parametrize(
    ("boot", "root"),
    [
        ({}, {"etc/cloud/cloud-init.disabled": ""}),
        ({"cmdline.txt": "root=LABEL=writable cloud-init=disabled\n"}, {}),
        ({}, {"etc/systemd/system/cloud-init.service": To("/dev/null")}),
        ({}, {"etc/systemd/system/cloud-init-local.service": ""}),
        ({}, {"etc/systemd/system/cloud-init.target.wants/cloud-init.service": None}),
        ({}, {"usr/bin/cloud-init": None}),
    ],
)
def test_a_cloud_init_that_does_not_run_counts_as_none(
    boot: dict[str, str], root: dict[str, str | None], path: Path
) -> None:
    found = inspect(layouts.make("ubuntu-24.04", path, boot=boot, root=root), "")
    assert (found.cloud_init, found.growth) == (None, Growth.PIBAKE)


CFG = "etc/cloud/cloud.cfg.d/99-z.cfg"
NODE = {
    "usr/sbin/ifup": b"x",
    "usr/sbin/ifdown": b"x",
    "usr/sbin/ifquery": b"x",
    "etc/network/interfaces": "",
}
MANAGED = {
    "usr/bin/nmcli": b"x",
    "etc/systemd/system/multi-user.target.wants/NetworkManager.service": To("/lib/systemd/system/x"),
}
CONFIGURED = {**MANAGED, "etc/NetworkManager/NetworkManager.conf": ""}
ONLY = "system_info: {network: {renderers: [networkd, eni, new]}}"
NETWORKD_RUNS = {
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service": To("/lib/systemd/system/x"),
    **NODE,
}


@pytest.mark.parametrize(
    ("name", "root", "expected"),
    [
        ("debian-12", NODE, (ENI, NETPLAN)),
        ("debian-11", {**NODE, "usr/sbin/netplan": None}, (ENI,)),
        ("debian-11", CONFIGURED, (NETPLAN,)),
        ("debian-12", MANAGED, (NETPLAN,)),
        ("debian-12", CONFIGURED, (NETPLAN, NM)),
        ("debian-13", MANAGED, (NETPLAN, NM)),
        ("debian-13", {CFG: ONLY, **NETWORKD_RUNS}, (NETWORKD, ENI)),
        ("debian-13", {CFG: ONLY, **NODE}, ()),
        ("ubuntu-24.04", NODE, (NETPLAN, ENI)),
        ("ubuntu-24.04", {CFG: "network: {config: disabled}"}, ()),
    ],
)
def test_renderers_are_those_this_version_would_choose(
    name: str, root: dict[str, str], expected: tuple[Network, ...], path: Path
) -> None:
    cloud_init = inspect(layouts.make(name, path, root=root), "").cloud_init
    assert cloud_init
    assert cloud_init.renders == expected


WANTS = "etc/systemd/system/multi-user.target.wants"
NO_NETPLAN = {"usr/sbin/netplan": None}


@pytest.mark.parametrize(
    ("name", "root", "expected"),
    [
        ("debian-13", {**NO_NETPLAN, f"{WANTS}/systemd-networkd.service": To("/x")}, NETWORKD),
        ("debian-13", {**NO_NETPLAN, **NODE}, ENI),
        ("debian-13", {**NO_NETPLAN, **NODE, f"{WANTS}/dhcpcd.service": To("/x")}, Network.DHCPCD),
        (
            "debian-13",
            {**NO_NETPLAN, **NODE, f"{WANTS}/dhcpcd.service": To("/x"), "etc/network/interfaces": "iface eth0 inet dhcp\n"},
            ENI,
        ),
        ("raspios-bookworm", {"etc/systemd/system/NetworkManager.service": To("/dev/null"), **NODE}, ENI),
    ],
)  # fmt: skip
def test_what_runs_is_in_charge_of_the_network(
    name: str, root: dict[str, str], expected: Network, path: Path
) -> None:
    assert inspect(layouts.make(name, path, root=root), "").network == expected


@pytest.mark.parametrize(
    ("name", "boot", "root", "expected"),
    [
        ("debian-13", {}, {CFG: "growpart: {mode: 'off'}"}, Growth.PIBAKE),
        ("debian-13", {}, {CFG: "resize_rootfs: false"}, Growth.PIBAKE),
        ("debian-13", {}, {"usr/bin/growpart": None}, Growth.PIBAKE),
        ("debian-13", {}, {"usr/sbin/resize2fs": None}, Growth.NONE),
        ("centos-7", {}, {"usr/sbin/sfdisk": None, "usr/bin/growpart": None}, Growth.NONE),
        ("raspios-bookworm", {}, {"usr/lib/raspberrypi-sys-mods/firstboot": None}, Growth.PIBAKE),
        ("raspios-trixie", {"cmdline.txt": "root=LABEL=rootfs\n"}, {}, Growth.PIBAKE),
    ],
)
def test_growth_needs_its_tools_and_its_word(
    name: str, boot: dict[str, str], root: dict[str, str | None], expected: Growth, path: Path
) -> None:
    assert inspect(layouts.make(name, path, boot=boot, root=root), "").growth == expected


def test_a_hypriot_image_may_call_its_seed_as_it_likes(path: Path) -> None:
    root = {f"{layouts.SEEDS}/user-data": To("/boot/cloud/me.yml")}
    cloud_init = inspect(layouts.make("hypriotos-1.12", path, root=root), "").cloud_init
    assert cloud_init
    assert cloud_init.files == ("cloud/me.yml", "meta-data", "network-config")


def test_a_seed_by_url_brings_no_network_before_24_3(path: Path) -> None:
    root = {
        "var/lib/cloud/seed/nocloud": None,
        CFG: "datasource: {NoCloud: {seedfrom: 'file:///boot/firmware/'}}",
    }
    cloud_init = inspect(layouts.make("debian-12", path, root=root), "").cloud_init
    assert cloud_init
    assert (cloud_init.found_by, cloud_init.files) == ("seedfrom", SEED[:2])
    assert not cloud_init.reads_network


@pytest.mark.parametrize(
    ("version", "label", "found"),
    [("18.3", "CIDATA", False), ("18.3", "cidata", True), ("20.4", "CIDATA", True)],
)
def test_labels_are_compared_as_that_version_does(version: str, label: str, found: bool, path: Path) -> None:
    root = {
        "var/lib/cloud/seed/nocloud": None,
        "var/lib/dpkg/status": f"Package: cloud-init\nStatus: install ok installed\nVersion: {version}-1\n",
    }
    image = layouts.make("debian-12", path, root=root, label=label)
    if found:
        cloud_init = inspect(image, "").cloud_init
        assert cloud_init
        assert cloud_init.found_by == "label"
    else:
        with pytest.raises(
            ImageError, match="would find no seed on the boot partition: its label is CIDATA, not cidata"
        ):
            inspect(image, "")


def test_a_cloud_init_of_an_rpm_is_known_by_its_egg(path: Path) -> None:
    root: dict[str, Content | None] = {
        "usr/bin/cloud-init": b"x",
        "usr/lib/python2.7/site-packages/cloud_init-19.4-py2.7.egg-info/PKG-INFO": "",
        f"{WANTS}/cloud-init.service": To("/x"),
        CFG: "datasource: {NoCloud: {fs_label: boot}}",
    }
    cloud_init = inspect(layouts.make("centos-7", path, root=root), "").cloud_init
    assert cloud_init == CloudInit("19.4", "label", SEED, (Network.IFCFG,))


@pytest.mark.parametrize(
    ("name", "boot", "root", "said"),
    [
        ("debian-13", {}, {"etc/machine-id": "0123456789abcdef0123456789abcdef\n"}, "/etc/machine-id is set"),
        ("raspios-bookworm", {}, {"etc/ssh/ssh_host_ed25519_key": "x"}, "SSH host keys are there (/etc/ssh/ssh_host_ed25519_key)"),
        ("ubuntu-24.04", {}, {"var/lib/cloud/instance": To("/var/lib/cloud/instances/nocloud")}, "cloud-init has run (/var/lib/cloud/instance)"),
        ("debian-13", {}, {"etc/pibake/node.json": "{}"}, "pibake has been here (/etc/pibake)"),
        ("debian-13", {"pibake-secrets.tar": "x"}, {}, "/boot/firmware/pibake-secrets.tar is there"),
        ("ubuntu-24.04", {"user-data": "#cloud-config\nusers: [{name: me, ssh_authorized_keys: [x]}]\nruncmd: [[ls]]\n"}, {},
         "user-data on the boot partition sets runcmd, users"),
        ("hypriotos-1.12", {"user-data": layouts.PIRATE.replace("black-pearl", "node1")}, {}, "user-data on the boot partition sets hostname"),
        ("ubuntu-24.04", {"user-data": "#!/bin/sh\nx: [\n"}, {}, "user-data on the boot partition is a script, or no YAML"),
        ("raspios-bookworm", {"custom.toml": "", "firstrun.sh": "", "cmdline.txt": "a systemd.run=/boot/firstrun.sh\n"}, {},
         "/boot/firmware/custom.toml is there; /boot/firmware/firstrun.sh is there; the kernel command line has systemd.run=/boot/firstrun.sh"),
        ("raspios-trixie", {"cmdline.txt": "root=x ds=nocloud;i=rpi-imager-1\n"}, {}, "the kernel command line has ds=nocloud;i=rpi-imager-1"),
    ],
)  # fmt: skip
def test_what_shows_that_an_image_was_customised_is_said(
    name: str, boot: dict[str, str], root: dict[str, str], said: str, path: Path
) -> None:
    assert inspect(layouts.make(name, path, boot=boot, root=root), "").customised == said


@pytest.mark.parametrize(
    ("name", "boot", "root", "message"),
    [
        ("debian-13", {"config.txt": None}, {}, "no config.txt on the boot partition, which holds bcm2710-rpi-3-b.dtb, .*vmlinuz"),
        ("debian-13", {"cmdline.txt": None}, {}, "no kernel command line on the boot partition: looked for cmdline.txt, .* found "),
        ("ubuntu-26.04", {"config.txt": "[all]\nos_prefix=next/\n"}, {}, r"os_prefix=next/ under \[all\], but nothing on the boot partition begins like that"),
        ("debian-13", {"config.txt": "[pi5]\nos_prefix=five/\n"}, {}, r"os_prefix=five/ under \[pi5\]"),
        ("debian-13", {}, {"etc/os-release": None}, "no /etc/os-release in the last partition, whose root folder holds .*etc"),
        ("debian-13", {}, {"usr/bin/sh": b"#!", "usr/bin/dash": None}, "cannot tell the system's architecture"),
        ("debian-13", {}, {"usr/bin/dash": layouts.program("amd64")}, "the system is for amd64"),
        ("debian-13", {}, {"etc/fstab": None, "boot/firmware/": None}, "cannot tell where the boot partition is mounted: looked in /etc/fstab for LABEL=system-boot"),
        ("debian-13", {}, {"usr/sbin/netplan": None}, "nothing configures the network"),
        ("debian-13", {}, {"usr/sbin/init": None}, "there is no /sbin/init"),
        ("ubuntu-24.04", {}, {CFG: "datasource_list: [Ec2, None]"}, r"datasource_list in /etc/cloud is \[Ec2, None\], and NoCloud is the data source that does"),
        ("ubuntu-24.04", {"cmdline.txt": "root=x ds=ec2\n"}, {}, "the kernel command line has ds=ec2"),
        ("ubuntu-24.04", {}, {CFG: "a: [\n"}, "/etc/cloud/cloud.cfg.d/99-z.cfg is no YAML"),
        ("ubuntu-24.04", {}, {CFG: "datasource: {NoCloud: {fs_label: other}}"}, "its label is system-boot, not other"),
        ("debian-13", {}, {"var/lib/cloud/seed/nocloud": None}, "its label is system-boot, not cidata; no link in /var/lib/cloud/seed/nocloud or"),
        ("ubuntu-24.04", {}, {"var/lib/cloud/seed/nocloud/user-data": "#cloud-config\nhostname: x\n", "var/lib/cloud/seed/nocloud/meta-data": ""},
         r"would read the seed in /var/lib/cloud/seed/nocloud beside the one on the boot partition \(found by label\)"),
        ("ubuntu-24.04", {"cmdline.txt": "root=x ds=nocloud;s=http://10.0.0.1/seed/\n"}, {},
         r"would read the seed at http://10.0.0.1/seed/ beside the one on the boot partition \(found by label\)"),
        ("debian-13", {}, {CFG: "datasource: {NoCloud: {user-data: x, meta-data: y}}"}, r"the user-data in /etc/cloud beside .* \(found by link\)"),
        ("ubuntu-24.04", {}, {"var/lib/dpkg/status": ""}, "its version cannot be told"),
    ],
)  # fmt: skip
def test_an_image_that_is_not_as_it_should_be_is_refused_with_what_was_found(
    name: str, boot: dict[str, str], root: dict[str, str], message: str, path: Path
) -> None:
    with pytest.raises(ImageError, match=message) as raised:
        inspect(layouts.make(name, path, boot=boot, root=root), "")
    assert str(raised.value).startswith("card.img: ")
    assert raised.value.hint


def test_a_second_seed_with_the_same_content_is_no_second_seed(path: Path) -> None:
    text = "#cloud-config\n"
    root = {"var/lib/cloud/seed/nocloud/user-data": text, "var/lib/cloud/seed/nocloud/meta-data": ""}
    found = inspect(layouts.make("ubuntu-24.04", path, boot={"user-data": text}, root=root), "")
    assert found.cloud_init == EXPECTED["ubuntu-24.04"].cloud_init


def test_the_last_partition_must_hold_ext4(path: Path) -> None:
    image = images.make(path)
    images.tool("mcopy", "-i", f"{image}@@1M", "-", "::cmdline.txt", data=b"root=x\n")
    with pytest.raises(ImageError, match="no ext4 file system at byte"):
        inspect(image, "")


def test_a_system_is_read_once_per_image_and_forgotten_with_it(path: Path, tmp_path: Path) -> None:
    cache, quiet = Cache(tmp_path / "cache"), Silent()
    base = bases.obtain(BaseRef(file=str(layouts.make("ubuntu-26.04", path))), cache, quiet)
    record = cache.systems / f"{base.sha256}.json"
    found = bases.system(base, cache)
    assert found == EXPECTED["ubuntu-26.04"]
    known = json.loads(record.read_text())
    record.write_text(json.dumps({**known, "system": {**known["system"], "boot": "recorded"}}))
    assert bases.system(base, cache).boot == "recorded"
    record.write_text(json.dumps({**known, "format": 0, "system": {}}))
    assert bases.system(base, cache) == found
    inventory.prune(cache, quiet, everything=False, dry_run=False)
    assert record.exists()
    path.unlink()
    inventory.prune(cache, quiet, everything=False, dry_run=False)
    assert not record.exists()


def pibake(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command.run(*arguments, env={**os.environ, "XDG_CACHE_HOME": str(home)})


def test_base_inspect_shows_a_file_without_keeping_it(path: Path, tmp_path: Path) -> None:
    title = "Raspberry \x1b[31m Pi [bold] OS"
    layouts.make("raspios-bookworm", path, root={"etc/os-release": f'ID=debian\nPRETTY_NAME="{title}"\n'})
    shown = pibake(tmp_path, "base", "inspect", str(path))
    assert shown.returncode == 0, shown.stderr
    assert "Raspberry ?[31m Pi [bold] OS (arm64, systemd)" in shown.stdout
    assert "files and a first-boot unit" in shown.stdout
    assert "kernel_2712.img  6.12.47+rpt-rpi-2712  16K pages" in shown.stdout
    assert "userconfig.service" in shown.stdout
    assert not list(tmp_path.glob("pibake/images/sha256/*"))


def test_base_inspect_unpacks_a_compressed_file(path: Path, tmp_path: Path) -> None:
    packed = tmp_path / "card.img.gz"
    packed.write_bytes(gzip.compress(layouts.make("hypriotos-rpi64", path).read_bytes(), 1))
    shown = pibake(tmp_path, "base", "inspect", str(packed), "--json")
    assert shown.returncode == 0, shown.stderr
    assert System.from_json(json.loads(shown.stdout)) == EXPECTED["hypriotos-rpi64"]


def test_base_inspect_of_nothing_and_of_no_image_says_so(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image " * 200)
    for word, said in {
        "debian-31": "there is no base called 'debian-31'",
        str(tmp_path / "none.img"): f"there is no file {tmp_path}/none.img",
        str(text): "has no partition table",
    }.items():
        shown = pibake(tmp_path, "base", "inspect", word)
        assert shown.returncode == 1
        assert said in shown.stderr
