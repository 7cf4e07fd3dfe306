"""What Raspberry Pi Imager leaves on a card, in each of its formats -> one and the same node."""

from __future__ import annotations

import pytest

from pibake import imported
from pibake.errors import ConfigError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
HASH = "$y$j9T$abcdefghijklmnop$" + "b" * 43
PSK = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"

CLOUD_INIT = {
    "user-data": f"""#cloud-config
manage_resolv_conf: false

hostname: attic
manage_etc_hosts: true
packages:
- avahi-daemon
apt:
  preserve_sources_list: true
  conf: |
    Acquire {{
      Check-Date "false";
    }};
timezone: Europe/London
keyboard:
  model: pc105
  layout: "gb"
user:
  name: me
  shell: /bin/bash
  lock_passwd: false
  passwd: "{HASH}"
  ssh_authorized_keys:
    - "{KEY}"
  sudo: ALL=(ALL) NOPASSWD:ALL
ssh_pwauth: false
rpi:
  interfaces:
    i2c: true
runcmd:
  - [ systemctl, enable, --now, ssh ]
  - [ sh, -c, "echo 'me ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/010_me-nopasswd" ]
""",
    "network-config": f"""network:
  version: 2
  ethernets:
    eth0:
      dhcp4: true
      dhcp6: true
      optional: true
  wifis:
    wlan0:
      dhcp4: true
      regulatory-domain: "GB"
      access-points:
        "IEEE":
          password: "{PSK}"
      optional: true
""",
    "meta-data": "instance-id: rpi-imager-1700000000000\n",
}
CUSTOM_TOML = f"""
config_version = 1
[system]
hostname = "attic"
[user]
name = "me"
password = "{HASH}"
password_encrypted = true
[ssh]
enabled = true
password_authentication = false
authorized_keys = [ "{KEY}" ]
[wlan]
ssid = "IEEE"
password = "password"
password_encrypted = false
hidden = false
country = "GB"
[locale]
keymap = "gb"
timezone = "Europe/London"
"""
FIRSTRUN = f"""#!/bin/bash

set +e

CURRENT_HOSTNAME=`cat /etc/hostname | tr -d " \\t\\n\\r"`
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom set_hostname attic
else
   echo attic >/etc/hostname
   sed -i "s/127.0.1.1.*$CURRENT_HOSTNAME/127.0.1.1\\tattic/g" /etc/hosts
fi
FIRSTUSER=`getent passwd 1000 | cut -d: -f1`
FIRSTUSERHOME=`getent passwd 1000 | cut -d: -f6`
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom enable_ssh -k '{KEY}'
else
   install -o "$FIRSTUSER" -m 700 -d "$FIRSTUSERHOME/.ssh"
cat > "$FIRSTUSERHOME/.ssh/authorized_keys" <<'EOF'
{KEY}
EOF
fi
if [ -f /usr/lib/userconf-pi/userconf ]; then
   /usr/lib/userconf-pi/userconf 'me' '{HASH}'
else
   echo "$FIRSTUSER:"'{HASH}' | chpasswd -e
fi
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom set_wlan 'IEEE' '{PSK}' 'GB'
else
cat >/etc/wpa_supplicant/wpa_supplicant.conf <<'WPAEOF'
country=GB
ctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev
ap_scan=1

update_config=1
network={{
	ssid="IEEE"
	psk={PSK}
}}
WPAEOF
   chmod 600 /etc/wpa_supplicant/wpa_supplicant.conf
fi
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom set_keymap 'gb'
   /usr/lib/raspberrypi-sys-mods/imager_custom set_timezone 'Europe/London'
else
   rm -f /etc/localtime
   echo "Europe/London" >/etc/timezone
   dpkg-reconfigure -f noninteractive tzdata
cat >/etc/default/keyboard <<'KBEOF'
XKBMODEL="pc105"
XKBLAYOUT="gb"
KBEOF
fi
rm -f /boot/firstrun.sh
sed -i 's| systemd.run.*||g' /boot/cmdline.txt
exit 0
"""
WITHOUT_HELPER = "\n".join(
    line for line in FIRSTRUN.splitlines() if not line.startswith("   /usr/lib/raspberrypi-sys-mods")
)
FORMATS = {
    "cloud-init": CLOUD_INIT,
    "custom.toml": {"custom.toml": CUSTOM_TOML},
    "firstrun.sh": {"firstrun.sh": FIRSTRUN},
    "firstrun.sh without imager_custom": {"firstrun.sh": WITHOUT_HELPER},
}


