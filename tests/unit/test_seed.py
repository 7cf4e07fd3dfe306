from __future__ import annotations

import dataclasses
import io
import ipaddress
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from tests.seeding import on

from pibake.errors import PibakeError
from pibake.plan import NodePlan, User
from pibake.seed import CGROUP_FLAGS, LARGEST_FILES, Seed, kernel_cmdline, seed
from pibake.tree import File, Tree

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
FLAGS = " ".join(CGROUP_FLAGS)


Make = Callable[..., NodePlan]


@pytest.fixture
def node(plain_node: NodePlan) -> Make:
    """Makes the plain node, with changes."""
    return lambda **changes: dataclasses.replace(plain_node, **changes)


def render(subject: NodePlan, overlays: Tree | None = None, epoch: int = 1_700_000_000) -> Seed:
    keys = {user.name: [key.text for key in user.ssh_keys] for user in subject.users}
    return seed(
        subject,
        keys,
        overlays or Tree(),
        **on("root=LABEL=writable"),
        epoch=epoch,
    )


def user_data(subject: NodePlan) -> dict[str, Any]:
    loaded = yaml.safe_load(render(subject).tree["user-data"].data)
    assert isinstance(loaded, dict)
    return loaded


def files(subject: NodePlan) -> dict[str, bytes]:
    import base64

    written = user_data(subject)["write_files"]
    assert isinstance(written, list)
    return {entry["path"]: base64.b64decode(entry["content"]) for entry in written}


def network(subject: NodePlan) -> dict[str, Any]:
    loaded = yaml.safe_load(render(subject).tree["network-config"].data)
    assert isinstance(loaded, dict)
    return loaded


def test_the_seed_is_the_three_files_of_nocloud_and_the_kernel_command_line(node: Make) -> None:
    ops = User("ops", (), "", sudo=True, groups=(), shell="/bin/sh")
    assert [path for path, _ in render(node(users=(ops,))).tree] == [
        "cmdline.txt",
        "meta-data",
        "network-config",
        "pibake.json",
        "user-data",
    ]


def test_hostnames_that_yaml_would_read_as_something_else_stay_names(node: Make) -> None:
    data = user_data(node(hostname="no", fqdn="no.lab.example"))
    assert data["hostname"] == "no"
    assert user_data(node(hostname="1e3", fqdn="1e3.lab.example"))["hostname"] == "1e3"


def test_every_node_of_the_cluster_is_in_etc_hosts_by_both_names(node: Make) -> None:
    lines = files(node())["/etc/hosts"].decode().splitlines()
    assert "192.168.10.13 node3.lab.example node3" in lines
    assert "192.168.10.14 node4.lab.example node4" in lines
    assert not [line for line in lines if line.startswith("127.") and "node3" in line]


def test_a_user_without_a_password_hash_has_a_locked_password(node: Make) -> None:
    user, _ = user_data(node())["users"]
    assert user["lock_passwd"] is True
    assert "passwd" not in user
    assert user["ssh_authorized_keys"] == [KEY]


def packed(made: Seed) -> dict[str, tuple[bytes, int]]:
    """Return the files of the secrets archive: content and mode."""
    with tarfile.open(fileobj=io.BytesIO(made.tree["pibake-secrets.tar"].data)) as archive:
        return {m.name: (archive.extractfile(m).read(), m.mode) for m in archive}  # type: ignore[union-attr]


def test_a_password_hash_is_in_the_secrets_and_nowhere_else(node: Make) -> None:
    ops = User("ops", (), "$6$salt$hash", sudo=False, groups=("adm",), shell="/bin/sh")
    subject = node(users=(ops,))
    (user,) = user_data(subject)["users"]
    assert user["lock_passwd"] is True
    assert user["groups"] == ["adm"]
    assert "sudo" not in user
    made = render(subject)
    assert packed(made) == {"etc/pibake/passwords": (b"ops:$6$salt$hash\n", 0o600)}
    for path in ("user-data", "meta-data", "network-config", "cmdline.txt"):
        assert b"$6$salt" not in made.tree[path].data


