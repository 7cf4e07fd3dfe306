"""The head: what its plan decides, what others get of it, and what a base cannot be it on."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.seeding import DEBIAN, on
from tests.tools.nodes import FIXED, HEADS, MAC, PSK, heading, on_wifi
from tests.unit.fitting import TODAY

from pibake import config, network, payload, recipe
from pibake.config.head import SSH, Opening
from pibake.fit import Finding, Level, fit
from pibake.image.golden import Payload
from pibake.kube import vip
from pibake.plan import Forward, KubeadmJoin, Plan, Upstream, node_json, plan
from pibake.seed import early, own, seed
from pibake.system import Kernel, Network
from pibake.vm.command import command

if TYPE_CHECKING:
    from pibake.plan import NodePlan

PAGE = Path(__file__).parents[2] / "docs/head.md"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"
CLUSTER = f"""\
cluster: lab
domain: kube.local
network: {{subnet: 10.0.0.0/24, mdns: true}}
kubernetes: {{distribution: k3s, version: v1.31.4+k3s1, vip: 10.0.0.5, sans: [k8s.example.com]}}
defaults: {{role: server, packages: [nftables, htop]}}
head: {{node: node1.kube.local, upstream: {{port: eth0, address: 203.0.113.5/24, gateway: 203.0.113.1}}}}
users: [{{name: ops, ssh_keys: ["{KEY}"]}}]
nodes:
  - {{hostname: node1.kube.local, address: 10.0.0.1}}
  - {{hostname: node2, address: 10.0.0.11, mac: "{MAC}"}}
  - {{hostname: node3, address: 10.0.0.12}}
