"""User-data of HypriotOS and cloud-init -> a cluster.yaml that pibake's own loader takes."""

from __future__ import annotations

import base64
import gzip
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pibake import config, imported
from pibake.errors import ConfigError
from pibake.imported import cloud, wireless

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
HASH = "$6$salt$" + "a" * 86
PSK = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
"""The example of IEEE 802.11-2020 annex J.4.2: SSID IEEE, passphrase `password`."""

PIRATE = f"""
users:
  - name: pirate
    gecos: The captain
    primary-group: users
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/zsh
    groups: users,docker,video
    ssh-import-id: None
    lock_passwd: true
    ssh-authorized-keys:
      - {KEY}
"""
STATIC = f"""#cloud-config
hostname: static
manage_etc_hosts: true
timezone: Europe/Berlin
locale: de_DE.UTF-8
{PIRATE}
write_files:
  - content: |
      persistent
      interface eth0
      # static ip_address=10.0.0.1/8
      static ip_address=192.168.1.31/24
      static routers=192.168.1.1
      static domain_name_servers=192.168.1.1 8.8.8.8   # two
      static domain_name=lab.example
    path: /etc/dhcpcd.conf
"""
WIFI = f"""#cloud-config
hostname: pi0w
{PIRATE}
write_files:
  - content: |
      allow-hotplug wlan0
      iface wlan0 inet static
        address 192.168.1.40
        netmask 255.255.255.0
        gateway 192.168.1.1
        dns-nameservers 192.168.1.1
      wpa-conf /etc/wpa_supplicant/wpa_supplicant.conf
    path: /etc/network/interfaces.d/wlan0
  - content: |
      country=de
      ctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev
      network={{
      ssid="IEEE"           # the one in the attic
      psk="password"   # not for guests
      proto=RSN
      key_mgmt=WPA-PSK
      }}
    path: /etc/wpa_supplicant/wpa_supplicant.conf
"""


def made(user_data: str = "", **others: str) -> imported.Imported:
    files = {"user-data": ("user-data.yml", user_data.encode())} if user_data else {}
    named = {name.replace("_", "-"): text for name, text in others.items()}
    return imported.read(
        files | {name: (name, text.encode()) for name, text in named.items()}, "user-data.yml"
    )


def text_of(node: imported.Imported) -> str:
    return imported.cluster_yaml(node, "user-data.yml", secrets=True, overlay=False)


def loaded(node: imported.Imported, folder: Path) -> config.Cluster:
    path = folder / "cluster.yaml"
    path.write_text(text_of(node), "utf-8")
    return config.load(path, bases=("debian-13",))


def parsed(node: imported.Imported) -> Any:
    return parsed_text(text_of(node))


def parsed_text(text: str) -> Any:
    return yaml.safe_load(text)


def left(node: imported.Imported) -> dict[str, str]:
    return {note.key: f"{note.place}: {note.text}" for note in node.notes if not note.carried}


def with_file(path: str, content: str, more: str = "") -> str:
    indented = "".join(f"      {line}\n" for line in content.splitlines())
    return f"#cloud-config\nhostname: node1\n{PIRATE}{more}\nwrite_files:\n  - path: {path}\n    content: |\n{indented}"


def test_a_static_address_in_dhcpcd_conf_becomes_a_node_that_loads(tmp_path: Path) -> None:
    node = made(STATIC)
    file = loaded(node, tmp_path).file
    assert not node.missing
    assert (file.nodes[0].hostname, str(file.nodes[0].address)) == ("static", "192.168.1.31")
    assert (str(file.network.subnet), str(file.network.gateway)) == ("192.168.1.0/24", "192.168.1.1")
    assert [str(server) for server in file.network.dns or ()] == ["192.168.1.1", "8.8.8.8"]
    assert file.network.search == ("lab.example",)
    assert (file.nodes[0].timezone, file.nodes[0].locale) == ("Europe/Berlin", "de_DE.UTF-8")
    user = file.users[0]
    assert (user.name, user.shell, user.sudo, user.groups) == ("pirate", "/bin/zsh", True, ("users", "video"))
    assert user.ssh_keys == (KEY,)
    assert "users.pirate.groups" in left(node)


