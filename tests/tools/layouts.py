"""Small images in the layout of every vendor's: partition table, labels, file names, and the settings that decide.

Facts are from the vendors' own build scripts (canonical/pi-gadget, RPi-Distro/pi-gen, hypriot/image-builder-rpi,
DieterReuter/image-builder-rpi64, CentOS/sig-core-AltArch, Debian's image-specs); programs and kernels are headers with
nothing behind them.
"""

from __future__ import annotations

import gzip
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools.images import MIB, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Content = str | bytes
Tree = dict[str, Content]
SECTOR = 512
ROOT_SIZE = 64 * MIB
"""Of the root partition, which vendors make some GB large."""
DISK = "4a7c9e15"
SERIAL = "1A2B-3C4D"
FIRMWARE = ("bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "bcm2710-rpi-3-b.dtb", "bcm2711-rpi-4-b.dtb",
            "overlays/disable-bt.dtbo")  # fmt: skip
EMPTY = "#cloud-config\n# hostname: raspberrypi\n"


class To(str):
    """The target of a symbolic link."""

    __slots__ = ()


@dataclass
class Layout:
    """What an image is made of; sizes and starts in MiB."""

    boot: Tree
    root: Tree
    label: str
    root_label: str
    start: int = 1
    size: int = 256
    swap: int = 0
    merged: bool = True
    programs: tuple[str, ...] = ()
    arch: str = "arm64"
    units: tuple[str, ...] = ()
    python: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)


def make(
    name: str,
    path: Path,
    *,
    boot: Mapping[str, Content | None] | None = None,
    root: Mapping[str, Content | None] | None = None,
    label: str | None = None,
    size: int | None = None,
) -> Path:
    """Make the image `name`, one of NAMES; files of `boot` and `root` go over its own, and None takes one away.

    `size` is that of the boot partition in MiB, where a test needs a smaller one than the vendor's.
    """
    layout = LAYOUTS[name]()
    layout.size = size or layout.size
    tree = {**_system(layout), **layout.root, **(root or {})}
    firmware = {**dict.fromkeys(FIRMWARE, "firmware"), **layout.boot, **(boot or {})}
    first, second = layout.start, layout.start + layout.size
    last = second + layout.swap
    with path.open("wb") as file:
        file.truncate(last * MIB + ROOT_SIZE)
    lines = [f"start={first * 2048}, size={layout.size * 2048}, type=c, bootable"]
    lines += [f"start={second * 2048}, size={layout.swap * 2048}, type=82"] if layout.swap else []
    lines += [f"start={last * 2048}, size={ROOT_SIZE // SECTOR}, type=83"]
    script = f"label: dos\nlabel-id: 0x{DISK}\n" + "\n".join(lines) + "\n"
    tool("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path, data=script.encode())
    tool("mkfs.vfat", "-F", "32", "-s", "1", "-n", layout.label if label is None else label, "-i", SERIAL.replace("-", ""),
         "--offset", str(first * 2048), path, str(layout.size * 1024))  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="layout-") as folder:
        here = Path(folder)
        _write(here / "boot", firmware)
        tool("mcopy", "-s", "-i", f"{path}@@{first * MIB}", *sorted((here / "boot").iterdir()), "::")
        _write(here / "root", tree)
        tool("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", layout.root_label, "-d", here / "root", "-E",
             f"root_owner=0:0,offset={last * MIB}", path, str(ROOT_SIZE // 4096))  # fmt: skip
    return path


def program(arch: str) -> bytes:
    """Return the header of a program (elf(5)): class, machine, and for armhf the flag of its calling convention."""
    if arch == "armhf":
        return struct.pack("<4sBB10xHHIIIII16x", b"\x7fELF", 1, 1, 2, 40, 1, 0, 0, 0, 0x05000400) + bytes(64)
    return struct.pack("<4sBB10xHH44x", b"\x7fELF", 2, 1, 3, {"arm64": 183, "amd64": 62}[arch]) + bytes(64)


def kernel(page_kib: int = 4) -> bytes:
    """Return the header of an arm64 kernel with pages of so many KiB, and some more."""
    flags = {4: 1, 16: 2, 64: 3}[page_kib] << 1 | 8
    return struct.pack("<4s20xQ24s4sI", b"MZ\x40\xfa", flags, b"", b"ARMd", 64) + b"kernel " * 40000


def _system(layout: Layout) -> Tree:
    """Return what all systems have: merged /usr or not, init, programs, units, dpkg's status."""
    usr = "usr/" if layout.merged else ""
    tree: Tree = {name: To(f"usr/{name}") for name in ("bin", "sbin", "lib")} if layout.merged else {}
    run = program(layout.arch)
    tree |= {
        f"{usr}bin/dash": run,
        f"{usr}bin/sh": To("dash"),
        f"{usr}bin/systemctl": run,
        f"{usr}bin/ip": run,
        f"{usr}lib/systemd/systemd": run,
        f"{usr}sbin/init": To("/lib/systemd/systemd"),
        f"{usr}sbin/resize2fs": run,
        f"{usr}sbin/sfdisk": run,
        "etc/machine-id": "",
        "etc/hostname": "vendor\n",
        "etc/systemd/system/getty.target.wants/getty@tty1.service": To("/lib/systemd/system/getty@.service"),
    }
    tree |= dict.fromkeys(layout.programs, run)
    for unit in layout.units:
        wants, _, name = unit.rpartition("/")
        tree[f"etc/systemd/system/{wants or 'multi-user.target'}.wants/{name}"] = To(
            f"/lib/systemd/system/{name}"
        )
    if layout.python:
        tree |= {f"usr/bin/python{layout.python}": run, "usr/bin/python3": To(f"python{layout.python}")}
    if layout.packages:
        tree["var/lib/dpkg/status"] = "".join(
            f"Package: {package}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n\n"
            for package, version in layout.packages.items()
        )
    return tree


def _write(folder: Path, tree: Mapping[str, Content | None]) -> None:
    folder.mkdir()
    for name, content in tree.items():
        target = folder / name
        if content is None:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, To):
            target.symlink_to(content)
        elif name.endswith("/"):
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)


