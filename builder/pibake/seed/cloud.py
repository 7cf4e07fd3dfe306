"""The seed of a node with cloud-init: its user-data and network-config.

The user-data names only modules and keys that every cloud-init since 0.7.9 has, in the order of stages all of them share:
bootcmd, write_files, users, runcmd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake import network, resources
from pibake.seed.archive import SECRETS_FILE
from pibake.seed.own import PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.plan import NodePlan
    from pibake.system import System
    from pibake.tree import Tree

CLOCK = (
    "t=$(sed -n 's/.*pibake\\.clock=\\([0-9]*\\).*/\\1/p' /proc/cmdline); "
    '[ "$(date +%s)" -ge "${t:-0}" ] || date -u -s "@$t"'
)
UNPACK = (
    "for folder in /boot/firmware /boot; do "
    f'if [ -s "$folder/{SECRETS_FILE}" ]; then rm -f /etc/ssh/ssh_host_*; tar -C / -xpf "$folder/{SECRETS_FILE}"; break; fi; '
    "done"
)
KEEP_KEYS = (
    "for unit in /lib/systemd/system/regenerate_ssh_host_keys.service; do "
    '[ ! -e "$unit" ] || systemctl mask --now "${unit##*/}"; done'
)
"""Raspberry Pi OS makes new host keys at the first boot, and removes those that are there (raspberrypi-sys-mods)."""
NO_APT = "systemctl stop apt-daily.timer apt-daily-upgrade.timer 2> /dev/null || :"
SET_PASSWORDS = f"[ ! -s /{PASSWORDS} ] || {{ chpasswd -e < /{PASSWORDS} && rm /{PASSWORDS}; }}"


def files(
    node: NodePlan,
    keys: Mapping[str, Sequence[str]],
    written: Tree,
    secret: Tree,
    system: System,
    *,
    early: bool,
    starts_join: bool,
) -> dict[str, bytes]:
    """Return user-data and, if cloud-init is to configure the network, network-config.

    Args:
        node: what the node is.
        keys: public SSH keys by user name.
        written: files that cloud-init puts onto the root file system.
        secret: what stands in the archive of secrets.
        system: what the base's image says of its system.
        early: whether the network is configured by files that are there before cloud-init starts.
        starts_join: whether the joining unit comes with the seed, and so is to be enabled.
    """
    asking = [f"systemctl mask --now --no-block {' '.join(system.wizard)}"] if system.wizard else []
    boot = [CLOCK, *([UNPACK, KEEP_KEYS] if len(secret) else []), *asking, *([NO_APT] if node.member else [])]
    user_data = resources.render(
        "cloud-init/user-data.j2",
        node=node,
        keys=keys,
        files=list(written),
        host_key=any(path.startswith("etc/ssh/") for path, _ in secret),
        boot_commands=boot,
        first_commands=[*([SET_PASSWORDS] if PASSWORDS in secret.files else []), *network.commands(node)],
        starts_join=starts_join,
    ).encode()
    found = {"user-data": user_data}
    if not early and system.cloud_init:
        found["network-config"] = network.network_config(node, system.cloud_init).encode()
    return found