def test_a_wireless_static_address_makes_the_wireless_link_the_nodes() -> None:
    node = made(WIFI)
    data = parsed(node)
    assert data["network"]["wifi"] == {"ssid": "IEEE", "psk": PSK, "country": "DE"}
    assert data["nodes"] == [{"hostname": "pi0w", "address": "192.168.1.40/24", "link": "wifi"}]
    assert data["network"]["subnet"] == "192.168.1.0/24"
    assert not node.missing


def test_the_key_of_a_network_is_that_of_the_standards_example() -> None:
    assert wireless.pairwise_key("IEEE", "password") == PSK
    assert wireless.pairwise_key("anything", PSK.upper()) == PSK


@pytest.mark.parametrize("secret", ["short", "x" * 64, "pässword"])
def test_what_is_no_passphrase_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="passphrase") as caught:
        wireless.pairwise_key("IEEE", secret)
    assert secret not in str(caught.value)


def test_the_network_of_the_highest_priority_is_taken() -> None:
    node = made(
        with_file(
            "/etc/wpa_supplicant/wpa_supplicant.conf",
            'country=GB\nnetwork={\n ssid="guests"\n key_mgmt=NONE\n}\nnetwork={\n ssid="old"\n psk="password"\n}\n'
            'network={\n ssid="IEEE"\n priority=5\n scan_ssid=1\n psk="password"\n}\n'
            'network={\n ssid="off"\n priority=9\n disabled=1\n psk="password"\n}',
        )
    )
    assert node.wifi
    assert (node.wifi.ssid, node.wifi.psk.reveal(), node.wifi.country) == ("IEEE", PSK, "GB")
    assert {"hidden", "wifi"} <= left(node).keys()


@pytest.mark.parametrize(("written", "country"), [("de", "DE"), ("UK", "GB"), ("YourCountry", "")])
def test_the_country_is_written_as_the_regulatory_database_does(written: str, country: str) -> None:
    node = made(WIFI.replace("country=de", f"country={written}"))
    assert node.wifi
    assert node.wifi.country == country
    assert ("country" in node.missing) == (not country)


def test_the_name_of_the_source_cannot_end_its_comment() -> None:
    text = imported.cluster_yaml(made(STATIC), "a\nevil: key\x85", secrets=True, overlay=False)
    assert "evil" not in parsed_text(text)


def test_a_network_without_a_preshared_key_is_left_out() -> None:
    node = made(
        with_file(
            "/etc/wpa_supplicant/wpa_supplicant.conf",
            'network={\n ssid="work"\n key_mgmt=WPA-EAP\n password="x"\n}',
        )
    )
    assert node.wifi is None
    assert "pre-shared key" in left(node)["wifi"]


ADDRESS_FILES = {
    "/etc/network/interfaces.d/eth0": """\
auto eth0
iface eth0 inet static
  address 10.1.2.3
  netmask 255.255.0.0
  gateway 10.1.0.1
  dns-nameservers 10.1.0.1 9.9.9.9
  dns-search lab.example
""",
    "/etc/network/interfaces": """\
auto lo
iface lo inet loopback
allow-hotplug eth0
iface eth0 inet static
 address 10.1.2.3/16
 gateway 10.1.0.1
 dns-nameservers 10.1.0.1 9.9.9.9
 dns-search lab.example
iface eth0 inet6 auto
""",
    "/etc/netplan/50-static.yaml": """\
network:
  version: 2
  ethernets:
    eth0:
      addresses: [10.1.2.3/16]
      routes: [{to: default, via: 10.1.0.1}]
      nameservers: {addresses: [10.1.0.1, 9.9.9.9], search: [lab.example]}
""",
}