def read(files: dict[str, str]) -> imported.Imported:
    return imported.read({name: (name, text.encode()) for name, text in files.items()}, "bootfs")


def left(node: imported.Imported) -> set[str]:
    return {note.key for note in node.notes if not note.carried}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_node(name: str) -> None:
    node = read(FORMATS[name])
    assert (node.hostname, node.timezone, node.link) == ("attic", "Europe/London", "wifi")
    assert node.wifi
    assert (node.wifi.ssid, node.wifi.psk.reveal(), node.wifi.country) == ("IEEE", PSK, "GB")
    (user,) = node.users
    assert (user.name, user.keys, user.sudo) == ("me", (KEY,), True)
    assert user.password_hash
    assert user.password_hash.reveal() == HASH
    assert node.missing.keys() == {"address", "subnet"}
    assert left(node) & {"keyboard", "locale.keymap", "keymap"}
    assert HASH not in repr(node)
    assert PSK not in repr(node)


def test_rpi_preseed_with_a_fixed_address() -> None:
    node = read(
        {
            "rpi-preseed.toml": f"""
config_version = "1.1"
[system]
hostname = "attic"
[user]
name = "me"
groups = ["sudo"]
[ssh]
enabled = true
authorized_keys = [
  "{KEY}",
]
[ethernet]
method = "static"
address = "10.1.2.3/16"
gateway = "10.1.0.1"
dns = ["10.1.0.1"]
[connect]
token = "Hunter2"
"""
        }
    )
    assert (node.address, node.subnet, node.gateway) == ("10.1.2.3/16", "10.1.0.0/16", "10.1.0.1")
    assert node.dns == ("10.1.0.1",)
    assert (node.users[0].sudo, node.users[0].groups) == (False, ("sudo",))
    assert not node.missing
    assert left(node) == {"connect"}
    assert "Hunter2" not in repr(node)


def test_a_password_in_clear_is_refused() -> None:
    node = read({"custom.toml": '[user]\nname = "me"\npassword = "Hunter2"\npassword_encrypted = false\n'})
    assert node.users[0].password_hash is None
    assert "Hunter2" not in repr(node)
    assert any("openssl passwd -6" in note.text for note in node.notes)


def test_user_data_with_only_comments_leaves_the_word_to_the_others() -> None:
    stock = {"user-data": "#cloud-config\n# hostname: x\n", "network-config": "# none\n"}
    assert read(stock | {"custom.toml": CUSTOM_TOML}).hostname == "attic"


def test_of_two_formats_the_newer_is_read_and_the_other_is_named() -> None:
    node = read(CLOUD_INIT | {"custom.toml": CUSTOM_TOML.replace("attic", "other")})
    assert node.hostname == "attic"
    assert "custom.toml" in left(node)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("custom.toml", '[user]\npassword = "Hunter2\n', "custom.toml:2:20: this is not TOML"),
        ("custom.toml", "[user]\npassword = 'Hunter2'\npassword = 'x'\n", "custom.toml:3:"),
        ("firstrun.sh", "#!/bin/sh\nrm -rf /\n", "firstrun.sh:1: this is no script of Raspberry Pi Imager's"),
    ],
)
def test_files_of_another_shape_are_refused_without_being_repeated(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read({name: text})
    assert said in str(caught.value)
    assert "Hunter2" not in str(caught.value)


@pytest.mark.parametrize("odd", ["1", "true", "[]", "[1]", "''", "{a = 1}"])
def test_toml_of_the_wrong_kind_is_never_a_crash(odd: str) -> None:
    keys = ("hostname", "name", "password", "authorized_keys", "ssid", "timezone", "address", "dns", "groups")
    for section in ("system", "user", "ssh", "wlan", "locale", "ethernet"):
        for text in (
            f"{section} = {odd}",
            *(f"[{section}]\nmethod = 'static'\n{key} = {odd}" for key in keys),
        ):
            node = read({"custom.toml": text})
            assert "hostname" in node.missing


def test_a_script_cut_off_in_the_middle_of_a_quote_is_read_as_far_as_it_goes() -> None:
    cut = FIRSTRUN[: FIRSTRUN.index("enable_ssh") + 30]
    assert read({"firstrun.sh": cut}).hostname == "attic"
