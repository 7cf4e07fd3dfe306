"""The consumer is the judge: seeds against the schemas of the very cloud-init that will read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest
import yaml
from tests.seeding import DEBIAN, on
from tests.tools.nodes import NETWORKS

from pibake import network
from pibake.image import table
from pibake.seed import seed
from pibake.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.plan import NodePlan

PACKAGE = "/usr/lib/python3/dist-packages/cloudinit"
JUDGE = "import sys; from cloudinit.cmd import main; sys.exit(main.main(['cloud-init', 'schema', '-c', sys.argv[1]]))"


@pytest.fixture(scope="module")
def cloud_init(debian_13: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python package of the base's cloud-init, taken out of its root file system."""
    folder = tmp_path_factory.mktemp("cloud-init")
    root = table.read(debian_13).partitions[1]
    argv = ["debugfs", "-R", f"rdump {PACKAGE} {folder}", f"{debian_13}?offset={root.start}"]
    subprocess.run(
        argv, check=True, capture_output=True, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
    )
    return folder


def render(node: NodePlan) -> Tree:
    keys = {user.name: [key.text for key in user.ssh_keys] for user in node.users}
    return seed(node, keys, Tree(), **on(""), epoch=0).tree


def judged(cloud_init: Path, user_data: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "ignore", "-c", JUDGE, str(user_data)]
    env = {**os.environ, "PYTHONPATH": str(cloud_init)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_cloud_init_accepts_the_user_data(
    cloud_init: Path, name: str, tmp_path: Path, plain_node: NodePlan
) -> None:
    path = tmp_path / "user-data"
    path.write_bytes(render(NETWORKS[name](plain_node))["user-data"].data)
    done = judged(cloud_init, path)
    assert done.returncode == 0, done.stderr
    assert "deprecat" not in (done.stdout + done.stderr).lower()


def test_cloud_init_refuses_user_data_that_is_wrong(
    cloud_init: Path, tmp_path: Path, plain_node: NodePlan
) -> None:
    path = tmp_path / "user-data"
    path.write_bytes(render(plain_node)["user-data"].data.replace(b"ssh_pwauth: false", b"ssh_pwaut: 3"))
    assert judged(cloud_init, path).returncode == 1


@pytest.fixture(scope="module")
def netplan(debian_13: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the base's own netplan generator, with its own libraries, through qemu-user."""
    tree = tmp_path_factory.mktemp("netplan")
    root = table.read(debian_13).partitions[1]
    (tree / "usr/lib").mkdir(parents=True)
    for folder in ("lib/aarch64-linux-gnu", "libexec/netplan"):
        target = (tree / "usr" / folder).parent
        target.mkdir(exist_ok=True)
        argv = ["debugfs", "-R", f"rdump /usr/{folder} {target}", f"{debian_13}?offset={root.start}"]
        env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
        subprocess.run(argv, check=True, capture_output=True, env=env)
    (tree / "lib").symlink_to("usr/lib")
    (tree / "lib/ld-linux-aarch64.so.1").symlink_to("aarch64-linux-gnu/ld-linux-aarch64.so.1")
    return ["qemu-aarch64-static", "-L", str(tree), str(tree / "usr/libexec/netplan/generate"), "--root-dir"]


def generated(netplan: list[str], folder: Path, network_config: str) -> subprocess.CompletedProcess[str]:
    """Let netplan read a network-config as cloud-init hands it on: below `network:`, word for word."""
    path = folder / "etc/netplan/50-cloud-init.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump({"network": yaml.safe_load(network_config)}))
    path.chmod(0o600)
    return subprocess.run([*netplan, str(folder)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_cloud_init_and_netplan_accept_the_network_config(
    cloud_init: Path, netplan: list[str], name: str, tmp_path: Path, plain_node: NodePlan
) -> None:
    node = NETWORKS[name](plain_node)
    assert DEBIAN.cloud_init
    text = network.network_config(node, DEBIAN.cloud_init)
    schema = json.loads(
        (cloud_init / "cloudinit/config/schemas/schema-network-config-v2.json").read_text("utf-8")
    )
    # its schema has no `wifis`: cloud-init goes by it only where there is no netplan to ask
    if not node.wifi:
        jsonschema.validate(yaml.safe_load(text), schema)
    done = generated(netplan, tmp_path, text)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    units = {path.name: path.read_text("utf-8") for path in (tmp_path / "run/systemd/network").iterdir()}
    link = f"10-netplan-{'vlan10' if node.link.vlan else 'wlan0' if node.wifi else 'wired'}.network"
    assert all(f"Address={address}\n" in units[link] for address in node.link.addresses)
    assert all(f"Gateway={gateway}\n" in units[link] for gateway in node.link.gateways)
    assert ("Gateway=" in units[link]) == bool(node.link.gateways)
    assert ("IPv6AcceptRA=no" in units[link]) == (not node.link.ra)
    if node.link.vlan:
        assert "Id=10" in units["10-netplan-vlan10.netdev"]
        assert "\nAddress=" not in units["10-netplan-wired.network"]


def test_netplan_refuses_a_network_config_that_is_wrong(
    netplan: list[str], tmp_path: Path, plain_node: NodePlan
) -> None:
    text = render(plain_node)["network-config"].data.decode().replace("addresses:", "adresses:", 1)
    done = generated(netplan, tmp_path, text)
    assert done.returncode == 1
    assert "unknown key 'adresses'" in done.stderr