@pytest.mark.parametrize("path", ADDRESS_FILES)
def test_every_way_to_write_a_static_address_is_understood(path: str, tmp_path: Path) -> None:
    file = loaded(made(with_file(path, ADDRESS_FILES[path])), tmp_path).file
    assert str(file.nodes[0].address) == "10.1.2.3"
    assert (str(file.network.subnet), str(file.network.gateway)) == ("10.1.0.0/16", "10.1.0.1")
    assert [str(server) for server in file.network.dns or ()] == ["10.1.0.1", "9.9.9.9"]
    assert file.network.search == ("lab.example",)


NETWORK_CONFIGS = {
    "version 2": "version: 2\nethernets:\n  wired:\n    match: {macaddress: 'DC:A6:32:01:02:03'}\n    dhcp4: false\n"
    "    addresses: ['10.1.2.3/16', 'fd00::3/64']\n    gateway4: 10.1.0.1\n    nameservers: {addresses: [9.9.9.9]}\n",
    "version 2 in network": "network:\n  version: 2\n  ethernets:\n    eth0:\n      macaddress: 'dc:a6:32:01:02:03'\n"
    "      addresses: [10.1.2.3/16]\n      routes: [{to: 0.0.0.0/0, via: 10.1.0.1}]\n      nameservers: {addresses: [9.9.9.9]}\n",
    "version 1": "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    mac_address: 'dc:a6:32:01:02:03'\n    subnets:\n"
    "      - {type: static, address: 10.1.2.3, netmask: 255.255.0.0, gateway: 10.1.0.1}\n"
    "  - {type: nameserver, address: 9.9.9.9}\n",
}


@pytest.mark.parametrize("name", NETWORK_CONFIGS)
def test_network_config_gives_the_address(name: str, tmp_path: Path) -> None:
    file = loaded(
        made(f"#cloud-config\nhostname: a\n{PIRATE}", network_config=NETWORK_CONFIGS[name]), tmp_path
    ).file
    assert (str(file.nodes[0].address), file.nodes[0].mac) == ("10.1.2.3", "dc:a6:32:01:02:03")
    assert (str(file.network.subnet), str(file.network.gateway)) == ("10.1.0.0/16", "10.1.0.1")
    assert [str(server) for server in file.network.dns or ()] == ["9.9.9.9"]


def test_a_vlan_with_an_address_becomes_the_clusters(tmp_path: Path) -> None:
    node = made(
        f"#cloud-config\nhostname: a\n{PIRATE}",
        network_config="version: 2\nethernets: {eth0: {}}\nvlans:\n  v10: {id: 10, link: eth0, addresses: [10.0.0.2/24]}\n",
    )
    assert loaded(node, tmp_path).file.network.vlan == 10


def test_imagers_wireless_network_config_with_escaped_octets() -> None:
    node = made(
        f"#cloud-config\nhostname: a\n{PIRATE}",
        network_config="network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      optional: true\n  wifis:\n"
        '    wlan0:\n      dhcp4: true\n      regulatory-domain: "NO"\n      access-points:\n'
        f'        "caf\\xc3\\xa9":\n          password: "{PSK}"\n      optional: true\n',
    )
    data = parsed(node)
    assert data["network"]["wifi"] == {"ssid": "café", "psk": PSK, "country": "NO"}
    assert data["nodes"] == [{"hostname": "a", "link": "wifi"}]
    assert set(node.missing) == {"address", "subnet"}


def test_what_is_missing_is_a_comment_with_its_reason() -> None:
    node = made(
        "#cloud-config\nusers:\n  - name: pirate\n    plain_text_passwd: hypriot\n    lock_passwd: false\n"
    )
    assert set(node.missing) == {"hostname", "address", "subnet", "ssh_keys"}
    text = text_of(node)
    for line in (
        "  - # hostname: node1 ",
        "    # address: 192.168.10.11/24",
        "  # subnet: ",
        "    # ssh_keys: ",
    ):
        assert any(found.startswith(line) and "# missing: " in found for found in text.splitlines()), line
    assert yaml.safe_load(text)["users"] == [{"name": "pirate", "sudo": False}]