def _release(ident: str, version: str, codename: str, title: str) -> str:
    lines = [f"ID={ident}", f'VERSION_ID="{version}"', f'PRETTY_NAME="{title}"']
    lines += [f"VERSION_CODENAME={codename}"] if codename else []
    return "\n".join(lines) + "\n"


def _cloud_cfg(*, grow: bool = True, renderers: tuple[str, ...] = (), distro: str = "debian") -> str:
    modules = [
        "bootcmd",
        "write-files",
        *(["growpart", "resizefs"] if grow else []),
        "set_hostname",
        "users-groups",
        "ssh",
    ]
    network = f"  network:\n    renderers: [{', '.join(renderers)}]\n" if renderers else ""
    listed = "".join(f"  - {module}\n" for module in modules)
    return f"users:\n  - default\ncloud_init_modules:\n{listed}system_info:\n  distro: {distro}\n{network}"


def _cloud_units(*, split: bool = False) -> tuple[str, ...]:
    names = ("cloud-init-main", "cloud-init-network") if split else ("cloud-init",)
    return tuple(
        f"cloud-init.target/{name}.service"
        for name in ("cloud-init-local", *names, "cloud-config", "cloud-final")
    )


@dataclass(frozen=True)
class _Ubuntu:
    version: str
    codename: str
    cloud_init: str
    python: str
    kernel: str
    size: int = 256
    merged: bool = True


