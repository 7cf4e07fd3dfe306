"""The consumer is the judge: a node's network, read by the programs it is written for.

The programs come out of Debian packages that are unpacked, not installed, so that this machine's own network stays as
it is. None of them is started: each only reads, and says what it would do.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.tools.nodes import HEADS, NETWORKS, PSK, on_wifi

from pibake import network
from pibake.system import CloudInit, Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.plan import NodePlan

WANTED = (
    "cloud-init", "ifupdown", "dhcpcd-base", "wpasupplicant", "netplan.io", "netplan-generator",
    "libnetplan0", "libnetplan1", "libpcsclite1", "libnl-3-200", "libnl-genl-3-200", "libnl-route-3-200",
    "python3-gi", "gir1.2-glib-2.0", "gir1.2-nm-1.0", "libnm0", "libgirepository-1.0-1", "libgirepository-2.0-0",
    "libglib2.0-0", "libglib2.0-0t64",
)  # fmt: skip
"""The programs and what they link, of Debian 12 and 13 and Ubuntu 24.04; each release has some of the names."""

READ_PROFILES = """
import json, sys
import gi
gi.require_version("NM", "1.0")
from gi.repository import GLib, NM
said = {}
for path in sys.argv[1:]:
    file = GLib.KeyFile()
    file.load_from_file(path, GLib.KeyFileFlags.NONE)
    warned = []
    profile = NM.keyfile_read(file, "/etc", NM.KeyfileHandlerFlags.NONE, lambda *given: bool(warned.append(str(given[2]))), None)
    families = {}
    for version, setting in ((4, profile.get_setting_ip4_config()), (6, profile.get_setting_ip6_config())):
        found = [setting.get_address(index) for index in range(setting.get_num_addresses())]
        families[version] = {
            "method": setting.get_method(), "gateway": setting.get_gateway(),
            "addresses": [f"{a.get_address()}/{a.get_prefix()}" for a in found],
            "dns": [setting.get_dns(index) for index in range(setting.get_num_dns())],
        }
    wifi, key = profile.get_setting_wireless(), profile.get_setting_wireless_security()
    said[profile.get_id()] = {
        "good": profile.verify(), "warned": warned, "type": profile.get_connection_type(), **families,
        "ssid": wifi.get_ssid().get_data().decode() if wifi else "", "psk": key.get_psk() if key else "",
    }