def test_an_address_without_its_prefix_does_not_invent_a_subnet() -> None:
    node = made(with_file("/etc/dhcpcd.conf", "interface eth0\nstatic ip_address=192.168.1.5\n"))
    assert (node.address, node.subnet) == ("192.168.1.5", "")
    assert "prefix" in node.missing["subnet"]


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("static ip_address=192.168.1.0/24", "address"),
        ("static ip_address=192.168.1.255/24", "address"),
        ("static ip_address=192.168.1.5/24\nstatic routers=10.0.0.1", "gateway"),
        ("static ip_address=192.168.1.5/24\nstatic routers=192.168.1.255", "gateway"),
        ("static ip_address=192.168.1.5/32", "address"),
        ("static ip_address=300.168.1.5/24", "address"),
    ],
)
def test_what_the_rules_would_refuse_is_left_out_with_their_reason(line: str, gone: str) -> None:
    node = made(with_file("/etc/dhcpcd.conf", f"interface eth0\n{line}\n"))
    assert not getattr(node, gone)
    assert left(node)
    assert ("address" in node.missing) == (gone == "address")


def test_four_name_servers_become_three_and_a_note() -> None:
    node = made(
        with_file(
            "/etc/dhcpcd.conf",
            "interface eth0\nstatic ip_address=10.0.0.2/24\nstatic domain_name_servers=1.1.1.1 1.0.0.1 8.8.8.8 8.8.4.4\n",
        )
    )
    assert node.dns == ("1.1.1.1", "1.0.0.1", "8.8.8.8")
    assert "8.8.4.4" in left(node)["dns"]


def test_a_dhcpcd_profile_is_no_address() -> None:
    node = made(
        with_file(
            "/etc/dhcpcd.conf",
            "profile home\nstatic ip_address=10.0.0.2/24\ninterface eth0\nfallback home\n",
        )
    )
    assert "address" in node.missing
    assert "profile" in left(node)


@pytest.mark.parametrize(
    ("names", "hostname", "domain"),
    [
        ("hostname: Node_1", "", ""),
        ("hostname: NODE1", "node1", ""),
        ("hostname: node1.lab.example", "node1", "lab.example"),
        ("fqdn: node1.lab.example", "node1", "lab.example"),
        ("fqdn: other.lab.example\nhostname: node1", "node1", "lab.example"),
        ("hostname: node1\nfqdn: other.lab.example", "node1", "lab.example"),
        ("hostname: no", "no", ""),
    ],
)
def test_names(names: str, hostname: str, domain: str) -> None:
    node = made(f"#cloud-config\n{names}\n{PIRATE}")
    assert (node.hostname, node.domain) == (hostname, domain)
    if hostname:
        assert parsed(node)["nodes"] == [{"hostname": hostname}]


def test_the_name_in_meta_data_is_taken_where_user_data_has_none() -> None:
    assert made(f"#cloud-config\n{PIRATE}", meta_data="local-hostname: node7\n").hostname == "node7"
    assert made(f"#cloud-config\nhostname: a\n{PIRATE}", meta_data="local-hostname: node7\n").hostname == "a"


@pytest.mark.parametrize(
    ("rule", "sudo", "groups"),
    [
        ("ALL=(ALL) NOPASSWD:ALL", True, ()),
        ("['ALL=(ALL:ALL) NOPASSWD: ALL']", True, ()),
        ("ALL=(ALL) ALL", False, ("sudo",)),
        ("ALL=(root) NOPASSWD:/bin/ls", False, ()),
        ("false", False, ()),
        ("null", False, ()),
        ("[]", False, ()),
    ],
)
def test_rules_of_sudo(rule: str, sudo: bool, groups: tuple[str, ...]) -> None:
    user = made(
        f"#cloud-config\nusers:\n  - name: a\n    sudo: {rule}\n    ssh_authorized_keys: ['{KEY}']\n"
    ).users[0]
    assert (user.sudo, user.groups) == (sudo, groups)