def _ubuntu(release: _Ubuntu, boot: Tree) -> Layout:
    old = release.version == "18.04"
    seed = {
        "user-data": "#cloud-config\nchpasswd:\n  expire: true\n  list:\n  - ubuntu:ubuntu\nssh_pwauth: true\n",
        "meta-data": "instance_id: cloud-image\n",
        "network-config": "version: 2\nethernets:\n  eth0:\n    dhcp4: true\n    optional: true\n",
    }
    return Layout(
        boot={**seed, "README": "The boot partition\n", **boot},
        root={
            "etc/os-release": _release(
                "ubuntu", release.version, release.codename, f"Ubuntu {release.version} LTS"
            ),
            "etc/fstab": "LABEL=writable\t/\text4\tdefaults\t0 1\nLABEL=system-boot       /boot/firmware  vfat    defaults        0       1\n",
            "boot/firmware/": "",
            "etc/cloud/cloud.cfg": _cloud_cfg(
                renderers=() if old else ("netplan", "eni", "sysconfig"), distro="ubuntu"
            ),
            "etc/cloud/cloud.cfg.d/90_dpkg.cfg": "datasource_list: [ NoCloud, ConfigDrive, Ec2, None ]\n",
            "etc/cloud/cloud.cfg.d/99-fake_cloud.cfg": "datasource_list: [ NoCloud, None ]\ndatasource:\n  NoCloud:\n    fs_label: system-boot\n",
            "etc/netplan/": "",
            f"{'usr/' if release.merged else ''}lib/modules/{release.kernel}/modules.dep": "",
            **({"etc/machine-id": "uninitialized\n"} if release.version == "26.04" else {}),
        },
        label="system-boot",
        root_label="writable",
        size=release.size,
        merged=release.merged,
        programs=("usr/bin/cloud-init", "usr/bin/growpart", "usr/sbin/netplan"),
        units=(*_cloud_units(split=release.version == "26.04"), "systemd-networkd.service"),
        python=release.python,
        packages={"base-files": "1", "cloud-init": release.cloud_init, "netplan.io": "0.40"},
    )


def _uboot(*, include: bool) -> Tree:
    """Return what Ubuntu 18.04 and 20.04 boot with: the firmware loads U-Boot, and boot.scr loads vmlinuz."""
    words = "net.ifnames=0 dwc_otg.lpm_enable=0 console={} console=tty1 root=LABEL=writable rootfstype=ext4 elevator=deadline rootwait fixrtc\n"
    config = (
        "[pi4]\nkernel=uboot_rpi_4.bin\nmax_framebuffers=2\n[pi2]\nkernel=uboot_rpi_2.bin\n[pi3]\nkernel=uboot_rpi_3.bin\n"
        "[all]\narm_64bit=1\ndevice_tree_address=0x03000000\nenable_uart=1\n"
    )
    files: Tree = {
        **dict.fromkeys(("uboot_rpi_2.bin", "uboot_rpi_3.bin", "uboot_rpi_4.bin"), "u-boot"),
        "boot.scr": "script",
        "usercfg.txt": "# yours\n",
        "vmlinuz": gzip.compress(kernel(), mtime=0),
        "initrd.img": "initrd " * 10000,
        "config.txt": f"{config}cmdline={'nobtcmd' if include else 'cmdline'}.txt\n\ninclude syscfg.txt\ninclude usercfg.txt\n",
    }
    if not include:
        settings = "enable_uart=1\ndtparam=i2c_arm=on\ncmdline=cmdline.txt\n"
        return {**files, "syscfg.txt": settings, "cmdline.txt": words.format("serial0,115200")}
    return {
        **files,
        "syscfg.txt": "dtparam=i2c_arm=on\n\ninclude nobtcfg.txt\n",
        "nobtcfg.txt": "enable_uart=1\ncmdline=nobtcmd.txt\n",
        "btcfg.txt": "enable_uart=0\ncmdline=btcmd.txt\n",
        "nobtcmd.txt": words.format("ttyAMA0,115200"),
        "btcmd.txt": words.format("tty0"),
    }


def _direct(cmdline: str, prefix: str = "") -> Tree:
    """Return what Ubuntu boots with since 22.04: the firmware loads the kernel."""
    slots = "[all]\nos_prefix=current/\n\n[tryboot]\nos_prefix=new/\n\n" if prefix else ""
    config = (
        f"{slots}[all]\narm_64bit=1\nkernel=vmlinuz\ncmdline=cmdline.txt\ninitramfs initrd.img followkernel\n"
    )
    return {
        "config.txt": f"{config}\n[pi4]\nmax_framebuffers=2\n\n[pi3+]\ndtoverlay=vc4-kms-v3d,cma-128\n\n[all]\n",
        f"{prefix}vmlinuz": gzip.compress(kernel(), mtime=0),
        f"{prefix}initrd.img": "initrd " * 10000,
        f"{prefix}cmdline.txt": f"console=serial0,115200 {cmdline} console=tty1 root=LABEL=writable rootfstype=ext4 rootwait fixrtc\n",
    }


