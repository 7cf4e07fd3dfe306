"""The layers of a shared root, as the initramfs mounts them: a node's data is its own, and what came with the image is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pibake import resources

if TYPE_CHECKING:
    from pathlib import Path

MANIFESTS, IMAGES = "var/lib/rancher/k3s/server/manifests", "var/lib/rancher/k3s/agent/images"
SCRIPT = """\
set -eu
mount --make-rprivate /
mkdir -p "$TOP" && mount -t tmpfs top "$TOP"
. "$TOP.functions"
AT=$TOP/at state=server golden=$GOLDEN
mkdir -p "$AT" "$TOP/disk" "$TOP/root"
cp -a "$TOP.golden" "$AT/golden"
mkdir -p "$AT/state" && cp -a "$TOP.state/." "$AT/state/"
set +e # as there
layers "$TOP/root"
set -e
cd "$TOP/root"
eval "$DO"
cd /
rm -rf "$TOP.state" && cp -a "$AT/state" "$TOP.state"
"""


class Node:
    """A node with an NFS root: its golden image is a folder, and its state a folder that lasts."""

    def __init__(self, folder: Path) -> None:
        self.top = folder / "node"
        self.golden = folder / "node.golden"
        text = resources.text("netboot", "initramfs", "mount")
        head = text.partition("\nread_cmdline\ncase ")[0]
        assert head != text
        (folder / "node.functions").write_text(head + "\n")
        (folder / "node.state").mkdir()
        self.golden.mkdir()

    def boot(self, do: str, golden: str = "one") -> str:
        """Mount everything, and return what some commands in the root say."""
        env = {**os.environ, "TOP": str(self.top), "GOLDEN": golden, "DO": do}
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", SCRIPT], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def node(tmp_path: Path) -> Node:
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("mounts file systems in a namespace of its own")
    return Node(tmp_path)


def put(node: Node, path: str, text: str) -> None:
    (node.golden / path).parent.mkdir(parents=True, exist_ok=True)
    (node.golden / path).write_text(text)
    (node.golden / path).chmod(0o600)


def test_manifests_and_images_of_the_golden_image_are_seen_and_what_k3s_writes_lasts(node: Node) -> None:
    put(node, f"{MANIFESTS}/pibake-00-metallb.yaml", "first")
    put(node, f"{IMAGES}/x.tar", "image")
    said = node.boot(
        f"cat {MANIFESTS}/pibake-00-metallb.yaml {IMAGES}/x.tar; stat -c ' %a' {MANIFESTS}/pibake-00-metallb.yaml;"
        f"echo own > {MANIFESTS}/coredns.yaml; mkdir -p var/lib/rancher/k3s/server/db; echo row > var/lib/rancher/k3s/server/db/state.db"
    )
    assert said == "firstimage 600\n"
    again = f"cat {MANIFESTS}/coredns.yaml var/lib/rancher/k3s/server/db/state.db"
    assert node.boot(again) == "own\nrow\n"
    # another golden image: its manifests are the ones that count, and the node's data is still there
    put(node, f"{MANIFESTS}/pibake-00-metallb.yaml", "second")
    said = node.boot(f"ls {MANIFESTS}; cat {MANIFESTS}/*; cat var/lib/rancher/k3s/server/db/state.db", "two")
    assert said == "pibake-00-metallb.yaml\nsecondrow\n"


def test_a_node_whose_golden_image_brings_nothing_keeps_all_of_it_in_its_state(node: Node) -> None:
    (node.golden / "var/lib").mkdir(parents=True)
    node.boot(f"mkdir -p {MANIFESTS}; echo own > {MANIFESTS}/coredns.yaml")
    assert node.boot(f"cat {MANIFESTS}/coredns.yaml", "two") == "own\n"


def test_the_folders_of_state_are_no_overlay_in_which_containers_could_not_have_theirs(node: Node) -> None:
    put(node, f"{MANIFESTS}/pibake-00-metallb.yaml", "first")
    kinds = "for one in rancher/k3s containerd kubelet etcd; do mkdir -p var/lib/$one; stat -f -c %T var/lib/$one; done"
    assert set(node.boot(kinds).split()) == {"tmpfs"}
    assert node.boot(f"stat -f -c %T {MANIFESTS}") == "overlayfs\n"
