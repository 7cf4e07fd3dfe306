"""Which cards a new seed can make another node of, and what of the old one a booted node keeps."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.seeding import DEBIAN, ORIGIN, on
from tests.tools.nodes import linked
from tests.unit.fitting import member

from pibake.card import Card, Root
from pibake.errors import PibakeError
from pibake.image.table import Table
from pibake.plan import K3sAgent, K3sServer, KubeadmInit, KubeadmJoin, Plan
from pibake.reseed import belongs
from pibake.seed import MARKER_FILE, seed
from pibake.seed import marker as markers
from pibake.seed.changes import content, left_behind, words
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan, Part

ELSEWHERE = ipaddress.ip_interface("192.168.10.23/24")
FRESH = Root("Debian", False, "", False, None, True, 1 << 30, 0, {})
UP = dataclasses.replace(FRESH, booted=True)
JOINED = dataclasses.replace(UP, joined=True)


def card(node: NodePlan, root: Root | None = FRESH, **changes: Any) -> Card:
    marker = markers.marker(node, ORIGIN, instance_id="pibake-1", vehicle="cloud-init", epoch=1)
    values = {"marker": marker, "hostname": node.hostname, "instance_id": "pibake-1", "root": root, **changes}
    return Card(Path("/dev/sdX"), 1 << 32, Table("dos", "0", ()), **values)


def of(node: NodePlan, part: Part) -> NodePlan:
    role = "server" if isinstance(part, K3sServer | KubeadmInit) else "agent"
    return dataclasses.replace(node, role=role, member=member(part))


def judged(found: Card, node: NodePlan, cluster: str = "lab") -> str:
    """Return why the card cannot become the node and what to do instead, "" if it can."""
    try:
        belongs(found, Plan(cluster, "lab.example", (node,), ()), node)
    except PibakeError as error:
        return f"{error.message}; {error.hint}"
    return ""


def files(node: NodePlan, overlays: Tree | None = None, **system: Any) -> dict[str, bytes]:
    keys = {user.name: [key.text for key in user.ssh_keys] for user in node.users}
    values = on("root=x", system=dataclasses.replace(DEBIAN, **system))
    return {name: file.data for name, file in seed(node, keys, overlays or Tree(), **values, epoch=1).tree}


def test_the_marker_says_what_the_card_is_and_has_no_part_in_the_instance_id(plain_node: NodePlan) -> None:
    first = files(plain_node)
    values = on("root=x")
    other = dataclasses.replace(ORIGIN, cluster="attic", base_sha256="0" * 64)
    keys = {user.name: [key.text for key in user.ssh_keys] for user in plain_node.users}
    again = seed(plain_node, keys, Tree(), **{**values, "origin": other}, epoch=2)
    assert markers.read(again.tree[MARKER_FILE].data).cluster == "attic"
    assert markers.read(first[MARKER_FILE]).instance_id == again.instance_id
    assert markers.read(first[MARKER_FILE]).golden_sha256 == ORIGIN.golden


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "cluster": "lab"}', "\udcff"])
def test_what_is_no_marker_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        markers.read(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("root", [FRESH, UP])
def test_a_plain_machine_can_get_another_address_whenever(plain_node: NodePlan, root: Root) -> None:
    assert judged(card(plain_node, root), linked(plain_node, address=ELSEWHERE)) == ""


@pytest.mark.parametrize(
    ("part", "root", "why"),
    [
        (K3sAgent(), JOINED, ""),
        (K3sServer(first=True), FRESH, ""),
        (K3sServer(first=True), UP, "etcd and certificates"),
        (KubeadmInit(), JOINED, "etcd and certificates"),
        (KubeadmJoin(control_plane=False), UP, ""),
        (KubeadmJoin(control_plane=False), JOINED, "has joined with kubeadm"),
        (KubeadmJoin(control_plane=False), dataclasses.replace(UP, clean=False), "whether it has joined"),
    ],
)
def test_members_that_are_known_by_their_address_keep_it(
    plain_node: NodePlan, part: Part, root: Root, why: str
) -> None:
    node = of(plain_node, part)
    assert judged(card(node, root), node) == ""
    said = judged(card(node, root), linked(node, address=ELSEWHERE))
    assert why in said
    assert bool(why) == bool(said)
    assert bool(why) == ("flash the card anew: `pibake build --hostname node3`" in said)


def test_a_booted_agent_does_not_become_a_server(plain_node: NodePlan) -> None:
    agent, server = of(plain_node, K3sAgent()), of(plain_node, K3sServer(first=False))
    assert judged(card(agent), server) == ""
    assert "booted as agent" in judged(card(agent, UP), server)


def test_another_release_or_another_cluster_or_another_name_is_no_reseed(plain_node: NodePlan) -> None:
    node = of(plain_node, K3sAgent())
    assert "wants no Kubernetes" in judged(card(node), plain_node)
    assert "belongs to the cluster lab, not to attic" in judged(card(node), node, "attic")
    renamed = dataclasses.replace(node, hostname="node4")
    assert "does not rename it" in judged(card(node, UP), renamed)
    assert judged(card(node), renamed) == ""


def test_what_cannot_be_read_or_was_not_made_by_pibake_is_refused(plain_node: NodePlan) -> None:
    assert "without markers" in judged(card(plain_node, marker=None), plain_node)
    assert "not made by pibake" in judged(card(plain_node, marker=None, instance_id=""), plain_node)
    assert "damaged: the root" in judged(card(plain_node, problems=("the root is gone",)), plain_node)


def without(node: NodePlan, name: str) -> NodePlan:
    return dataclasses.replace(node, users=tuple(user for user in node.users if user.name != name))


@pytest.mark.parametrize("system", [{}, {"cloud_init": None}], ids=["cloud-init", "files"])
def test_both_vehicles_tell_the_same_changes(plain_node: NodePlan, system: dict[str, Any]) -> None:
    old = files(plain_node, Tree({"etc/motd": File(b"old\n")}), **system)
    new = files(without(linked(plain_node, address=ELSEWHERE), "bob"), **system)
    said = list(words(old, new, markers.read(old[MARKER_FILE]), markers.read(new[MARKER_FILE])))
    assert said[0] == "address: 192.168.10.13/24 -> 192.168.10.23/24"
    assert "user bob: removed" in said
    listed = next(line for line in said if line.startswith("files: "))
    assert "/etc/motd" in listed
    assert "/etc/pibake/node.json" in listed
    assert "seed-id" not in listed


def test_what_a_booted_node_keeps_depends_on_who_applies_the_seed(plain_node: NodePlan) -> None:
    ops = dataclasses.replace(plain_node.users[0], ssh_keys=(), groups=("video",))
    new = without(dataclasses.replace(plain_node, users=(ops,)), "bob")
    overlay = Tree({"etc/motd": File(b"old\n")})

    def kept(**system: Any) -> str:
        old, now = (content(files(*given, **system)) for given in ((plain_node, overlay), (new,)))
        return "\n".join(left_behind(old, now, cloud_init=not system))

    by_cloud, by_files = kept(), kept(cloud_init=None)
    for said in (by_cloud, by_files):
        assert "user bob stays on the node" in said
        assert "of ops still open the node" in said
    assert "shell and groups of ops stay" in by_cloud
    assert "/etc/motd" in by_cloud
    assert "groups" not in by_files
    assert "/etc/motd" not in by_files