def _raspios(*, trixie: bool) -> Layout:
    word = "resize" if trixie else "quiet init=/usr/lib/raspberrypi-sys-mods/firstboot"
    base = "console=serial0,115200 console=tty1"
    boot: Tree = {
        "config.txt": "dtparam=audio=on\nauto_initramfs=1\ndtoverlay=vc4-kms-v3d\narm_64bit=1\n[cm4]\notg_mode=1\n[cm5]\ndtoverlay=dwc2\n[all]\n",
        "cmdline.txt": f"{base} root=PARTUUID={DISK}-02 rootfstype=ext4 fsck.repair=yes rootwait {word}\n",
        "kernel8.img": gzip.compress(kernel(), mtime=0),
        "kernel_2712.img": gzip.compress(kernel(16), mtime=0),
        "initramfs8": "initrd",
        "initramfs_2712": "initrd",
        "bcm2712-rpi-5-b.dtb": "dtb",
        "issue.txt": "Raspberry Pi reference\n",
    }
    release = "6.12.47+rpt-rpi"
    root: Tree = {
        "etc/os-release": _release("debian", *(("13", "trixie", "Debian GNU/Linux 13 (trixie)") if trixie
                                               else ("12", "bookworm", "Debian GNU/Linux 12 (bookworm)"))),
        "etc/fstab": f"proc /proc proc defaults 0 0\nPARTUUID={DISK}-01  /boot/firmware  vfat    defaults          0       2\n"
                     f"PARTUUID={DISK}-02  /               ext4    defaults,noatime  0       1\n",
        "boot/firmware/": "",
        "boot/cmdline.txt": "DO NOT EDIT THIS FILE\n\nThe file you are looking for has moved to /boot/firmware/cmdline.txt\n",
        f"usr/lib/modules/{release}-v8/modules.dep": "",
        f"usr/lib/modules/{release}-2712/modules.dep": "",
        "etc/NetworkManager/NetworkManager.conf": "[main]\nplugins=ifupdown,keyfile\n",
    }  # fmt: skip
    layout = Layout(
        boot, root, "bootfs", "rootfs", start=8, size=512, python="3.13" if trixie else "3.11",
        programs=("usr/bin/nmcli", "usr/sbin/NetworkManager"), packages={"raspberrypi-sys-mods": "1"},
        units=("NetworkManager.service", "userconfig.service"),
    )  # fmt: skip
    if not trixie:
        root["usr/lib/raspberrypi-sys-mods/firstboot"] = "#!/bin/bash\n"
        return layout
    root |= {
        "etc/machine-id": "uninitialized\n",
        "etc/cloud/cloud.cfg": _cloud_cfg(
            grow=False, renderers=("netplan", "network-manager"), distro="raspberry-pi-os"
        ),
        "etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg": "datasource_list: [ NoCloud, None ]\ndatasource:\n  NoCloud:\n    seedfrom: file:///boot/firmware\n",
        "usr/lib/netplan/00-network-manager-all.yaml": "network:\n  version: 2\n  renderer: NetworkManager\n",
    }
    boot |= {
        "user-data": EMPTY,
        "meta-data": "dsmode: local\ninstance_id: rpios-image\n",
        "network-config": "#network:\n",
    }
    layout.programs += ("usr/bin/cloud-init", "usr/sbin/netplan")
    layout.units += (*_cloud_units(split=True), "rpi-resize.service")
    layout.packages = {"cloud-init": "25.2-1+rpt3", "netplan.io": "1.1.2-7+rpt1", "raspberrypi-sys-mods": "1"}
    return layout


PIRATE = (
    "#cloud-config\nhostname: black-pearl\nmanage_etc_hosts: true\nusers:\n  - name: pirate\n    plain_text_passwd: hypriot\n"
    "    lock_passwd: false\npackage_upgrade: false\nruncmd:\n  - 'systemctl restart avahi-daemon'\n"
)
HYPRIOT_WORDS = "rootfstype=ext4 cgroup_enable=cpuset cgroup_enable=memory swapaccount=1 elevator=deadline fsck.repair=yes rootwait"
SEEDS = "var/lib/cloud/seed/nocloud-net"


