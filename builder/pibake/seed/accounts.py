"""What cloud-init would do from user-data, as files for `pibake-seed.service`: accounts, names, time zone, growth."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pibake.system import Growth
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.plan import NodePlan
    from pibake.system import System

ACCOUNTS = "etc/pibake/accounts"
SETTINGS = "etc/pibake/seed.conf"
SSHD = b"""# Made by pibake: keys only, and nobody as root.
PasswordAuthentication no
PermitRootLogin no
"""


def files(node: NodePlan, keys: Mapping[str, Sequence[str]], system: System) -> Tree:
    """Return the files that the program overlays/seed/usr/local/lib/pibake/seed acts on.

    `accounts` has a line for each user: name, shell and further groups (with commas between), with colons between as in
    passwd(5); none of them can hold a colon. `seed.conf` is read by sh.
    """
    rows = [f"{user.name}:{user.shell}:{','.join(user.groups)}\n" for user in node.users]
    sudo = [f"{user.name} ALL=(ALL) NOPASSWD:ALL\n" for user in node.users if user.sudo]
    authorized = {
        f"etc/pibake/keys/{user.name}": File("".join(f"{key}\n" for key in keys[user.name]).encode())
        for user in node.users
        if keys[user.name]
    }
    return Tree(
        {
            "etc/hostname": File(f"{node.hostname}\n".encode()),
            "etc/ssh/sshd_config.d/00-pibake.conf": File(SSHD),
            ACCOUNTS: File("".join(rows).encode()),
            **settings(system, PIBAKE_TIMEZONE=node.timezone, PIBAKE_LOCALE=node.locale).files,
            **({"etc/sudoers.d/90-pibake": File("".join(sudo).encode(), 0o440)} if sudo else {}),
            **authorized,
        }
    )


def settings(system: System, **more: str) -> Tree:
    """Return what the program reads: `more`, and whether the root file system is its to enlarge."""
    values = {**more, "PIBAKE_GROW": "yes" if system.growth is Growth.PIBAKE else ""}
    lines = "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())
    return Tree({SETTINGS: File(lines.encode())})
