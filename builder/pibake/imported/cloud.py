"""cloud-init's user-data -> a draft: which keys are carried over, which pibake sees to itself, which are left, and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.config import names, values
from pibake.imported import logins, people, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.imported.document import Value
    from pibake.imported.values import Draft

OWN = {
    "manage_etc_hosts": "pibake writes /etc/hosts, with every node in it",
    "preserve_hostname": "the name comes from cluster.yaml",
    "prefer_fqdn_over_hostname": "the full name is the short one and the domain",
    "growpart": "the root file system grows by itself",
    "resize_rootfs": "the root file system grows by itself",
    "disable_root": "root's login stays closed",
    "ssh_deletekeys": "pibake issues the host keys",
    "ssh_genkeytypes": "pibake issues the host keys",
    "manage_resolv_conf": "name servers come from cluster.yaml",
}
"""What pibake does anyway."""

PACKAGES = "a card is made of what its base holds"
LEFT = {
    "bootcmd": "pibake runs no commands of yours",
    "packages": "name them in `packages:` of the cluster.yaml: they are baked in",
    "package_reboot_if_required": PACKAGES,
    "snap": f"{PACKAGES}: use a base of your own",
    "apt": "sources and settings of apt: put files for etc/apt into an overlay",
    "ntp": "the base keeps its own time service: put its configuration into an overlay",
    "ssh_keys": "pibake issues the host keys",
    "password": f"{logins.NO_CLEAR}; {logins.HASH_HINT}",
    "phone_home": "pibake has its own: see `phone_home` under `kubernetes`",
    "power_state": "a node goes on running",
    "mounts": "put a systemd mount unit into an overlay",
    "swap": "Kubernetes wants none",
    "fs_setup": "the layout of the card is that of its base",
    "disk_setup": "the layout of the card is that of its base",
    "ca_certs": "put the certificate into an overlay, and run update-ca-certificates in a base of your own",
    "keyboard": "a node has no keyboard: put etc/default/keyboard into an overlay",
    "rpi": "interfaces of the board are switched on in config.txt, which is that of the base",
    "network": "cloud-init ignores it in user-data: it belongs into network-config",
    "final_message": "nobody reads it",
    "ssh_pwauth": "SSH takes keys only",
    "groups": "groups are made for the users in them",
}
UPDATES = frozenset({"package_update", "package_upgrade", "apt_update", "apt_upgrade"})
DOCKER = frozenset({"docker", "docker-compose"})


def user_data(draft: Draft, top: Value) -> None:
    """Read the mapping of a user-data file; users before what changes them, the rest in its order."""
    later: list[tuple[str, Value]] = []
    for key, value in top.pairs.items():
        plain = key.replace("-", "_")
        if plain in {"chpasswd", "ssh_authorized_keys"}:
            later.append((plain, value))
        elif reader := READERS.get(plain):
            if not value.nothing:
                reader(draft, value)
        else:
            _setting(draft, key, plain, value)
    for plain, value in later:
        (logins.chpasswd if plain == "chpasswd" else logins.more_keys)(draft, value)


def meta_data(draft: Draft, top: Value) -> None:
    """Read a meta-data file, whose name counts where user-data has none."""
    named = top.get("local_hostname", "hostname")
    if named and not draft.hostname:
        _hostname(draft, named)


def _setting(draft: Draft, key: str, plain: str, value: Value) -> None:
    off = value.kind == "text" and not value.flag and value.text.lower() in {"", "false", "no", "off", "0"}
    if plain in UPDATES:
        if off:
            draft.carried(value.place, key, "no packages change at boot")
        else:
            draft.left(value.place, key, PACKAGES)
    elif plain == "ssh_pwauth" and off:
        draft.carried(value.place, key, "SSH takes keys only")
    elif plain in OWN and not (plain == "disable_root" and off):
        draft.carried(value.place, key, OWN[plain])
    elif plain == "disable_root":
        draft.left(value.place, key, OWN[plain])
    elif plain.startswith("apt_"):
        draft.left(value.place, key, LEFT["apt"])
    else:
        draft.left(value.place, key, LEFT.get(plain, "pibake has nothing that corresponds to it"))


def _hostname(draft: Draft, value: Value) -> None:
    """Take a name; lower case, because Kubernetes' node names are."""
    text = value.text.lower()
    key = value.key.text if value.key else "hostname"
    if not draft.checked(value.place, key, text, names.hostname):
        return
    short, _, domain = text.partition(".")
    if key == "fqdn":
        draft.domain = domain
        if draft.hostname and draft.hostname != short:
            draft.left(value.place, key, f"its first part is not the hostname {draft.hostname}")
            return
    draft.hostname, draft.domain = short, draft.domain or domain
    draft.carried(value.place, key, text if text == value.text else f"{text}: names are in lower case")


def _fqdn_aware_hostname(draft: Draft, value: Value) -> None:
    # to cloud-init, `hostname` wins over the first part of `fqdn`, wherever they stand
    draft.hostname = ""
    _hostname(draft, value)


def _locale(draft: Draft, value: Value) -> None:
    if draft.checked(value.place, "locale", value.text, values.locale):
        draft.locale = value.text
        draft.carried(value.place, "locale", value.text)


def _timezone(draft: Draft, value: Value) -> None:
    timezone(draft, value.text, value.place)


def timezone(draft: Draft, text: str, place: str) -> None:
    """Take a time zone."""
    if draft.checked(place, "timezone", text, values.timezone):
        draft.timezone = text
        draft.carried(place, "timezone", text)


def _runcmd(draft: Draft, value: Value) -> None:
    """Say for each command what it would have run; only the program's name, since arguments may be secrets."""
    for item in value.items:
        words = [one.text for one in item.items] if item.kind == "list" else item.text.split()
        program = next(iter(words), "")
        shown = program if re.fullmatch(r"[A-Za-z0-9/_.+-]{1,60}", program) else "..."
        if program in DOCKER:
            why = "nodes run containers by Kubernetes: make a Deployment of it"
        elif program in {"ifup", "ifdown", "wpa_cli", "rfkill", "dhcpcd"}:
            why = "pibake brings the network up itself"
        elif words[:2] == ["systemctl", "restart"] and words[-1:] == ["avahi-daemon"]:
            why = "the name is right from the start"
        elif program == "systemctl" and words[-1] in {"ssh", "sshd", "ssh.service"}:
            why = "sshd runs anyway"
        else:
            why = "pibake runs no commands of yours; a unit in an overlay can"
        draft.left(item.place, f"runcmd {shown}", why)


READERS: dict[str, Callable[[Draft, Value], None]] = {
    "hostname": _fqdn_aware_hostname,
    "fqdn": _hostname,
    "locale": _locale,
    "timezone": _timezone,
    "users": people.users,
    "user": people.main_user,
    "write_files": written.write_files,
    "runcmd": _runcmd,
}