def _hypriot_64() -> Layout:
    script = "#!/bin/sh\nmount / -o remount,rw\nrm /sbin/init /sbin/resizefs\nmv /sbin/init.bak /sbin/init\n"
    return Layout(
        boot={
            "config.txt": "\nenable_uart=1\nhdmi_force_hotplug=1\nstart_x=0\ngpu_mem=16\n",
            "cmdline.txt": f"dwc_otg.lpm_enable=0 console=tty1 root=/dev/mmcblk0p2 {HYPRIOT_WORDS} console=ttyAMA0,115200 net.ifnames=0\n",
            "kernel8.img": kernel(),
            "user-data": PIRATE,
            "meta-data": "",
            "os-release": "ID=debian\n",
        },
        root={
            "etc/os-release": _release("debian", "9", "", "Debian GNU/Linux 9 (stretch)")
            + 'HYPRIOT_DEVICE="Raspberry Pi 3 64bit"\n',
            "etc/fstab": "\nproc /proc proc defaults 0 0\n/dev/mmcblk0p1 /boot vfat defaults 0 0\n/dev/mmcblk0p2 / ext4 defaults,noatime 0 1\n",
            "boot/": "",
            "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
            "etc/ssh/ssh_host_rsa_key": "key",
            "sbin/init": To("/sbin/resizefs"),
            "sbin/resizefs": script,
            "sbin/init.bak": To("/lib/systemd/systemd"),
            "etc/network/interfaces": "source-directory /etc/network/interfaces.d\n",
            "etc/network/interfaces.d/eth0": "allow-hotplug eth0\niface eth0 inet dhcp\n",
            "lib/modules/4.14.37-hypriotos-v8/modules.dep": "",
            "etc/cloud/cloud.cfg": _cloud_cfg(),
            "etc/cloud/cloud.cfg.d/90_dpkg.cfg": "datasource_list: [ NoCloud, ConfigDrive, OpenNebula, Azure, Ec2, None ]\n",
            f"{SEEDS}/user-data": To("/boot/user-data"),
            f"{SEEDS}/meta-data": To("/boot/meta-data"),
        },
        label="HypriotOS",
        root_label="root",
        size=64,
        merged=False,
        programs=("usr/bin/cloud-init", "sbin/ifup", "sbin/ifdown", "sbin/ifquery", "sbin/dhcpcd5"),
        units=(*_cloud_units(), "dhcpcd.service", "network-online.target/networking.service"),
        python="3.5",
        packages={"cloud-init": "0.7.9-2", "ifupdown": "0.8.19"},
    )


def _hypriot() -> Layout:
    link = dict.fromkeys(("user-data", "meta-data", "network-config"))
    words = "quiet init=/usr/lib/raspi-config/init_resize.sh"
    return Layout(
        boot={
            "config.txt": "\nhdmi_force_hotplug=1\nenable_uart=0\nstart_x=0\ngpu_mem=16\n",
            "cmdline.txt": f"dwc_otg.lpm_enable=0 console=serial0,115200 console=tty1 root=PARTUUID={DISK}-02 {HYPRIOT_WORDS} {words}\n",
            **dict.fromkeys(("kernel.img", "kernel7.img", "kernel7l.img"), "zImage"),
            "user-data": PIRATE,
            "meta-data": "instance-id: pirate001\n",
            "network-config": "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    subnets:\n      - type: dhcp\n",
        },
        root={
            "etc/os-release": _release("raspbian", "10", "buster", "Raspbian GNU/Linux 10 (buster)")
            + 'HYPRIOT_DEVICE="Raspberry Pi"\n',
            "etc/fstab": f"\nproc /proc proc defaults 0 0\nPARTUUID={DISK}-01 /boot vfat defaults 0 0\nPARTUUID={DISK}-02 / ext4 defaults,noatime 0 1\n",
            "boot/": "",
            "usr/lib/raspi-config/init_resize.sh": "#!/bin/sh\n",
            "etc/network/interfaces": "source /etc/network/interfaces.d/*\n",
            "etc/systemd/system/dhcpcd.service": To("/dev/null"),
            "etc/systemd/system/systemd-resolved.service": To("/dev/null"),
            **{f"lib/modules/4.19.97{suffix}+/modules.dep": "" for suffix in ("", "-v7", "-v7l")},
            "etc/cloud/cloud.cfg": "datasource_list: [ NoCloud ]\n" + _cloud_cfg(),
            **{f"{SEEDS}/{name}": To(f"/boot/{name}") for name in link},
        },
        label="HypriotOS",
        root_label="root",
        size=64,
        merged=False,
        arch="armhf",
        programs=("usr/bin/cloud-init", "sbin/ifup", "sbin/ifdown", "sbin/ifquery"),
        units=(*_cloud_units(), "dhcpcd.service", "network-online.target/networking.service"),
        python="3.7",
        packages={"cloud-init": "20.2-2~deb10u1", "ifupdown": "0.8.35"},
    )


