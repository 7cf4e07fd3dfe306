"""What shows that an image is not as its vendor made it, or would ask a person questions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pibake.image.inspect.boot import texts_of
from pibake.image.inspect.cloud import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pibake.image.inspect.boot import Boot
    from pibake.image.inspect.root import Root

WIZARDS = (
    "initial-setup-text.service", "initial-setup.service", "initial-setup-graphical.service",
    "initial-setup-reconfiguration.service", "oem-config.service", "userconfig.service",
)  # fmt: skip
"""Units that ask for a user or a keyboard at the first boot."""
LEFT = ("custom.toml", "rpi-preseed.toml", "firstrun.sh", "userconf.txt", "userconf", "ssh", "ssh.txt", "wpa_supplicant.conf",
        "pibake-secrets.tar")  # fmt: skip
"""Files that somebody puts on a boot partition: Raspberry Pi Imager, people, pibake."""
ACTS = ("bootcmd", "hostname", "packages", "ssh_authorized_keys", "ssh_import_id", "write_files", "runcmd")
LOGINS = ("hashed_passwd", "passwd", "ssh_authorized_keys", "ssh_import_id")
BLANK = {"hostname": "black-pearl", "runcmd": ["systemctl restart avahi-daemon"]}
"""What HypriotOS' own user-data sets."""
BAKED = "HYPRIOT_DEVICE="
"""HypriotOS' images, which say this in os-release, come with a machine-id and host keys from when they were built."""


def customised(root: Root, boot: Boot, mount: str, commands: Iterable[str], files: Iterable[str]) -> str:
    """Return what shows that somebody has made a node of an image before, "" if nothing does.

    Args:
        root: the system.
        boot: its boot partition.
        mount: where the system mounts that, without leading slash.
        commands: the kernel's command lines.
        files: names of the seed's files.
    """
    return "; ".join([*_of_system(root), *_of_seed(boot, files), *_of_boot(boot, mount, commands)])


def wizards(root: Root) -> tuple[str, ...]:
    """Return the enabled units that would ask a person questions at the first boot."""
    return tuple(unit for unit in WIZARDS if root.enabled(unit))


def _of_system(root: Root) -> Iterator[str]:
    if BAKED not in root.text("etc/os-release"):
        if root.text("etc/machine-id").strip() not in {"", "uninitialized"}:
            yield "/etc/machine-id is set"
        if keys := [name for name in root.names("etc/ssh") if re.fullmatch(r"ssh_host_\w+_key", name)]:
            yield f"SSH host keys are there (/etc/ssh/{keys[0]})"
    if root.files.find("var/lib/cloud/instance", follow=False)[1] or root.names("var/lib/cloud/instances"):
        yield "cloud-init has run (/var/lib/cloud/instance)"
    if root.has("etc/pibake"):
        yield "pibake has been here (/etc/pibake)"


def _of_seed(boot: Boot, files: Iterable[str]) -> Iterator[str]:
    name = next(iter(files), "user-data")
    text = texts_of(boot, [boot.find(name)])[0] if boot.find(name) else ""
    data = parse(text)
    if not isinstance(data, dict):
        yield f"{name} on the boot partition is a script, or no YAML"
        return
    acts = [key for key in ACTS if data.get(key) and data[key] != BLANK.get(key)]
    if any(isinstance(user, dict) and any(map(user.get, LOGINS)) for user in _list(data.get("users"))):
        acts.append("users")
    if acts:
        yield f"{name} on the boot partition sets {', '.join(acts)}"


def _of_boot(boot: Boot, mount: str, commands: Iterable[str]) -> Iterator[str]:
    for name in boot.present(LEFT):
        yield f"/{mount}/{name} is there"
    for word in dict.fromkeys(word for command in commands for word in command.split()):
        if word.startswith(("systemd.run=", "ds=nocloud;")):
            yield f"the kernel command line has {word}"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