def test_a_user_without_sudo_stays_without() -> None:
    node = made(f"#cloud-config\nusers:\n  - name: a\n    ssh_authorized_keys: ['{KEY}']\n")
    assert parsed(node)["users"][0]["sudo"] is False


def test_the_shapes_of_users() -> None:
    node = made("#cloud-config\nusers:\n  - default\n  - bob, eve\n  - name: ann\n  - [odd]\n  - shell: x\n")
    assert [user.name for user in node.users] == ["bob", "eve", "ann"]
    assert "the image's own user" in left(node)["users.default"]
    assert [user.name for user in made("#cloud-config\nusers: {ann: {}, bob: {sudo: false}}\n").users] == [
        "ann",
        "bob",
    ]


def test_the_image_s_own_user_keeps_its_way_to_become_root() -> None:
    asked = made(
        f"#cloud-config\nuser:\n  name: me\n  lock_passwd: false\n  passwd: '{HASH}'\n  sudo: null\n"
    ).users[0]
    assert (asked.sudo, asked.groups) == (False, ("sudo",))
    assert made("#cloud-config\nuser: me\n").users[0].sudo is True


@pytest.mark.parametrize("name", ["root", "www-data", "Me", "a b", "-x"])
def test_accounts_that_cannot_be_are_left_out(name: str) -> None:
    node = made(f"#cloud-config\nhostname: a\nusers:\n  - name: '{name}'\n")
    assert not node.users
    assert "users" in left(node)


def test_keys_of_github_and_launchpad_become_addresses(tmp_path: Path) -> None:
    node = made(STATIC.replace("ssh-import-id: None", "ssh_import_id: [gh:me, lp:you, 'x:y']"))
    keys = loaded(node, tmp_path).file.users[0].ssh_keys
    assert [getattr(key, "url", "") for key in keys[1:]] == [
        "https://github.com/me.keys",
        "https://launchpad.net/~you/+sshkeys",
    ]


def test_a_placeholder_instead_of_a_key_is_no_key() -> None:
    node = made(STATIC.replace(KEY, "ssh-rsa AAAA....NN   # insert yours"))
    assert "ssh_keys" in node.missing
    assert "user-data.yml:17: this ssh-rsa key is damaged" in left(node)["users.pirate.ssh_authorized_keys"]


@pytest.mark.parametrize(
    ("lock", "carried"),
    [("lock_passwd: false", True), ("lock_passwd: true", False), ("shell: /bin/sh", False)],
)
def test_a_password_s_hash_is_carried_only_if_it_lets_somebody_in(lock: str, carried: bool) -> None:
    node = made(f"#cloud-config\nusers:\n  - name: a\n    passwd: '{HASH}'\n    {lock}\n")
    assert (node.users[0].password_hash is not None) == carried == node.has_secrets
    assert (HASH in text_of(node)) == carried


def test_passwords_in_clear_are_refused_and_never_repeated() -> None:
    node = made(
        "#cloud-config\npassword: Hunter2\nusers:\n  - name: a\n    plain_text_passwd: Hunter2\n    lock_passwd: false\n"
        "  - name: b\n    passwd: Hunter2\n    lock_passwd: false\n"
        "chpasswd:\n  list: |\n    a:Hunter2\n  users:\n    - {name: a, password: Hunter2, type: text}\n"
    )
    refused = left(node)
    assert {"password", "users.a.plain_text_passwd", "users.b.passwd", "chpasswd"} <= refused.keys()
    assert "openssl passwd -6" in refused["users.a.plain_text_passwd"]
    assert "Hunter2" not in text_of(node) + repr(node)


def test_chpasswd_gives_hashes_to_users_that_stand_before_or_after_it() -> None:
    node = made(
        f"#cloud-config\nchpasswd:\n  expire: false\n  users:\n    - {{name: a, password: '{HASH}'}}\n"
        "    - {name: x, password: y}\nusers: [a]\n"
    )
    assert node.users[0].password_hash
    assert node.users[0].password_hash.reveal() == HASH
    assert "y" not in repr(node.notes[-1].key)