def _debian_raspi() -> Layout:
    release = "6.1.0-13-arm64"
    return Layout(
        boot={
            "config.txt": f"arm_64bit=1\nenable_uart=1\nupstream_kernel=1\nkernel=vmlinuz-{release}\ninitramfs initrd.img-{release}\n",
            "cmdline.txt": "console=tty0 console=ttyS1,115200 root=LABEL=RASPIROOT rw fsck.repair=yes net.ifnames=0 rootwait\n",
            f"vmlinuz-{release}": kernel(),
            f"initrd.img-{release}": "initrd",
            "sysconf.txt": "#root_authorized_key=\n",
        },
        root={
            "etc/os-release": _release("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)"),
            "etc/fstab": "LABEL=RASPIROOT / ext4 rw 0 1\nLABEL=RASPIFIRM /boot/firmware vfat rw 0 2\n",
            "etc/machine-id": "",
            "boot/firmware/": "",
            "etc/network/interfaces": "source /etc/network/interfaces.d/*\n",
            "etc/network/interfaces.d/eth0": "auto eth0\niface eth0 inet dhcp\n",
            f"usr/lib/modules/{release}/modules.dep": "",
            "etc/systemd/system/multi-user.target.requires/rpi-generate-ssh-host-keys.service": To(
                "../rpi-generate-ssh-host-keys.service"
            ),
        },
        label="RASPIFIRM",
        root_label="RASPIROOT",
        start=4,
        size=508,
        programs=("usr/sbin/ifup", "usr/sbin/ifdown", "usr/sbin/ifquery", "usr/sbin/parted"),
        units=("networking.service",),
        packages={"ifupdown": "0.8.41"},
    )


def _centos() -> Layout:
    return Layout(
        boot={
            "config.txt": "# a place for options of yours\n",
            "cmdline.txt": "console=ttyAMA0,115200 console=tty1 root=/dev/mmcblk0p3 rootfstype=ext4 elevator=deadline rootwait\n",
            "kernel7.img": "zImage",
        },
        root={
            "etc/os-release": _release("centos", "7", "", "CentOS Linux 7 (AltArch)"),
            "etc/fstab": f"UUID={SERIAL}  /boot  vfat  defaults,noatime  0 0\nUUID=8a1f swap swap defaults 0 0\nUUID=77d0  /  ext4  defaults  0 0\n",
            "boot/": "",
            "etc/rc.d/rc3.d/S10network": To("../init.d/network"),
            "etc/rc3.d": To("rc.d/rc3.d"),
            "etc/sysconfig/network-scripts/network-functions": "# functions\n",
            "etc/NetworkManager/NetworkManager.conf": "[main]\n",
            "usr/lib/modules/4.19.104-v7.1.el7/modules.dep": "",
            "usr/bin/python2.7": program("armhf"),
        },
        label="boot",
        root_label="rootfs",
        size=300,
        swap=512,
        arch="armhf",
        programs=("usr/sbin/ifup", "usr/sbin/ifdown", "usr/bin/nmcli", "usr/bin/growpart"),
        units=("NetworkManager.service", "chronyd.service"),
    )


