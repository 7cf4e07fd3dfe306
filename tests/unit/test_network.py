"""What is written for every program that configures a network, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.seeding import on
from tests.tools.nodes import MAC, NETWORKS, PSK, SECOND, linked, on_wifi

from pibake import network
from pibake.errors import PibakeError
from pibake.seed import seed
from pibake.system import CloudInit, Network
from pibake.tree import Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan

SEED = ("user-data", "meta-data", "network-config")
WITH_WIFI = [style for style in Network if style is not Network.IFCFG]


def cloud_init(version: str, *renders: Network) -> CloudInit:
    return CloudInit(version, "label", SEED, renders)


def texts(tree: Tree) -> dict[str, str]:
    return {path: file.data.decode() for path, file in tree}


@pytest.mark.parametrize("style", Network)
def test_cloud_init_is_told_to_leave_the_network_alone(style: Network, plain_node: NodePlan) -> None:
    told = network.files(plain_node, style)["etc/cloud/cloud.cfg.d/99-pibake-network.cfg"]
    assert yaml.safe_load(told.data) == {"network": {"config": "disabled"}}


@pytest.mark.parametrize("style", WITH_WIFI)
def test_the_key_of_wifi_is_in_one_file_that_only_root_can_read(style: Network, plain_node: NodePlan) -> None:
    tree = network.files(on_wifi(plain_node), style)
    assert [file.mode for _, file in tree if PSK.encode() in file.data] == [0o600]


@pytest.mark.parametrize("style", Network)
def test_a_node_on_ethernet_has_no_trace_of_wifi(style: Network, plain_node: NodePlan) -> None:
    said = "".join(
        [*(texts(network.files(plain_node, style)).values()), *network.files(plain_node, style).files]
    )
    assert not any(word in said for word in ("wlan0", "wpa", "rfkill", "regdom"))
    assert network.kernel_words(plain_node) == network.commands(plain_node) == ()


def test_ifcfg_files_refuse_wifi_and_say_what_to_choose(plain_node: NodePlan) -> None:
    with pytest.raises(PibakeError, match="node3 has `link: wifi`") as caught:
        network.files(on_wifi(plain_node), Network.IFCFG)
    assert "NetworkManager" in caught.value.hint


def test_networkd_keeps_the_network_that_the_root_is_behind(plain_node: NodePlan) -> None:
    path = "etc/systemd/network/05-pibake.network"
    wired = texts(network.files(dataclasses.replace(plain_node, wired=True), Network.NETWORKD))
    assert "\nKeepConfiguration=yes\n" in wired[path]
    assert "KeepConfiguration" not in texts(network.files(plain_node, Network.NETWORKD))[path]


@pytest.mark.parametrize("style", Network)
def test_a_control_character_never_starts_another_line(style: Network, plain_node: NodePlan) -> None:
    if style is Network.NETPLAN:
        told = texts(network.files(linked(plain_node, search=("a\nb",)), style))[
            "etc/netplan/50-cloud-init.yaml"
        ]
        assert yaml.safe_load(told)["network"]["ethernets"]["wired"]["nameservers"]["search"] == ["a\nb"]
    else:
        with pytest.raises(ValueError, match="control character"):
            network.files(linked(plain_node, search=("a\nb",)), style)
    with pytest.raises(ValueError, match="control character"):
        network.files(dataclasses.replace(plain_node, fqdn="a\nb"), style)


@pytest.mark.parametrize("style", [Network.IFUPDOWN, Network.DHCPCD, Network.IFCFG])
def test_programs_without_patterns_get_the_name_of_the_port(style: Network, plain_node: NodePlan) -> None:
    tree = network.files(plain_node, style, "end0")
    assert "end0" in "".join([*tree.files, *texts(tree).values()])
    assert "eth0" not in "".join([*tree.files, *texts(tree).values()])


@pytest.mark.parametrize("style", [Network.IFUPDOWN, Network.DHCPCD])
def test_a_port_known_by_its_mac_address_is_renamed_and_then_used(
    style: Network, plain_node: NodePlan
) -> None:
    said = texts(network.files(linked(plain_node, mac=MAC), style))
    assert f"MACAddress={MAC}\n" in said["etc/systemd/network/10-pibake.link"]
    assert "Name=lan0" in said["etc/systemd/network/10-pibake.link"]
    assert "eth0" not in "".join([*said, *said.values()])


@pytest.mark.parametrize("style", WITH_WIFI)
def test_wifi_ignores_the_mac_address_which_is_that_of_the_ethernet_port(
    style: Network, plain_node: NodePlan
) -> None:
    said = "".join(texts(network.files(on_wifi(linked(plain_node, mac=MAC)), style)).values())
    assert MAC not in said.lower()


def test_a_wifi_name_that_is_no_plain_text_is_written_byte_by_byte(plain_node: NodePlan) -> None:
    name = 'café "1;2"\\'
    node = on_wifi(plain_node, name)
    manager = texts(network.files(node, Network.NETWORK_MANAGER))
    listed = "".join(f"{byte};" for byte in name.encode())
    assert f"ssid={listed}\n" in manager["etc/NetworkManager/system-connections/pibake.nmconnection"]
    supplicant = texts(network.files(node, Network.DHCPCD))["etc/wpa_supplicant/wpa_supplicant.conf"]
    assert f"ssid={name.encode().hex()}\n" in supplicant


def test_nothing_else_on_hypriotos_or_raspbian_configures_the_port(plain_node: NodePlan) -> None:
    ifupdown = network.files(plain_node, Network.IFUPDOWN)
    assert ifupdown["etc/systemd/system/dhcpcd.service"].data == b""
    assert "source /etc/network/interfaces.d/eth0\n" in ifupdown["etc/network/interfaces"].data.decode()
    dhcpcd = texts(network.files(plain_node, Network.DHCPCD))
    assert "eth0" not in dhcpcd["etc/network/interfaces"]
    assert "allowinterfaces eth0\n" in dhcpcd["etc/dhcpcd.conf"]


def test_netplan_gets_version_2_from_17_1_on_and_0_7_9_gets_version_1(plain_node: NodePlan) -> None:
    for version in ("17.1", "18.5", "24.4.1", "25.1.4"):
        text = network.network_config(plain_node, cloud_init(version, Network.NETPLAN))
        assert yaml.safe_load(text)["version"] == 2
    old = yaml.safe_load(network.network_config(plain_node, cloud_init("0.7.9", Network.IFUPDOWN)))
    assert old["version"] == 1
    assert old["config"][0]["subnets"] == [
        {
            "type": "static",
            "address": "192.168.10.13/24",
            "gateway": "192.168.10.1",
            "dns_nameservers": ["192.168.10.1", "1.1.1.1"],
            "dns_search": ["lab.example"],
        }
    ]


@pytest.mark.parametrize(
    ("version", "style", "name", "lost"),
    [
        ("0.7.9", Network.IFUPDOWN, "wifi", "Wi-Fi"),
        ("0.7.9", Network.IFUPDOWN, "dual stack", "a second address"),
        ("20.4", Network.IFUPDOWN, "ra off", "`ra: false`"),
        ("22.4.2", Network.NETWORKD, "vlan", "a VLAN"),
        ("22.4.2", Network.NETWORKD, "dual stack, ra off", "a second address, `ra: false`"),
        ("25.1.4", Network.NETWORK_MANAGER, "vlan", "a VLAN"),
        ("0.7.9", Network.IFCFG, "plain", "no ifcfg configuration that can be relied on"),
    ],
)
def test_what_a_cloud_init_would_lose_is_refused(
    version: str, style: Network, name: str, lost: str, plain_node: NodePlan
) -> None:
    node, program = NETWORKS[name](plain_node), cloud_init(version, style)
    assert network.unfit(node, program).endswith(lost)
    with pytest.raises(PibakeError, match=f"node3: cloud-init {version}"):
        network.network_config(node, program)


@pytest.mark.parametrize("name", NETWORKS)
def test_netplan_gets_everything_through_cloud_init(name: str, plain_node: NodePlan) -> None:
    assert network.unfit(NETWORKS[name](plain_node), cloud_init("22.4.2", Network.NETPLAN)) == ""


def test_a_cloud_init_that_reads_no_network_config_is_unfit(plain_node: NodePlan) -> None:
    assert "configures no network" in network.unfit(
        plain_node, CloudInit("0.7.9", "link", SEED[:2], (Network.IFUPDOWN,))
    )
    assert "configures no network" in network.unfit(plain_node, cloud_init("0.7.9"))


def test_the_files_of_netplan_are_what_cloud_init_would_make_of_the_seed(plain_node: NodePlan) -> None:
    node = linked(plain_node, **SECOND)
    own = yaml.safe_load(network.files(node, Network.NETPLAN)["etc/netplan/50-cloud-init.yaml"].data)
    assert own == {
        "network": yaml.safe_load(network.network_config(node, cloud_init("25.1", Network.NETPLAN)))
    }


def test_the_seed_of_a_node_on_wifi_tells_the_radio_its_country_and_shows_the_key_once(
    plain_node: NodePlan,
) -> None:
    given = "root=LABEL=writable cfg80211.ieee80211_regdom=GB"
    tree = seed(
        on_wifi(plain_node),
        {"ops": [], "bob": []},
        Tree(),
        **on(given),
        epoch=1,
    ).tree
    said = texts(Tree({path: file for path, file in tree if path != "pibake-secrets.tar"}))
    assert "cfg80211.ieee80211_regdom=DE" in said["cmdline.txt"]
    assert "GB" not in said["cmdline.txt"]
    assert "rfkill unblock wlan" in said["user-data"]
    assert [path for path, text in said.items() if PSK in text] == []
    assert tree["pibake-secrets.tar"].data.count(PSK.encode()) == 1
    assert "/etc/modprobe.d/zz-pibake-wifi.conf" in json.dumps(yaml.safe_load(said["user-data"]))
