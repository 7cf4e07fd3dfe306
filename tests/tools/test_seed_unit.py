"""The programs of systems without cloud-init or without Python, run by sh on a folder in place of the root file system."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.seeding import DEBIAN, on

from pibake import resources
from pibake.plan import Wifi
from pibake.secret import Secret
from pibake.seed import FILES_FILE, SECRETS_FILE, Seed, seed
from pibake.system import Growth, Network, System
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan

BARE = dataclasses.replace(DEBIAN, cloud_init=None, network=Network.NETWORK_MANAGER, growth=Growth.PIBAKE)
PROGRAM = resources.path("overlays", "seed", "usr/local/lib/pibake/seed")
SHELL = resources.path("overlays", "shell", "usr/local/lib/pibake/join")
TOOLS = ("useradd", "usermod", "groupadd", "chpasswd", "ssh-keygen", "udevadm", "systemctl", "netplan", "resize2fs",
         "growpart", "locale-gen", "install", "date")  # fmt: skip


def render(node: NodePlan, system: System = BARE, overlays: Tree | None = None) -> Seed:
    keys = {user.name: [key.text for key in user.ssh_keys] for user in node.users}
    return seed(node, keys, overlays or Tree(), **on("root=x", system=system), epoch=1)


class Guest:
    """A root file system in a folder, with tools that only say how they were called."""

    def __init__(self, folder: Path) -> None:
        self.root, self.tools = folder / "root", folder / "tools"
        self.tools.mkdir()
        for path in ("boot/firmware", "proc/sys/kernel", "etc/ssh", "etc/default", "etc/apt", "var/lib"):
            (self.root / path).mkdir(parents=True)
        (self.root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
        (self.root / "proc/cmdline").write_text("root=x pibake.clock=1\n")
        (self.root / "proc/uptime").write_text("12.50 3.00\n")
        (self.root / "etc/resolv.conf").symlink_to("../run/resolv.conf")
        for name in TOOLS:
            self.tool(name, f'echo "{name} $*" >> {folder}/calls')
        self.tool(
            "getent", f'[ "$1 $2" = "passwd root" ] || exit 2; echo "root:x:0:0::{self.root}/home:/bin/sh"'
        )
        self.tool("date", 'case $1 in +%s) echo 1700000000;; *) echo "date $*";; esac')
        self.calls = folder / "calls"

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def card(self, given: Seed) -> None:
        given.tree.write(self.root / "boot/firmware")

    def run(self, program: Path, check: bool = True) -> str:
        # the program sets PATH by itself, so its copy gets one that finds these tools first
        copy = self.tools / "program"
        copy.write_text(
            program.read_text().replace("PATH=/usr/local/sbin:", f"PATH={self.tools}:/usr/local/sbin:")
        )
        done = subprocess.run(
            ["sh", str(copy)], capture_output=True, text=True, check=False, timeout=30,
            env={**os.environ, "PIBAKE_ROOT": str(self.root), "PIBAKE_PAUSE": "0.1"},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def said(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="the program runs as root on a node, and gives files to root")
class TestAsRoot:
    def test_the_files_of_the_seed_are_laid_in_place_with_their_modes(
        self, guest: Guest, plain_node: NodePlan
    ) -> None:
        guest.card(render(plain_node))
        assert "node3 has its seed" in guest.run(PROGRAM)
        keyfile = next((guest.root / "etc/NetworkManager/system-connections").iterdir())
        assert keyfile.stat().st_mode & 0o777 == 0o600
        assert (guest.root / "etc/hostname").read_text() == "node3\n"
        assert (guest.root / "proc/sys/kernel/hostname").read_text() == "node3\n"
        assert (guest.root / "etc/localtime").readlink() == Path("../usr/share/zoneinfo/Europe/Berlin")
        assert (guest.root / "etc/sudoers.d/90-pibake").stat().st_mode & 0o777 == 0o440
        assert json.loads((guest.root / "etc/pibake/node.json").read_text())["address"] == "192.168.10.13"

    def test_users_are_made_with_their_groups_and_passwords(self, guest: Guest, plain_node: NodePlan) -> None:
        guest.card(render(plain_node))
        guest.run(PROGRAM)
        calls = guest.said()
        assert "useradd -m -U -s /bin/bash ops" in calls
        assert "useradd -m -U -s /bin/sh bob" in calls
        assert "usermod -a -G adm ops" in calls
        assert "chpasswd -e" in calls
        assert not (guest.root / "etc/pibake/passwords").exists()

    def test_nothing_is_done_twice_for_the_same_seed(self, guest: Guest, plain_node: NodePlan) -> None:
        guest.card(render(plain_node))
        guest.run(PROGRAM)
        (guest.root / "etc/hostname").write_text("renamed\n")
        before = guest.said()
        assert guest.run(PROGRAM) == ""
        assert guest.said() == before
        assert (guest.root / "etc/hostname").read_text() == "renamed\n"

    def test_another_seed_takes_away_what_the_old_one_brought(
        self, guest: Guest, plain_node: NodePlan
    ) -> None:
        guest.card(render(plain_node, overlays=Tree({"etc/motd": File(b"old\n")})))
        guest.run(PROGRAM)
        assert (guest.root / "etc/motd").exists()
        guest.card(render(plain_node))
        guest.run(PROGRAM)
        assert not (guest.root / "etc/motd").exists()
        assert (guest.root / "etc/hosts").exists()

    def test_a_link_in_the_way_is_replaced_and_not_followed(self, guest: Guest, plain_node: NodePlan) -> None:
        system = dataclasses.replace(BARE, network=Network.IFUPDOWN)
        guest.card(render(plain_node, system))
        guest.run(PROGRAM)
        assert not (guest.root / "etc/resolv.conf").is_symlink()
        assert "nameserver 192.168.10.1" in (guest.root / "etc/resolv.conf").read_text()

    def test_an_archive_that_is_cut_off_is_said_and_changes_nothing(
        self, guest: Guest, plain_node: NodePlan
    ) -> None:
        guest.card(render(plain_node))
        path = guest.root / "boot/firmware" / FILES_FILE
        path.write_bytes(path.read_bytes()[:200])
        assert "pibake-seed.tar cannot be read" in guest.run(PROGRAM, check=False)
        assert not (guest.root / "var/lib/pibake/seed-id").exists()
        assert not (guest.root / "etc/hostname").exists()

    def test_a_wi_fi_key_is_with_the_secrets_and_reaches_its_place(
        self, guest: Guest, plain_node: NodePlan
    ) -> None:
        node = dataclasses.replace(plain_node, wifi=Wifi("lab", Secret("ab" * 32), "DE"))
        given = render(node)
        assert [path for path, file in given.tree if b"ab" * 32 in file.data] == [SECRETS_FILE]
        guest.card(given)
        guest.run(PROGRAM)
        found = [
            p
            for p in (guest.root / "etc/NetworkManager/system-connections").iterdir()
            if "ab" * 32 in p.read_text()
        ]
        assert [path.stat().st_mode & 0o777 for path in found] == [0o600]

    def test_without_a_folder_of_settings_sshd_gets_them_at_its_top(
        self, guest: Guest, plain_node: NodePlan
    ) -> None:
        config = guest.root / "etc/ssh/sshd_config"
        config.write_text("Port 22\nPasswordAuthentication yes\n")
        guest.card(render(plain_node))
        guest.run(PROGRAM)
        words = [
            line for line in config.read_text().splitlines() if line.startswith("PasswordAuthentication")
        ]
        assert words == ["PasswordAuthentication no", "PasswordAuthentication yes"]

    def test_a_system_without_python_tells_the_same_stages(self, guest: Guest, plain_node: NodePlan) -> None:
        guest.card(render(plain_node))
        guest.run(PROGRAM)
        guest.tool("ip", "echo '2: eth0    inet 192.168.10.13/24 brd 192.168.10.255 scope global eth0'")
        secrets = guest.root / "boot/firmware" / SECRETS_FILE
        assert secrets.exists()
        printed = guest.run(SHELL)
        state = json.loads((guest.root / "run/pibake/state.json").read_text())
        assert list(state["reached"]) == ["network", "clock", "install", "join", "ready", "scrubbed"]
        assert (state["node"], state["stage"], state["status"]) == ("node3", "scrubbed", "ok")
        assert "pibake: node3: network: ok (192.168.10.13 on eth0)" in printed
        assert not secrets.exists()


def test_the_programs_are_as_portable_as_they_say() -> None:
    for program in (PROGRAM, SHELL):
        assert program.read_text().startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n", program], check=True)