def test_keys_at_the_top_go_to_the_first_user() -> None:
    assert made(f"#cloud-config\nssh_authorized_keys: ['{KEY}']\nusers: [a, b]\n").users[0].keys == (KEY,)
    assert made(f"#cloud-config\nssh_authorized_keys: ['{KEY}']\n").users[0].name == "pi"


def test_other_files_go_into_an_overlay() -> None:
    packed = base64.b64encode(gzip.compress(b"packed\n")).decode()
    node = made(
        "#cloud-config\nhostname: a\nwrite_files:\n"
        "  - {path: /opt/app/docker-compose.yml, content: 'services: {}'}\n"
        "  - {path: /usr/local/bin/hello, permissions: '0755', owner: 'root:root', content: '#!/bin/sh'}\n"
        "  - {path: /etc/motd, encoding: b64, content: aGVsbG8=}\n"
        "  - {path: /etc/issue, content: !!binary aGVsbG8=}\n"
        f"  - {{path: /etc/packed, encoding: gz+base64, content: {packed}}}\n"
        "  - {path: //etc/./twice, content: one}\n  - {path: /etc/twice, content: two}\n"
    )
    assert {path: (file.data, file.mode) for path, file in node.overlay} == {
        "opt/app/docker-compose.yml": (b"services: {}", 0o644),
        "usr/local/bin/hello": (b"#!/bin/sh", 0o755),
        "etc/motd": (b"hello", 0o644),
        "etc/issue": (b"hello", 0o644),
        "etc/packed": (b"packed\n", 0o644),
        "etc/twice": (b"two", 0o644),
    }
    assert not left(node)
    whole = yaml.safe_load(imported.cluster_yaml(node, "u", secrets=True, overlay=True))
    assert whole["nodes"] == [{"hostname": "a", "overlays": ["a"]}]


@pytest.mark.parametrize(
    "entry",
    [
        "path: relative, content: x",
        "path: /a/../../etc/x, content: x",
        "path: /, content: x",
        'path: "/etc/a\\nb", content: x',
        "content: x",
        "path: /etc/secret, permissions: '0600', content: x",
        "path: /etc/group-only, permissions: '0640', content: x",
        "path: /usr/bin/setuid, permissions: '4755', content: x",
        "path: /etc/odd, permissions: rw, content: x",
        "path: /etc/theirs, owner: 'pirate:pirate', content: x",
        "path: /etc/more, append: true, content: x",
        "path: /home/pirate/.bashrc, content: x",
        "path: /boot/config.txt, content: x",
        "path: /etc/hostname, content: x",
        "path: /etc/cloud/cloud.cfg.d/99.cfg, content: x",
        "path: /etc/ssh/ssh_host_rsa_key, content: x",
        "path: /etc/key.pem, content: '-----BEGIN PRIVATE KEY-----'",
        "path: /etc/bad, encoding: b64, content: '!'",
        "path: /etc/bad, encoding: gz, content: 'no gzip'",
        "path: /etc/bad, encoding: rot13, content: x",
        "path: /etc/there, source: {uri: 'https://lab.example/x'}",
        "path: [odd], content: x",
    ],
)
def test_files_that_an_overlay_cannot_hold_are_left_out(entry: str) -> None:
    node = made(f"#cloud-config\nhostname: a\nwrite_files:\n  - {{{entry}}}\n")
    assert len(node.overlay) == 0
    assert len(left(node)) == 1


def test_an_overlay_stays_below_what_a_seed_carries() -> None:
    bomb = base64.b64encode(gzip.compress(bytes(64 << 20))).decode()
    big = "x" * (300 << 10)
    node = made(
        f"#cloud-config\nwrite_files:\n  - {{path: /etc/a, content: {big}}}\n  - {{path: /etc/b, content: {big}}}\n"
        f"  - {{path: /etc/c, encoding: gz+b64, content: '{bomb}'}}\n"
    )
    assert [path for path, _ in node.overlay] == ["etc/a"]


