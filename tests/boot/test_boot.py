"""One card through its life in QEMU: flashed, first boot with SSH, a second boot, and reseeded with a new address."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pibake.health import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.boot

LIMIT = "600"
VOLATILE = {
    # the resolver's own, should a base keep a file there instead of a link
    "/etc/resolv.conf",
}


class Card:
    """A node's image, its disk that is kept, and what it said at each boot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "id"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", self.key], check=True
        )

    def build(self, address: str) -> None:
        (self.folder / "cluster.yaml").write_text(
            "cluster: lab\ndomain: lab.example\n"
            "network: {subnet: 192.168.10.0/24, gateway: 192.168.10.1, dns: [192.168.10.1, 192.168.10.2]}\n"
            "defaults: {overlays: [motd], timezone: Europe/Berlin}\n"
            "users:\n  - {name: ops, ssh_keys: [{file: id.pub}], groups: [adm]}\n"
            "nodes:\n"
            f"  - {{hostname: node3, address: {address}/24, mac: 'dc:a6:32:01:02:03', labels: {{disk: ssd}}}}\n"
            "  - {hostname: node4, address: 192.168.10.14/24}\n"
        )
        motd = self.folder / "overlays/motd/etc/motd"
        motd.parent.mkdir(parents=True, exist_ok=True)
        motd.write_text("baked by pibake\n")
        self.pibake("build", "--hostname", "node3")

    def pibake(self, *arguments: str) -> str:
        argv = [sys.executable, "-m", "pibake", *arguments]
        return subprocess.run(argv, cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True).stdout

    def flash(self) -> None:
        """Let the image that `build` wrote be one that was flashed, onto a file."""
        (self.folder / "images/out/node3.img").unlink()
        self.pibake("flash", "node3", "images/out/node3.img", "--yes")

    def reseed(self) -> str:
        """Put today's seed onto the disk that was booted, as onto a card in a reader."""
        disk, raw = self.folder / "node3.qcow2", self.folder / "node3.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
        said = self.pibake("reseed", "node3", str(raw), "--yes")
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
        raw.unlink()
        return said

    @contextlib.contextmanager
    def booted(self) -> Iterator[dict[str, Any]]:
        """Boot the card with its disk; the block runs while it is up, then it is powered off through its button."""
        # a shell's background job has SIGINT ignored, and Ctrl-C is how this machine is ended
        argv = ["env", "--default-signal=INT", sys.executable, "-m", "pibake"]
        argv += ["boot", "node3", "--disk", "node3.qcow2", "--keep", "--json"]
        child = subprocess.Popen(
            [*argv, "--timeout", LIMIT, "--log", "console.log"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        try:
            text = ""
            for line in child.stdout:
                text += line
                if line == "}\n":
                    break
            assert text, (self.folder / "console.log").read_text("utf-8", "replace")[-3000:]
            said = json.loads(text)
            yield said
            child.send_signal(signal.SIGINT)
            assert child.wait(120) == (0 if said["healthy"] else 1)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()

    def ssh(self, port: int, command: str) -> str:
        argv = ["ssh", "-i", str(self.key), "-p", str(port), "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"]
        argv += [
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
        ]
        done = subprocess.run([*argv, "ops@127.0.0.1", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory, debian_13: Path) -> Card:
    assert debian_13.exists()
    made = Card(tmp_path_factory.mktemp("card"))
    made.build("192.168.10.13")
    made.flash()
    return made


@pytest.fixture(scope="module")
def first(card: Card) -> dict[str, Any]:
    """The first boot, with what SSH found while it was up."""
    with card.booted() as said:
        port = said["ssh_port"]
        said["ssh"] = {
            command: card.ssh(port, command)
            for command in (
                "hostname -f",
                "cat /sys/fs/cgroup/cgroup.controllers",
                "cat /etc/motd",
                "sudo -n id -u",
                "ip -4 -o address show scope global",
                "date +%Z",
                "getent hosts node4.lab.example",
                "systemctl is-active pibake-join.service",
                "cat /run/pibake/state.json",
            )
        }
        keys = subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", str(port), "127.0.0.1"],
            capture_output=True,
            text=True,
            check=True,
        )
        said["scanned"] = keys.stdout.split()[-1]
    return said


@pytest.fixture(scope="module")
def second(card: Card, first: dict[str, Any]) -> dict[str, Any]:
    assert first
    with card.booted() as said:
        return said


@pytest.fixture(scope="module")
def moved(card: Card, second: dict[str, Any]) -> dict[str, Any]:
    assert second
    card.build("192.168.10.99")
    words = card.reseed()
    with card.booted() as said:
        return {**said, "reseed": words}


def test_the_first_boot_is_healthy(first: dict[str, Any]) -> None:
    assert first["healthy"], [check for check in first["checks"] if not check["ok"]]
    report = first["report"]
    assert report["hostname"] == "node3"
    assert report["addresses"]
    assert "192.168.10.13/24" in next(iter(report["addresses"].values()))
    assert report["dns"]["servers"] == ["192.168.10.1", "192.168.10.2"]
    assert "memory" in report["cgroup"]["controllers"]
    assert report["failed_units"] == {}
    assert report["cloud_init"]["errors"] == []
    assert report["cloud_init"]["warnings"] == []
    assert report["system"] == "running"


def test_the_kernel_was_given_each_cgroup_flag_once(first: dict[str, Any]) -> None:
    words = first["report"]["cmdline"].split()
    assert [words.count(f) for f in ("cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory")] == [
        1,
        1,
        1,
    ]


def test_ssh_lets_the_given_key_in_and_shows_the_node(first: dict[str, Any]) -> None:
    ssh = first["ssh"]
    assert ssh["hostname -f"] == "node3.lab.example"
    assert "memory" in ssh["cat /sys/fs/cgroup/cgroup.controllers"].split()
    assert ssh["cat /etc/motd"] == "baked by pibake"
    assert ssh["sudo -n id -u"] == "0"
    assert "192.168.10.13/24" in ssh["ip -4 -o address show scope global"]
    assert ssh["date +%Z"] in {"CET", "CEST"}
    assert ssh["getent hosts node4.lab.example"].split()[0] == "192.168.10.14"
    assert ssh["systemctl is-active pibake-join.service"] == "active"
    assert json.loads(ssh["cat /run/pibake/state.json"])["stage"] == "scrubbed"


def test_the_host_key_that_ssh_shows_is_the_one_the_report_names(first: dict[str, Any]) -> None:
    assert (
        fingerprint(f"ssh-ed25519 {first['scanned']}")
        == first["report"]["host_keys"]["ssh_host_ed25519_key.pub"]
    )


def test_the_root_file_system_grew_to_the_disk(first: dict[str, Any]) -> None:
    assert first["report"]["root_bytes"] > 6.5 * (1 << 30)


def test_a_second_boot_changes_nothing(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert second["healthy"], [check for check in second["checks"] if not check["ok"]]
    before, after = first["report"], second["report"]
    assert after["cloud_init"]["instance_id"] == before["cloud_init"]["instance_id"]
    assert after["host_keys"] == before["host_keys"]
    changed = {
        path
        for path in before["files"].keys() | after["files"].keys()
        if before["files"].get(path) != after["files"].get(path)
    }
    assert changed - VOLATILE == set()


def test_a_new_seed_on_the_old_disk_is_applied(moved: dict[str, Any], first: dict[str, Any]) -> None:
    assert "192.168.10.13/24 -> 192.168.10.99/24" in moved["reseed"]
    assert moved["healthy"], [check for check in moved["checks"] if not check["ok"]]
    report = moved["report"]
    assert [a for found in report["addresses"].values() for a in found] == ["192.168.10.99/24"]
    assert "192.168.10.99 node3.lab.example node3" in report["hosts"]
    assert report["cloud_init"]["instance_id"] != first["report"]["cloud_init"]["instance_id"]


def test_nothing_of_a_test_boot_is_left_on_the_image(card: Card, moved: dict[str, Any]) -> None:
    assert moved
    digest = subprocess.run(
        ["sha256sum", "-c", "node3.img.sha256"], cwd=card.folder / "images/out", check=False
    )
    assert digest.returncode == 0
