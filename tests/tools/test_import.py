"""`pibake import` as a person calls it: the real command in a real folder, its streams redirected by a real shell."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.tools import command

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
HASH = "$6$salt$" + "a" * 86
USER_DATA = f"""#cloud-config
hostname: NAME
manage_etc_hosts: true
users:
  - name: pirate
    sudo: ALL=(ALL) NOPASSWD:ALL
    groups: users,docker
    plain_text_passwd: Hunter2
    lock_passwd: false
    ssh_authorized_keys: ["{KEY}"]
  - name: mate
    passwd: {HASH}
    lock_passwd: false
write_files:
  - path: /etc/network/interfaces.d/eth0
    content: |
      iface eth0 inet static
        address 192.168.1.LAST/24
        gateway 192.168.1.1
  - path: /opt/app/docker-compose.yml
    content: "services: {{}}"
  - path: /usr/local/bin/hello
    permissions: "0755"
    content: "#!/bin/sh"
runcmd:
  - docker run -e PASSWORD=Hunter2 x
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, last in (("one", "31"), ("two", "32")):
        text = USER_DATA.replace("NAME", name).replace("LAST", last)
        (tmp_path / f"{name}.yml").write_text(text)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def pibake(line: str) -> subprocess.CompletedProcess[str]:
    argv = ["sh", "-c", line.replace("pibake", f"{sys.executable} -m pibake", 1)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_file_is_written_that_plans_with_the_other_files_as_an_overlay(folder: Path) -> None:
    done = pibake("pibake import hypriot ../one.yml -o cluster.yaml")
    assert done.returncode == 0, done.stderr
    assert (folder / "overlays/one/opt/app/docker-compose.yml").read_text() == "services: {}"
    assert os.access(folder / "overlays/one/usr/local/bin/hello", os.X_OK)
    assert sorted(path.name for path in folder.iterdir()) == ["cluster.yaml", "overlays"]
    assert [path.name for path in (folder / "overlays").iterdir()] == ["one"]
    planned = command.run("plan")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.splitlines()[-1].split()[:2] == ["one", "192.168.1.31/24"]
    assert "network 192.168.1.0/24, gateway 192.168.1.1" in planned.stdout


def test_the_summary_names_every_key_with_its_line_and_no_secret(folder: Path) -> None:
    done = pibake("pibake import hypriot ../one.yml -o cluster.yaml")
    carried, left = done.stdout.split("not carried over\n")
    assert "../one.yml:2: hostname: one\n" in carried
    assert "../one.yml:20: write_files /opt/app/docker-compose.yml: a file of the overlay" in carried
    assert "../one.yml:8: users.pirate.plain_text_passwd: " in left
    assert "openssl passwd -6" in left
    assert "../one.yml:26: runcmd docker: nodes run containers by Kubernetes" in left
    assert HASH not in done.stdout + done.stderr
    assert "Hunter2" not in done.stdout + done.stderr
    text = (folder / "cluster.yaml").read_text()
    assert HASH in text
    assert "Hunter2" not in text
    assert stat.S_IMODE((folder / "cluster.yaml").stat().st_mode) == 0o600


def test_nothing_is_overwritten(folder: Path) -> None:
    (folder / "cluster.yaml").write_text("mine\n")
    done = pibake("pibake import hypriot ../one.yml -o cluster.yaml")
    assert (done.returncode, (folder / "cluster.yaml").read_text()) == (1, "mine\n")
    assert "error: cluster.yaml is already there" in done.stderr
    (folder / "overlays/one").mkdir(parents=True)
    assert pibake("pibake import hypriot ../one.yml -o other.yaml").returncode == 1
    (folder / "dangling.yaml").symlink_to("nowhere")
    assert pibake("pibake import hypriot ../two.yml -o dangling.yaml").returncode == 1
    assert sorted(path.name for path in folder.iterdir()) == ["cluster.yaml", "dangling.yaml", "overlays"]
    assert not list((folder / "overlays/one").iterdir())


def test_board_after_board_is_appended_with_the_shell(folder: Path) -> None:
    done = pibake("pibake import hypriot ../one.yml > cluster.yaml")
    assert done.returncode == 0
    assert "carried over" in done.stderr
    assert HASH not in (folder / "cluster.yaml").read_text()
    done = pibake("pibake import hypriot ../two.yml >> cluster.yaml")
    assert done.returncode == 0, done.stderr
    assert "this is an entry for `nodes` in cluster.yaml" in done.stderr
    planned = command.run("plan").stdout.splitlines()
    assert [line.split()[0] for line in planned[-2:]] == ["one", "two"]
    again = pibake("pibake import hypriot ../two.yml >> cluster.yaml")
    assert again.returncode == 1
    assert "error: cluster.yaml has a node two already" in again.stderr


def test_an_entry_says_where_the_cluster_differs(folder: Path) -> None:
    (folder / "cluster.yaml").write_text(
        f'cluster: lab\nnetwork: {{subnet: 10.0.0.0/24, gateway: 10.0.0.1}}\nusers: [{{name: ops, ssh_keys: ["{KEY}"]}}]\n'
        "nodes:\n- {hostname: a, address: 10.0.0.2}\n"
    )
    done = pibake("pibake import hypriot ../one.yml")
    assert done.stdout.startswith("- hostname: one\n  address: 192.168.1.31/24\n")
    assert "the cluster's subnet is 10.0.0.0/24, and this node was on 192.168.1.0/24" in done.stderr
    assert "the cluster has no user pirate" in done.stderr


def test_a_boot_partition_of_imagers_is_read_as_a_folder(tmp_path: Path) -> None:
    card = tmp_path / "bootfs"
    card.mkdir()
    (card / "user-data").write_text(
        f"#cloud-config\nhostname: attic\nuser:\n  name: me\n  ssh_authorized_keys: ['{KEY}']\n"
    )
    (card / "network-config").write_text(
        "version: 2\nethernets:\n  eth0: {addresses: [10.0.0.2/24], gateway4: 10.0.0.1}\n"
    )
    (card / "meta-data").write_text("instance-id: x\n")
    assert pibake("pibake import imager ../bootfs -o cluster.yaml").returncode == 0
    assert command.run("plan").stdout.splitlines()[-1].split()[:2] == ["attic", "10.0.0.2/24"]


def test_mistakes_have_their_place_and_exit_status(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("hostname: a\n")
    (tmp_path / "tab.yml").write_text("#cloud-config\nusers:\n\t- passwd: Hunter2\n")
    (tmp_path / "big.yml").write_bytes(b"#cloud-config\n" + b"#" * (1 << 20))
    (tmp_path / "empty").mkdir()
    for source, status, said in (
        ("../bad.yml", 2, "../bad.yml:1: the first line is not `#cloud-config`"),
        ("../tab.yml", 2, "../tab.yml:3:1: a tab cannot indent YAML"),
        ("../big.yml", 2, "../big.yml: the file is larger than 1 MiB"),
        ("../empty", 1, "error: ../empty has none of user-data, "),
        ("../gone.yml", 2, "'../gone.yml' does not exist"),
    ):
        done = command.run("import", "hypriot", source)
        assert done.returncode == status, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert "Hunter2" not in done.stderr
        assert not done.stdout