def test_a_file_cannot_also_be_a_folder() -> None:
    node = made(
        "#cloud-config\nwrite_files:\n  - {path: /etc/a, content: x}\n  - {path: /etc/a/b, content: x}\n"
    )
    assert [path for path, _ in node.overlay] == ["etc/a"]


def test_commands_are_named_by_their_program_alone_and_never_run() -> None:
    node = made(
        "#cloud-config\nruncmd:\n  - systemctl restart avahi-daemon\n  - [ifup, wlan0]\n  - docker login -p Hunter2 x\n"
        "  - TOKEN=Hunter2 curl x\n  - wpa_passphrase IEEE Hunter2\nbootcmd: [x]\npackages: [ntp]\npackage_upgrade: true\n"
        "package_update: false\nssh_pwauth: true\nrpi: {interfaces: {i2c: true}}\nsomething: else\n"
    )
    refused = left(node)
    assert {
        "runcmd systemctl",
        "runcmd ifup",
        "runcmd docker",
        "runcmd ...",
        "runcmd wpa_passphrase",
    } <= refused.keys()
    assert {"bootcmd", "packages", "package_upgrade", "ssh_pwauth", "rpi", "something"} <= refused.keys()
    assert "package_update" not in refused
    assert refused["runcmd docker"].startswith("user-data.yml:5: nodes run containers by Kubernetes")
    assert "Hunter2" not in repr(node)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hostname: a\n", "u:1: the first line is not `#cloud-config`, and cloud-init silently ignores"),
        ("# cloud-config\nhostname: a\n", "write it without the space"),
        ("hostname: a\nwifi:\n  interfaces: {}\n", "device-init.yaml of HypriotOS before 1.7"),
        ("\ufeff#cloud-config\nhostname: a\n", "u:1: a byte order mark"),
        ("## template: jinja\n#cloud-config\nhostname: {{ x }}\n", "u:1: this is a Jinja template"),
        ("#include\nhttps://lab.example/x\n", "u:1: this is a list of addresses"),
        ("#include-once\nhttps://lab.example/x\n", "u:1: this is a list of addresses"),
        ("#!/bin/sh\nreboot\n", "u:1: this is a script"),
        ("#cloud-boothook\n#!/bin/sh\n", "u:1: this is a script"),
        ("#cloud-config-archive\n- x\n", "u:1: this is an archive"),
        ("Content-Type: multipart/mixed; boundary=x\n", "u:1: this is a multipart message"),
        ("MIME-Version: 1.0\n", "u:1: this is a multipart message"),
        ("#cloud-config\nusers:\n\t- a\n", "u:3:1: a tab cannot indent YAML"),
        ("#cloud-config\nhostname: {{ x }}\n", "u:2:12: a key is plain text"),
        ("#cloud-config\nhostname: a\nhostname: b\n", "u:3:1: `hostname` stands here twice (first on line 2)"),
        ("#cloud-config\n- a\n", "u:2: this is no mapping"),
        ("#cloud-config\na: 1\n---\nb: 2\n", "u:3: a second document starts here"),
        ("#cloud-config\na: '\n", "this quote is never closed"),
        ("#cloud-config\na: " + "[" * 100_000, "u:2: the values are nested too deep"),
        ("#cloud-config\na: [" + "x, " * 20_000 + "]", "u: the file holds more than 10,000 values"),
        ("#cloud-config\na: \x00\n", "u:2:4: the character U+0000 cannot stand in YAML"),
        ("#cloud-config\n# hostname: a\n", "u: there is nothing in it to import"),
        ("", "u:1: the first line is not `#cloud-config`"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported.read({"user-data": ("u", text.encode())}, "u")
    assert said in str(caught.value)


def test_compressed_and_binary_files_are_named_as_such() -> None:
    for raw, said in (
        (gzip.compress(b"#cloud-config"), "compressed with gzip"),
        (b"#cloud-config\n\xff", "not UTF-8"),
    ):
        with pytest.raises(ConfigError, match=said):
            imported.read({"user-data": ("u", raw)}, "u")


@pytest.mark.parametrize(
    "line",
    ['\tpsk="Hunter2"', "\tpasswd: Hunter2", "  psk: Hunter2: x", "\t- wpa_passphrase a Hunter2", "psk: Hunter2\x07",
     "\t- echo pi:Hunter2 | chpasswd"],
)  # fmt: skip
def test_an_error_does_not_show_the_line_of_a_secret(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(f"#cloud-config\nusers:\n{line}\n")
    assert "Hunter2" not in str(caught.value)
    assert "user-data.yml:3" in str(caught.value)


def test_merge_keys_work_as_they_do_for_cloud_init_and_loops_end() -> None:
    node = made(
        "#cloud-config\nx: &x {sudo: 'ALL=(ALL) NOPASSWD:ALL', shell: /bin/sh}\nusers:\n"
        "  - {<<: *x, name: a, shell: /bin/dash}\n  - &loop {<<: *loop, name: b}\n"
    )
    assert [(user.name, user.sudo, user.shell) for user in node.users] == [
        ("a", True, "/bin/dash"),
        ("b", False, "/bin/bash"),
    ]


ODD = ("null", "5", "[]", "{}", "[null]", "[[1]]", "[{}]", "{a: null}", "{a: [1]}", "yes", "''")
SHAPES = (
    "{key}: {odd}",
    "users: [{{name: a, {key}: {odd}}}]",
    "write_files: [{{path: /etc/x, content: x}}, {{path: /etc/y, mine: 1}}, {{{key}: {odd}}}]",
)
NETWORK_SHAPES = (
    "{key}: {odd}",
    "config: [{{type: physical, name: a, {key}: {odd}}}]\nversion: 1",
    "ethernets: {{eth0: {{{key}: {odd}}}}}",
    "wifis: {{wlan0: {{access-points: {{a: {{{key}: {odd}}}}}}}}}",
)
KEYS = (
    *cloud.READERS, "chpasswd", "ssh_authorized_keys", "ssh_pwauth", "package_update", "network", "sudo", "groups",
    "shell", "passwd", "ssh_import_id", "lock_passwd", "path", "content", "owner", "permissions", "encoding",
)  # fmt: skip
NETWORK_KEYS = (
    "ethernets", "wifis", "vlans", "config", "network", "bonds", "addresses", "routes", "nameservers", "match", "subnets",
    "access-points", "auth", "password", "hidden", "id",
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_values_of_the_wrong_kind_are_never_a_crash(odd: str) -> None:
    for shape in SHAPES:
        for key in KEYS:
            node = made(f"#cloud-config\n{shape.format(key=key, odd=odd)}\nkeyboard: x\n")
            assert parsed(node)["cluster"] == "lab"
    for shape in NETWORK_SHAPES:
        for key in NETWORK_KEYS:
            node = made("#cloud-config\nhostname: a\n", network_config=shape.format(key=key, odd=odd))
            assert parsed(node)["cluster"] == "lab"


def test_an_entry_for_an_existing_cluster_is_one_item_of_its_nodes(tmp_path: Path) -> None:
    first, second = made(STATIC), made(STATIC.replace("static\n", "other\n", 1).replace("1.31", "1.32"))
    path = tmp_path / "cluster.yaml"
    path.write_text(text_of(first) + imported.node_entry(second))
    nodes = config.load(path, bases=("debian-13",)).file.nodes
    assert [(node.hostname, str(node.address)) for node in nodes] == [
        ("static", "192.168.1.31"),
        ("other", "192.168.1.32"),
    ]


def test_what_is_printed_holds_no_secret() -> None:
    node = made(WIFI.replace("lock_passwd: true", f"lock_passwd: false\n    passwd: '{HASH}'"))
    assert node.has_secrets
    shown = imported.cluster_yaml(node, "u", secrets=False, overlay=False)
    for secret in (PSK, HASH):
        assert secret in text_of(node)
        assert secret not in shown
        assert secret not in repr(node)
    assert "psk" not in parsed_text(shown)["network"].get("wifi", {})