"""


def planned(folder: Path, text: str = CLUSTER) -> Plan:
    (folder / "cluster.yaml").write_text(text)
    return plan(config.load(folder / "cluster.yaml", bases=("debian-13",)))


def changed(node: NodePlan, **changes: Any) -> NodePlan:
    assert node.head
    return dataclasses.replace(node, head=dataclasses.replace(node.head, **changes))


def said(found: list[Finding], level: Level) -> list[str]:
    return [finding.message for finding in found if finding.level is level]


def test_all_others_go_by_the_head_and_the_head_goes_out(tmp_path: Path) -> None:
    decided = planned(tmp_path)
    one, two, three = decided.nodes
    assert (one.link.gateway, one.link.nameservers) == (None, ())
    assert [(str(n.link.gateway), n.link.nameservers) for n in (two, three)] == [
        ("10.0.0.1", ("10.0.0.1",))
    ] * 2
    assert decided.link == two.link
    assert (two.head, three.head) == (None, None)
    assert one.head
    assert one.head.upstream.nameservers == ("203.0.113.1",)
    assert [(lease.mac, lease.address) for lease in one.head.leases] == [(MAC, "10.0.0.11")]


def test_without_a_word_of_it_ssh_is_open_and_nobody_is_a_guest(tmp_path: Path) -> None:
    head = planned(tmp_path).nodes[0].head
    assert head
    assert (head.open, head.forward, head.pool) == ((SSH,), (), None)


def test_open_ports_and_those_that_lead_inside_are_read_as_they_are_written(tmp_path: Path) -> None:
    more = "open: [6443, 30000-32767, 51820/udp], forward: {80: 10.0.0.11, 53/udp: '10.0.0.240:5353'}"
    text = CLUSTER.replace("head: {", f"head: {{{more}, dhcp: 10.0.0.100 - 10.0.0.199, ")
    head = planned(tmp_path, text).nodes[0].head
    assert head
    assert head.open == (
        Opening("tcp", 6443, 6443),
        Opening("tcp", 30000, 32767),
        Opening("udp", 51820, 51820),
    )
    assert [(one.protocol, one.port, str(one.address), one.to) for one in head.forward] == [
        ("tcp", 80, "10.0.0.11", 80),
        ("udp", 53, "10.0.0.240", 5353),
    ]
    assert [str(port) for port in head.open] == ["6443", "30000-32767", "51820/udp"]
    assert head.pool
    assert [str(end) for end in head.pool] == ["10.0.0.100", "10.0.0.199"]


@pytest.mark.parametrize(
    ("upstream", "mac", "ports", "by_kernel"),
    [
        ("port: eth1", "", ("eth0", "eth1"), True),
        ("port: eth0", "", ("eth1", "eth0"), True),
        ("port: eth1", MAC, ("lan0", "eth1"), True),
        ('port: "00:e0:4c:68:00:01"', "", ("eth0", "wan0"), True),
        ('port: "00:e0:4c:68:00:01"', MAC, ("lan0", "wan0"), False),
        ("port: enx00e04c680001", MAC, ("lan0", "enx00e04c680001"), False),
        ("port: usb0", "", ("eth0", "usb0"), True),
        (f"wifi: {{ssid: home, psk: {PSK}, country: DE}}", "", ("eth0", "wlan0"), True),
        (f"wifi: {{ssid: home, psk: {PSK}, country: DE}}", MAC, ("lan0", "wlan0"), False),
    ],
)
def test_both_ports_have_names_that_are_certain(
    upstream: str, mac: str, ports: tuple[str, str], by_kernel: bool, tmp_path: Path
) -> None:
    text = CLUSTER.replace(f'mac: "{MAC}"', "labels: {}")
    text = re.sub(r"upstream: \{.*?\}\}", f"upstream: {{{upstream}}}}}", text)
    text = text.replace(
        "address: 10.0.0.1}", f"address: 10.0.0.1, mac: '{mac}'}}" if mac else "address: 10.0.0.1}"
    )
    node = planned(tmp_path, text).nodes[0]
    assert node.head
    assert (node.head.port, node.head.upstream.name) == ports
    assert node.head.kernel_names == by_kernel
    cmdline = seed(node, {"ops": [KEY]}, network.gateway.files(node), epoch=1, **on("root=/dev/sda"))
    assert ("net.ifnames=0" in cmdline.tree["cmdline.txt"].data.decode()) == by_kernel


def test_a_vlan_of_the_nodes_has_the_head_s_address(tmp_path: Path) -> None:
    head = planned(tmp_path, CLUSTER.replace("mdns: true", "vlan: 10")).nodes[0].head
    assert head
    assert (head.port, head.interface) == ("eth1", "vlan10")


def test_what_it_needs_is_baked_in_and_nothing_twice(tmp_path: Path) -> None:
    one, two, _ = planned(tmp_path).nodes
    assert one.packages == ("nftables", "htop", "dnsmasq-base", "avahi-daemon")
    assert two.packages == ("nftables", "htop", "avahi-daemon")
    assert recipe.of(one, DEBIAN).parts == ("head", "mdns")
    assert recipe.of(two, DEBIAN).parts == ("mdns",)


def test_its_units_are_on_and_those_of_multicast_names_are_their_package_s() -> None:
    made = payload.with_part(Payload(), "head")
    assert {path.rpartition("/")[2] for path in made.links} == {*network.gateway.UNITS}
    for path, to in made.links.items():
        unit = next(file for file in made.files if f"/{file.path}" == to)
        wanted = re.search(r"^WantedBy=(.*)$", unit.source.read_text("utf-8"), re.MULTILINE)
        assert wanted
        assert path.split("/")[-2] == f"{wanted[1]}.wants"
    other = payload.with_part(Payload(), "mdns")
    assert [file.path for file in other.files] == ["etc/systemd/system/avahi-daemon.service.d/pibake.conf"]
    assert list(other.links) == ["etc/systemd/system/multi-user.target.wants/avahi-daemon.service"]


@pytest.mark.parametrize(
    ("style", "codename", "wanted"),
    [
        (Network.IFUPDOWN, "trixie", {"dhcpcd-base", "wpasupplicant"}),
        (Network.IFUPDOWN, "bookworm", {"isc-dhcp-client", "wpasupplicant"}),
        (Network.NETPLAN, "trixie", {"wpasupplicant"}),
        (Network.NETWORK_MANAGER, "bookworm", set()),
    ],
)
def test_so_is_what_asks_for_an_address_where_the_base_may_have_nothing(
    style: Network, codename: str, wanted: set[str], plain_node: NodePlan
) -> None:
    system = dataclasses.replace(
        DEBIAN, network=style, release=dataclasses.replace(DEBIAN.release, codename=codename)
    )
    node = HEADS["head, out by wifi"](plain_node)
    assert set(recipe.of(node, system).packages) == wanted
    assert set(recipe.of(heading(plain_node, **FIXED), system).packages) == set()


def test_its_rules_are_there_before_cloud_init_and_its_key_is_a_secret(plain_node: NodePlan) -> None:
    node = HEADS["head, out by wifi"](plain_node)
    assert early(node, DEBIAN)
    made = seed(node, {"ops": [KEY], "bob": []}, network.gateway.files(node), epoch=1, **on("root=/dev/sda"))
    assert network.gateway.FIREWALL in made.public.files
    assert "network-config" not in made.tree.files
    assert [path for path, file in made.secret if PSK.encode() in file.data] == [
        "etc/netplan/50-cloud-init.yaml"
    ]
    assert not any(PSK.encode() in file.data for _, file in made.public)
    assert PSK not in json.dumps(node_json(node))


def test_the_api_server_answers_to_the_head_s_address_outside(tmp_path: Path) -> None:
    shared = planned(tmp_path).kubernetes
    assert shared
    assert {"203.0.113.5", "k8s.example.com", "10.0.0.5", "10.0.0.1"} <= {*shared.sans}
    by_dhcp = planned(
        tmp_path, CLUSTER.replace(", address: 203.0.113.5/24, gateway: 203.0.113.1", "")
    ).kubernetes
    assert by_dhcp
    assert not any(name.startswith("203.") for name in by_dhcp.sans)


def test_the_vip_is_on_the_head_s_port_to_the_nodes(tmp_path: Path) -> None:
    shared = planned(tmp_path).kubernetes
    assert shared
    sets = [one for one in yaml.safe_load_all(vip.daemon_set(shared)) if one["kind"] == "DaemonSet"]
    found = {}
    for one in sets:
        spec = one["spec"]["template"]["spec"]
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        chosen = terms["nodeSelectorTerms"][0]["matchExpressions"][1]
        settings = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
        found[one["metadata"]["name"]] = (chosen["operator"], chosen["values"], settings.get("vip_interface"))
    assert found == {"kube-vip": ("NotIn", ["node1"], None), "kube-vip-node1": ("In", ["node1"], "eth1")}


def test_names_by_multicast_stay_on_the_nodes_network(tmp_path: Path) -> None:
    one, two, _ = planned(tmp_path).nodes
    said = network.mdns.files(one)[network.mdns.CONFIG].data.decode()
    assert "\nhost-name=node1\n" in said
    assert re.search(r"^deny-interfaces=.*\bcni0\b.*,eth0$", said, re.MULTILINE)
    assert "eth0" not in network.mdns.files(two)[network.mdns.CONFIG].data.decode()
    assert not network.mdns.files(dataclasses.replace(one, mdns=False)).files


def test_nodes_know_each_other_by_names_of_multicast_without_asking(tmp_path: Path) -> None:
    two = planned(tmp_path).nodes[1]
    hosts = own.files(two, None)["etc/hosts"].data.decode()
    assert "\n10.0.0.1 node1.kube.local node1 node1.local\n" in hosts
    silent = own.files(dataclasses.replace(two, mdns=False), None)["etc/hosts"].data.decode()
    assert "\n10.0.0.1 node1.kube.local node1\n" in silent
    local = planned(tmp_path, CLUSTER.replace("kube.local", "local")).nodes[1]
    assert "\n10.0.0.1 node1.local node1\n" in own.files(local, None)["etc/hosts"].data.decode()


def test_only_what_a_base_cannot_is_refused(plain_node: NodePlan) -> None:
    def refusals(node: NodePlan, **changes: Any) -> list[str]:
        return said(fit(node, dataclasses.replace(DEBIAN, **changes), today=TODAY), Level.REFUSED)

    node = heading(plain_node)
    assert refusals(node) == []
    assert "ifcfg" in refusals(node, network=Network.IFCFG)[0]
    assert "no systemd" in refusals(node, init="sysvinit")[0]
    assert "Linux 4.14" in refusals(node, kernels=(Kernel("vmlinuz", "4.14.34-hypriotos-v8"),))[0]
    assert refusals(node, kernels=(Kernel("vmlinuz", "4.19.66-v8+"),)) == []
    assert refusals(plain_node, network=Network.IFCFG) == []
    wireless = dataclasses.replace(HEADS["head, out by wifi"](plain_node), board="pi2")
    assert "Wi-Fi" in refusals(wireless)[0]


def test_flannel_of_kubeadm_has_to_be_told_which_port_is_inside(tmp_path: Path) -> None:
    text = CLUSTER.replace("k3s, version: v1.31.4+k3s1", "kubeadm, version: v1.31.4")
    node = planned(tmp_path, text).nodes[0]
    assert node.member
    assert not isinstance(node.member.part, KubeadmJoin)
    found = fit(node, DEBIAN, today=TODAY)
    (hint,) = [
        finding.hint for finding in found if finding.level is Level.WARNED and "flannel" in finding.message
    ]
    assert "--iface-regex" in hint
    other = planned(tmp_path, text.replace("kubeadm, ", "kubeadm, cni: none, ")).nodes[0]
    assert not any("flannel" in finding.message for finding in fit(other, DEBIAN, today=TODAY))


def test_a_domain_of_multicast_dns_is_noted(tmp_path: Path) -> None:
    decided = planned(tmp_path)
    assert decided.nodes[0].fqdn == "node1.kube.local"
    assert next(host.fqdn for host in decided.nodes[1].hosts) == "node1.kube.local"
    assert any("kube.local" in text for text in said(fit(decided.nodes[1], DEBIAN, today=TODAY), Level.NOTE))
    other = planned(tmp_path, CLUSTER.replace("kube.local", "lab.example"))
    assert not said(fit(other.nodes[1], DEBIAN, today=TODAY), Level.NOTE)


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ("port: eth1", "user,id=outer,restrict=on"),
        (
            "port: eth1, address: 198.51.100.5/24, gateway: 198.51.100.1",
            "user,id=outer,restrict=on,net=198.51.100.0/24",
        ),
    ],
)
def test_a_test_boot_of_the_head_has_a_second_port(upstream: str, expected: str, tmp_path: Path) -> None:
    text = re.sub(r"upstream: \{.*?\}\}", f"upstream: {{{upstream}}}}}", CLUSTER)
    for node, count in zip(planned(tmp_path, text).nodes, (2, 1, 1), strict=True):
        files = {"kernel": "k", "initramfs": "i", "cmdline": "c"}
        argv = command(
            tmp_path,
            None,
            files=files,
            node=node_json(node),
            accelerator="tcg",
            ssh_port=1,
            tap="",
            memory=512,
        )
        assert argv.count("-netdev") == count
        assert (expected in argv) == (count == 2)


def test_the_example_of_the_page_is_planned(tmp_path: Path) -> None:
    text = re.search(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert text
    head = planned(tmp_path, text[1]).nodes[0].head
    assert head
    assert (head.port, head.upstream) == ("lan0", Upstream("wan0", "00:e0:4c:68:00:01"))
    assert len(head.forward) == 2


@pytest.mark.parametrize("style", [style for style in Network if style is not Network.IFCFG])
def test_a_control_character_never_starts_another_line(style: Network, plain_node: NodePlan) -> None:
    for changes in ({"domain": "a\nb"}, {"nameservers": ("a\nb",)}):
        with pytest.raises(ValueError, match="control character"):
            network.files(changed(heading(plain_node), **changes), style)


@pytest.mark.parametrize("style", [style for style in Network if style is not Network.IFCFG])
def test_wifi_in_or_out_is_wifi_all_the_same(style: Network, plain_node: NodePlan) -> None:
    for node in (HEADS["head, out by wifi"](plain_node), on_wifi(heading(plain_node, port="wlan0"))):
        tree = network.files(node, style)
        assert [file.mode for _, file in tree if PSK.encode() in file.data] == [0o600]
        assert "etc/modprobe.d/zz-pibake-wifi.conf" in tree.files


def test_a_forward_is_a_rule_and_a_port_that_may_be_passed(plain_node: NodePlan) -> None:
    node = heading(plain_node)
    assert node.head
    leads = (Forward("udp", 53, node.head.address, 5353),)
    rules = network.gateway.files(changed(node, forward=leads))[network.gateway.FIREWALL].data.decode()
    assert 'iifname "eth1" udp dport 53 dnat to 10.0.0.1:5353' in rules
    assert "ct status dnat ip protocol udp ct original proto-dst @forward_udp accept" in rules
