"""The cloud-init of an image: whether it runs, where its NoCloud data source finds a seed, what it can configure.

Read as cloud-init reads it itself (cloudinit/settings.py, net/renderers.py, sources/DataSourceNoCloud.py, at the
versions that the comments name).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pibake.errors import ImageError
from pibake.system import CloudInit, Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pibake.image.inspect.root import Root

Config = dict[str, Any]
UNITS = ("cloud-init.service", "cloud-init-network.service", "cloud-init-main.service")
"""Under which of these names it runs depends on the version: the last two since 24.3."""
TARGETS = ("cloud-init.target", "cloud-init-local.service")
RENDERERS = {
    "eni": Network.IFUPDOWN,
    "sysconfig": Network.IFCFG,
    "netplan": Network.NETPLAN,
    "network-manager": Network.NETWORK_MANAGER,
    "networkd": Network.NETWORKD,
}
"""cloud-init's names of its renderers, in the order in which it tries them by default."""
SINCE = {"networkd": (21, 3), "network-manager": (22, 2)}
RED_HAT = {"almalinux", "centos", "cloudlinux", "fedora", "openeuler", "rhel", "rocky"}
"""IDs of os-release for which cloud-init writes ifcfg files."""
SBIN = ("sbin", "usr/sbin")
LARGEST = 256 << 10
"""Bytes of YAML that are read; cloud-init's own files have some thousand."""


@dataclass(frozen=True)
class Cloud:
    """A cloud-init that runs: its version, as text and as numbers, its configuration, and the kernel's words."""

    version: str
    release: tuple[int, ...]
    config: Mapping[str, Any]
    words: frozenset[str]


def read(root: Root, words: frozenset[str]) -> Cloud | None:
    """Return the cloud-init that starts at boot, None without one; `words` are those of the kernel's command lines.

    Raises:
        ImageError: its version or its configuration cannot be told.
    """
    if not root.program("cloud-init") or not _runs(root, words):
        return None
    version = _version(root)
    return Cloud(version, CloudInit(version, "", (), ()).release, _configuration(root), words)


def _version(root: Root) -> str:
    """Return the version of the cloud-init that is installed, without the packaging's part."""
    stanza = re.search(
        r"^Package: cloud-init\n(.+\n)+?(?=\n|\Z)", root.text("var/lib/dpkg/status") + "\n", re.MULTILINE
    )
    if stanza and (found := re.search(r"^Version: (?:\d+:)?(\d+(?:\.\d+)*)", stanza[0], re.MULTILINE)):
        return found[1]
    pythons = [f"usr/lib/{name}" for name in root.names("usr/lib") if re.match(r"python\d", name)]
    for folder in (f"{python}/{kind}" for python in pythons for kind in ("site-packages", "dist-packages")):
        for name in root.names(folder):
            if found := re.match(r"cloud_init-(\d+(?:\.\d+)*)[^/]*\.(?:egg|dist)-info", name):
                return found[1]
    raise ImageError(
        f"{root.image.name}: there is a cloud-init, but its version cannot be told: looked in dpkg's status and for "
        "cloud_init-*.egg-info in Python's folders",
        "which seed it reads depends on the version: use a base with a packaged cloud-init",
    )


def _runs(root: Root, words: Iterable[str]) -> bool:
    """Return whether cloud-init starts at boot."""
    if "cloud-init=disabled" in words or root.has("etc/cloud/cloud-init.disabled"):
        return False
    if any(map(root.masked, (*UNITS, *TARGETS))):
        return False
    return any(map(root.enabled, UNITS))


def _configuration(root: Root) -> Config:
    """Return cloud.cfg with the files of cloud.cfg.d over it, as cloud-init merges them.

    Raises:
        ImageError: one of them is no YAML.
    """
    folder = "etc/cloud/cloud.cfg.d"
    merged: Config = {}
    for path in ("etc/cloud/cloud.cfg", *(f"{folder}/{name}" for name in root.names(folder))):
        value = parse(root.text(path))
        if value is None:
            raise ImageError(
                f"{root.image.name}: /{path} is no YAML that pibake can read",
                "cloud-init would leave it out with a warning: mend it in the image",
            )
        merged = _over(merged, value) if isinstance(value, dict) else merged
    return merged


def parse(text: str) -> Any:
    """Return the value of a YAML text, {} for an empty one, None for one that cannot be read."""
    if len(text) > LARGEST:
        return None
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    return {} if value is None else value


def section(config: Mapping[str, Any], *keys: str) -> Config:
    """Return a mapping inside others, empty if it is not there or something else."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def grows(root: Root, cloud: Cloud) -> bool:
    """Return whether it enlarges the root file system: both modules are asked for, and their tools are there."""
    config = cloud.config
    listed = config.get("cloud_init_modules")
    modules = (
        {str(m[0] if isinstance(m, list) and m else m).replace("_", "-") for m in listed}
        if isinstance(listed, list)
        else set()
    )
    off = str(section(config, "growpart").get("mode")).lower() in {"off", "false"}
    off = off or str(config.get("resize_rootfs")).lower() == "false"
    return (
        {"growpart", "resizefs"} <= modules
        and not off
        and root.program("growpart")
        and root.program("resize2fs")
    )


def renders(root: Root, cloud: Cloud, os: str) -> tuple[Network, ...]:
    """Return the programs it can hand a network configuration to, in the order in which it would choose.

    None if the seed's does not come through: `network` in its own configuration goes before. Those after one that it
    would choose in vain are left out as well.
    """
    config, release = cloud.config, cloud.release
    if isinstance(config.get("network"), dict) or "network-config=disabled" in cloud.words:
        return ()
    listed = section(config, "system_info", "network").get("renderers")
    order = [str(name) for name in listed] if isinstance(listed, list) else list(RENDERERS)
    if release < (17, 1):  # the distribution's class decided
        order = ["sysconfig"] if os in RED_HAT else ["eni"]
    found = tuple(
        RENDERERS[name]
        for name in order
        if name in RENDERERS and release >= SINCE.get(name, ()) and _available(name, root, release, os)
    )
    # it takes networkd for there because systemd is, also where nothing starts it
    dead = Network.NETWORKD in found and not root.enabled("systemd-networkd.service")
    return found[: found.index(Network.NETWORKD)] if dead else found


def _available(name: str, root: Root, release: tuple[int, ...], os: str) -> bool:
    match name:
        case "eni":
            there = all(root.program(tool, SBIN) for tool in ("ifquery", "ifup", "ifdown"))
            return there and root.has("etc/network/interfaces")
        case "sysconfig":
            scripts = ("etc/sysconfig/network-scripts/network-functions", "etc/sysconfig/config")
            there = root.program("ifup", SBIN) and any(map(root.has, scripts))
            managed = (19, 1) <= release < (22, 2) and root.has("etc/NetworkManager/NetworkManager.conf")
            return os in RED_HAT and (there or managed)
        case "netplan":
            return root.program("netplan", SBIN)
        case "network-manager":
            configured = release >= (24, 1) or root.has("etc/NetworkManager/NetworkManager.conf")
            return configured and root.program("nmcli") and root.enabled("NetworkManager.service")
        case _:
            return root.program("ip") and root.program("systemctl")


def _over(below: Config, above: Config) -> Config:
    """Return two mappings as one; where both have a value that is no mapping, the one above counts."""
    merged = {**below, **above}
    for key, value in below.items():
        if isinstance(value, dict) and isinstance(above.get(key), dict):
            merged[key] = _over(value, above[key])
    return merged