def _debian(version: str, codename: str, cloud_init: str, python: str) -> Layout:
    release = {"11": "5.10.0-36-arm64", "12": "6.1.0-40-arm64", "13": "6.12.48+deb13-arm64"}[version]
    return Layout(
        boot={
            "config.txt": "[all]\narm_64bit=1\nkernel=vmlinuz\ninitramfs initrd.img followkernel\ncmdline=cmdline.txt\nupstream_kernel=1\n",
            "cmdline.txt": "console=serial0,115200 console=tty1 root=LABEL=writable rootfstype=ext4 rootwait fsck.repair=yes net.ifnames=0\n",
            "vmlinuz": kernel(),
            "initrd.img": "initrd " * 10000,
        },
        root={
            "etc/os-release": _release(
                "debian", version, codename, f"Debian GNU/Linux {version} ({codename})"
            ),
            "etc/fstab": "LABEL=writable      /               ext4  defaults,noatime            0 1\nLABEL=system-boot   /boot/firmware  vfat  defaults,umask=0077  0 2\n",
            "boot/firmware/": "",
            "etc/cloud/cloud.cfg": _cloud_cfg(),
            "etc/cloud/cloud.cfg.d/90_pibake.cfg": "datasource_list: [NoCloud, None]\n",
            "var/lib/cloud/seed/nocloud": To("/boot/firmware"),
            f"usr/lib/modules/{release}/modules.dep": "",
        },
        label="system-boot",
        root_label="writable",
        size=512,
        programs=("usr/bin/cloud-init", "usr/bin/growpart", "usr/sbin/netplan"),
        units=_cloud_units(split=version == "13"),
        python=python,
        packages={"cloud-init": cloud_init, "netplan.io": "1"},
    )


LAYOUTS: Mapping[str, Callable[[], Layout]] = {
    "ubuntu-18.04-pi3": lambda: _ubuntu(
        _Ubuntu(
            "18.04", "bionic", "20.2-45-g5f7825e2-0ubuntu1~18.04.1", "3.6", "4.15.0-1067-raspi2", merged=False
        ),
        _uboot(include=False),
    ),
    "ubuntu-18.04-pi4": lambda: _ubuntu(
        _Ubuntu(
            "18.04", "bionic", "19.4-33-gbb4131a2-0ubuntu1~18.04.1", "3.6", "5.3.0-1017-raspi2", merged=False
        ),
        _uboot(include=True),
    ),
    "ubuntu-20.04": lambda: _ubuntu(
        _Ubuntu("20.04", "focal", "22.2-0ubuntu1~20.04.3", "3.8", "5.4.0-1069-raspi"), _uboot(include=False)
    ),
    "ubuntu-22.04": lambda: _ubuntu(
        _Ubuntu("22.04", "jammy", "23.4.4-0ubuntu0~22.04.1", "3.10", "5.15.0-1061-raspi"),
        _direct("dwc_otg.lpm_enable=0"),
    ),
    "ubuntu-24.04": lambda: _ubuntu(
        _Ubuntu("24.04", "noble", "24.4.1-0ubuntu0~24.04.2", "3.12", "6.8.0-1018-raspi", size=512),
        _direct("multipath=off"),
    ),
    "ubuntu-26.04": lambda: _ubuntu(
        _Ubuntu("26.04", "resolute", "26.1-0ubuntu2", "3.14", "7.0.0-1004-raspi", size=512),
        {
            **_direct("multipath=off panic=10", "current/"),
            "autoboot.txt": "[all]\ntryboot_a_b=1\n",
            "current/state": "good\n",
        },
    ),
    "raspios-bookworm": lambda: _raspios(trixie=False),
    "raspios-trixie": lambda: _raspios(trixie=True),
    "hypriotos-rpi64": _hypriot_64,
    "hypriotos-1.12": _hypriot,
    "debian-raspi-12": _debian_raspi,
    "centos-7": _centos,
    "debian-11": lambda: _debian("11", "bullseye", "20.4.1-2+deb11u1", "3.9"),
    "debian-12": lambda: _debian("12", "bookworm", "22.4.2-1", "3.11"),
    "debian-13": lambda: _debian("13", "trixie", "25.1.4-1+deb13u1", "3.13"),
}
NAMES = tuple(LAYOUTS)