def test_without_a_mac_address_the_one_wired_port_gets_the_address(node: Make) -> None:
    wired = network(node())["ethernets"]["wired"]
    assert wired["match"] == {"name": "e*"}
    assert wired["addresses"] == ["192.168.10.13/24"]
    assert wired["routes"] == [{"to": "0.0.0.0/0", "via": "192.168.10.1"}]
    assert wired["nameservers"] == {"addresses": ["192.168.10.1", "1.1.1.1"], "search": ["lab.example"]}


def test_a_known_mac_address_names_the_port(node: Make) -> None:
    subject = node()
    subject = node(link=dataclasses.replace(subject.link, mac="dc:a6:32:01:02:03"))
    assert network(subject)["ethernets"]["wired"]["match"] == {"macaddress": "dc:a6:32:01:02:03"}


def test_with_a_vlan_the_address_is_on_the_vlan_and_not_on_the_port(node: Make) -> None:
    config = network(node(link=dataclasses.replace(node().link, vlan=10)))
    assert "addresses" not in config["ethernets"]["wired"]
    assert config["vlans"]["vlan10"]["id"] == 10
    assert config["vlans"]["vlan10"]["link"] == "wired"
    assert config["vlans"]["vlan10"]["addresses"] == ["192.168.10.13/24"]


def test_an_ipv6_node_gets_an_ipv6_default_route(node: Make) -> None:
    link = dataclasses.replace(
        node().link, address=ipaddress.ip_interface("fd00::13/64"), gateway=ipaddress.ip_address("fd00::1")
    )
    assert network(node(link=link))["ethernets"]["wired"]["routes"] == [{"to": "::/0", "via": "fd00::1"}]


def test_the_same_content_has_the_same_instance_id_whatever_the_time(node: Make) -> None:
    assert render(node(), epoch=1).instance_id == render(node(), epoch=2).instance_id


def test_a_changed_address_or_user_is_a_new_instance(node: Make) -> None:
    moved = dataclasses.replace(node().link, address=ipaddress.ip_interface("192.168.10.99/24"))
    ids = {render(subject).instance_id for subject in (node(), node(link=moved), node(timezone="Etc/UTC"))}
    assert len(ids) == 3


def test_overlays_are_written_with_their_modes(node: Make) -> None:
    overlay = Tree({"etc/motd": File(b"hello\n"), "usr/local/bin/x": File(b"#!/bin/sh\n", 0o755)})
    loaded = yaml.safe_load(render(node(), overlay).tree["user-data"].data)
    modes = {entry["path"]: entry["permissions"] for entry in loaded["write_files"]}
    assert modes["/etc/motd"] == "0644"
    assert modes["/usr/local/bin/x"] == "0755"


def test_overlays_that_are_too_large_for_a_seed_are_refused_by_size(node: Make) -> None:
    with pytest.raises(PibakeError, match=r"a seed carries 512\.0 KiB at most"):
        render(node(), Tree({"opt/big": File(bytes(LARGEST_FILES + 1))}))


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ("", f"{FLAGS} pibake.clock=5"),
        ("root=LABEL=writable rootwait\n", f"root=LABEL=writable rootwait {FLAGS} pibake.clock=5"),
        (f"a {FLAGS} b\n", f"a b {FLAGS} pibake.clock=5"),
        ("a cgroup_enable=memory cgroup_enable=memory b", f"a b {FLAGS} pibake.clock=5"),
        ("a cgroup_disable=memory", f"a {FLAGS} pibake.clock=5"),
        ("a cgroup_memory=0", f"a {FLAGS} pibake.clock=5"),
        ("a pibake.clock=3", f"a {FLAGS} pibake.clock=5"),
        ("a\nb\r\n\n", f"a b {FLAGS} pibake.clock=5"),
        ('dyndbg="file x +p" a', f'dyndbg="file x +p" a {FLAGS} pibake.clock=5'),
        ("a -- single", f"a {FLAGS} pibake.clock=5 -- single"),
    ],
)
def test_the_kernel_command_line_is_one_line_with_each_flag_once(existing: str, expected: str) -> None:
    assert kernel_cmdline(existing, 5) == expected + "\n"
    assert kernel_cmdline(kernel_cmdline(existing, 5), 5) == expected + "\n"