print(json.dumps(said))
"""

TRANSLATE = """
import importlib, sys
import yaml
from cloudinit.net import network_state
module = importlib.import_module(f"cloudinit.net.{sys.argv[1]}")
state = network_state.parse_net_config_data(yaml.safe_load(sys.stdin.read()))
module.Renderer({}).render_network_state(state, target=sys.argv[2])
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs in it."""
    folder = tmp_path_factory.mktemp("programs")
    known = subprocess.run(
        ["apt-cache", "pkgnames"], capture_output=True, text=True, check=True
    ).stdout.split()
    names = [name for name in WANTED if name in set(known)]
    subprocess.run(["apt-get", "download", *names], cwd=folder, capture_output=True, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder


def run(
    programs: Path, *argv: str | Path, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program with the libraries that were unpacked."""
    libraries = [
        str(path)
        for pattern in ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*")
        for path in programs.glob(pattern)
    ]
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "LC_ALL": "C", **environment}
    return subprocess.run(
        [str(part) for part in argv],
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def found(programs: Path, name: str) -> Path:
    """Return where a program was unpacked: /sbin has been part of /usr only since Debian 13."""
    return next(
        path
        for folder in ("sbin", "usr/sbin", "usr/libexec/netplan")
        if (path := programs / folder / name).exists()
    )


def laid(node: NodePlan, style: Network, folder: Path) -> Path:
    network.files(node, style).write(folder)
    return folder


@pytest.fixture(params=[*NETWORKS, *HEADS])
def node(request: pytest.FixtureRequest, plain_node: NodePlan) -> NodePlan:
    make: Callable[[NodePlan], NodePlan] = {**NETWORKS, **HEADS}[request.param]
    return make(plain_node)


def sections(text: str) -> set[tuple[str, str, str]]:
    """Return what a file of systemd says, without order, in the spelling that stands for a plain router."""
    said, title = set(), ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if line.startswith("["):
            title = line.strip("[]")
        elif key == "Destination" and value in {"0.0.0.0/0", "::/0"}:
            continue
        elif line and not line.startswith("#"):
            said.add(("Network" if title == "Route" else title, key, value))
    return said


def test_netplan_makes_of_its_file_what_we_write_for_networkd(
    programs: Path, node: NodePlan, tmp_path: Path
) -> None:
    laid(node, Network.NETPLAN, tmp_path)
    done = run(programs, found(programs, "generate"), "--root-dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    theirs = {
        path.name: sections(path.read_text("utf-8")) for path in (tmp_path / "run/systemd/network").iterdir()
    }
    own = {
        Path(path).name: sections(file.data.decode())
        for path, file in network.files(node, Network.NETWORKD)
        if path.startswith("etc/systemd/network")
    }
    for kind in (".network", ".netdev"):
        for title in ("Network", "NetDev", "VLAN", "Match"):
            ours = facts(own, kind, title)
            assert facts(theirs, kind, title) == ours


def facts(files: dict[str, set[tuple[str, str, str]]], kind: str, title: str) -> set[tuple[str, str]]:
    """Return the assignments of one section in all files of a kind, of the keys that tell where packets go."""
    told = {
        "Address",
        "Gateway",
        "DNS",
        "Domains",
        "VLAN",
        "Id",
        "Name",
        "MACAddress",
        "PermanentMACAddress",
        "Kind",
    }
    return {
        (key.removeprefix("Permanent"), value)
        for name, said in files.items()
        if name.endswith(kind)
        for where, key, value in said
        if where == title and key in told
    }


def test_netplan_tells_a_wifi_key_from_a_passphrase(
    programs: Path, plain_node: NodePlan, tmp_path: Path
) -> None:
    laid(on_wifi(plain_node), Network.NETPLAN, tmp_path)
    assert run(programs, found(programs, "generate"), "--root-dir", tmp_path).returncode == 0
    assert f"psk={PSK}\n" in (tmp_path / "run/netplan/wpa-wlan0.conf").read_text("utf-8")


def commands(programs: Path, interfaces: Path, folder: Path) -> str:
    """Return what ifup would run for every port of an interfaces file, and for the VLAN on it."""
    ifup, ifquery = found(programs, "ifup"), found(programs, "ifquery")
    told: list[str | Path] = ["-i", interfaces, "--state-dir", folder / "state"]
    listed = run(programs, ifquery, *told, "--list")
    assert (listed.returncode, listed.stderr) == (0, "")
    said = ""
    ports = [port for port in listed.stdout.split() if port != "lo"]
    while ports:
        done = run(programs, ifup, "--no-act", "--force", *told, ports.pop())
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
        ports += re.findall(r"^ifup (\S+)$", done.stdout + done.stderr, re.MULTILINE)
    return re.sub(r"\s+", " ", said)


def check_commands(said: str, node: NodePlan) -> None:
    """Hold the commands against the node."""
    for address in node.link.addresses:
        written = address.with_netmask if address.version == 4 else address.with_prefixlen
        assert f" addr add {written}" in said
    for gateway in node.link.gateways:
        assert re.search(rf"ip (-6 )?route (add|replace) default via {gateway} ", said)
    assert "default" in said or not node.link.gateways
    if node.head:
        outer = node.head.upstream
        assert bool(re.search(r"dhclient|dhcpcd|udhcpc", said)) == (outer.address is None)
        if outer.address:
            assert f" addr add {outer.address.with_netmask} " in said
            assert f"route add default via {outer.gateway} dev {outer.name} " in said


def test_ifup_would_run_these_commands(programs: Path, node: NodePlan, tmp_path: Path) -> None:
    laid(node, Network.IFUPDOWN, tmp_path)
    interfaces = tmp_path / "etc/network/interfaces"
    interfaces.write_text(interfaces.read_text("utf-8").replace("source /", f"source {tmp_path}/"), "utf-8")
    said = commands(programs, interfaces, tmp_path)
    check_commands(said, node)
    assert ("type vlan id 10" in said) == bool(node.link.vlan)
    if node.link.address6:
        assert f"accept_ra={2 if node.link.ra else 0} " in said
    elif not node.link.ra:
        assert "echo 0 > /proc/sys/net/ipv6/conf/$IFACE/accept_ra" in said


def translated(programs: Path, module: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let cloud-init translate a network-config, with its own modules."""
    package = programs / "usr/lib/python3/dist-packages"
    argv = [sys.executable, "-W", "ignore", "-c", TRANSLATE, module, folder]
    return run(programs, *map(str, argv), stdin=text, PYTHONPATH=str(package / "only"), LD_LIBRARY_PATH="")


@pytest.fixture(scope="session")
def cloud_init_only(programs: Path) -> None:
    """Let Python see cloud-init's package without the others beside it, which are made for another Python."""
    package = programs / "usr/lib/python3/dist-packages"
    (package / "only").mkdir()
    (package / "only/cloudinit").symlink_to(package / "cloudinit")


@pytest.mark.usefixtures("cloud_init_only")
@pytest.mark.parametrize("node", ["plain", "mac", "vlan", "no gateway", "ipv6", "dual stack"], indirect=True)
def test_what_cloud_init_translates_for_ifupdown_comes_to_the_same(
    programs: Path, node: NodePlan, tmp_path: Path
) -> None:
    program = CloudInit("22.4.2", "label", ("user-data", "meta-data", "network-config"), (Network.IFUPDOWN,))
    done = translated(programs, "eni", network.network_config(node, program), tmp_path)
    assert done.returncode == 0, done.stderr
    said = commands(programs, tmp_path / "etc/network/interfaces", tmp_path)
    check_commands(said, node)
    if node.link.vlan:
        assert "name eth0.10 type vlan id 10" in said


def read_profiles(programs: Path, folder: Path) -> dict[str, Any]:
    """Return what libnm reads in the keyfiles of a folder."""
    profiles = sorted((folder / "etc/NetworkManager/system-connections").iterdir())
    typelibs = next(programs.glob("usr/lib/*-linux-gnu*/girepository-1.0"))
    argv: list[str | Path] = ["/usr/bin/python3", "-c", READ_PROFILES, *profiles]
    modules = str(programs / "usr/lib/python3/dist-packages")
    done = run(programs, *argv, PYTHONPATH=modules, GI_TYPELIB_PATH=str(typelibs))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


def test_network_manager_reads_its_profiles_without_a_warning(
    programs: Path, node: NodePlan, tmp_path: Path
) -> None:
    said = read_profiles(programs, laid(node, Network.NETWORK_MANAGER, tmp_path))
    assert all(profile["good"] and not profile["warned"] for profile in said.values())
    own = said["pibake"]
    link = node.link
    assert own["4"]["addresses"] + own["6"]["addresses"] == [
        address.with_prefixlen for address in link.addresses
    ]
    assert [g for g in (own["4"]["gateway"], own["6"]["gateway"]) if g] == [str(g) for g in link.gateways]
    assert sorted(own["4"]["dns"] + own["6"]["dns"]) == sorted(link.nameservers)
    silent = "manual" if own["6"]["addresses"] else "link-local"
    assert own["6"]["method"] == ("auto" if link.ra else silent)
    if link.vlan:
        assert own["type"] == "vlan"
        assert said["pibake-port"]["4"]["method"] == said["pibake-port"]["6"]["method"] == "disabled"
    if node.wifi:
        assert (own["ssid"], own["psk"]) == (node.wifi.ssid, PSK)
    if node.head:
        outer = node.head.upstream
        out = said["pibake-outer"]
        assert out["4"]["method"] == ("manual" if outer.address else "auto")
        assert out["4"]["addresses"] == ([str(outer.address)] if outer.address else [])
        assert (out["4"]["gateway"] or "") == str(outer.gateway or "")
        assert out["4"]["dns"] == list(outer.nameservers)
        assert out["6"]["method"] == "disabled"
        assert out["ssid"] == (outer.wifi.ssid if outer.wifi else "")


@pytest.mark.parametrize(
    "ssid", ["lab", "my lab", "12;34", "café", '"quoted"', "back\\slash", 'a"#b"c', " lead", "trail "]
)
def test_network_manager_and_wpa_supplicant_read_any_wifi_name(
    programs: Path, plain_node: NodePlan, ssid: str, tmp_path: Path
) -> None:
    node = on_wifi(plain_node, ssid)
    assert (
        read_profiles(programs, laid(node, Network.NETWORK_MANAGER, tmp_path / "nm"))["pibake"]["ssid"]
        == ssid
    )
    conf = laid(node, Network.DHCPCD, tmp_path) / "etc/wpa_supplicant/wpa_supplicant.conf"
    # a port that does not exist: it reads its configuration, looks for the port, and ends
    argv: list[str | Path] = [
        found(programs, "wpa_supplicant"),
        "-dd",
        "-D",
        "none",
        "-i",
        "no-such-port",
        "-c",
        conf,
    ]
    done = run(programs, *argv)
    assert "Failed to read or parse configuration" not in done.stdout
    dumped = re.search(
        r"^ssid - hexdump_ascii\(len=\d+\):\n((?: {5}[0-9a-f ]{48}.*\n)+)", done.stdout, re.MULTILINE
    )
    assert dumped, done.stdout
    assert bytes.fromhex("".join(line[5:53] for line in dumped[1].splitlines())).decode() == ssid
    assert "country='DE'" in done.stdout


def test_dhcpcd_knows_every_option(programs: Path, node: NodePlan, tmp_path: Path) -> None:
    conf = laid(node, Network.DHCPCD, tmp_path) / "etc/dhcpcd.conf"
    # it parses what stands below a port only if it has that port
    everywhere = re.sub(r"^interface .*", "", conf.read_text("utf-8"), flags=re.MULTILINE)
    for text, wrong in ((everywhere, False), (everywhere.replace("persistent", "persistant"), True)):
        conf.write_text(text, "utf-8")
        done = run(programs, found(programs, "dhcpcd"), "-f", conf, "-U", "lo")
        assert bool(re.search("unknown option|invalid|not a valid", done.stdout + done.stderr)) == wrong, (
            done.stderr
        )


def test_the_hook_of_dhcpcd_sets_the_ipv6_router_when_the_port_is_up(node: NodePlan, tmp_path: Path) -> None:
    hook = laid(node, Network.DHCPCD, tmp_path) / "etc/dhcpcd.exit-hook"
    routers = [gateway for gateway in node.link.gateways if gateway.version == 6]
    assert hook.exists() == bool(routers)
    for router in routers:
        port = "vlan10" if node.link.vlan else "lan0" if node.link.mac else "eth0"
        for interface, reason in (
            (port, "CARRIER"),
            (port, "STATIC6"),
            (port, "EXPIRE"),
            ("veth1", "CARRIER"),
        ):
            script = f'ip() {{ echo "$@"; }}; interface={interface} reason={reason}; . {hook}'
            done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)
            told = f"-6 route replace default via {router} dev {port} onlink\n"
            assert done.stdout == (told if interface == port and reason != "EXPIRE" else "")


def test_systemd_finds_nothing_wrong_with_our_units(node: NodePlan, tmp_path: Path) -> None:
    for style in (Network.DHCPCD, Network.NETWORKD):
        units = laid(node, style, tmp_path / style) / "etc/systemd/system"
        for unit in units.glob("*.service"):
            done = subprocess.run(
                ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
        for drop_in in units.glob("*/*.conf"):
            wanted = configparser.ConfigParser()
            wanted.optionxform = str  # type: ignore[assignment,method-assign]
            wanted.read(drop_in)
            name = wanted["Unit"]["Wants"]
            assert (units / name).exists() or name == "wpa_supplicant@wlan0.service"


@pytest.mark.parametrize("node", [name for name in NETWORKS if name != "wifi"], indirect=True)
def test_the_shell_reads_ifcfg_files_as_the_network_service_does(node: NodePlan, tmp_path: Path) -> None:
    folder = laid(node, Network.IFCFG, tmp_path) / "etc/sysconfig/network-scripts"
    last = max(folder.iterdir(), key=lambda path: len(path.name))
    done = subprocess.run(
        ["sh", "-euac", f". {last}; env"], env={}, capture_output=True, text=True, check=True
    )
    said = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert said["DEVICE"] == ("eth0.10" if node.link.vlan else "eth0")
    first = node.link.address
    expected = {"IPADDR": str(first.ip), "PREFIX": "24"} if first.version == 4 else {"IPV6ADDR": str(first)}
    assert expected.items() <= said.items()
    if node.link.gateway:
        key, value = ("GATEWAY", "192.168.10.1") if first.version == 4 else ("IPV6_DEFAULTGW", "fe80::1%eth0")
        assert said[key] == value
    assert said["DOMAIN"] == "lab.example"
    assert said["IPV6_AUTOCONF"] == ("yes" if node.link.ra else "no")


def test_version_1_is_one_mapping_of_yaml(plain_node: NodePlan) -> None:
    program = CloudInit("0.7.9", "label", ("user-data", "meta-data", "network-config"), (Network.IFUPDOWN,))
    text = network.network_config(NETWORKS["vlan"](plain_node), program)
    assert [entry["type"] for entry in yaml.safe_load(text)["config"]] == ["physical", "vlan"]
