"""What Wi-Fi needs beside an address: the key for wpa_supplicant, and a radio that is on and knows its country."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.network.ports import lines
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan, Wifi

_STATE = b"[main]\nNetworkingEnabled=true\nWirelessEnabled=true\nWWANEnabled=true\n"


def supplicant(node: NodePlan, wifi: Wifi) -> File:
    """Return wpa_supplicant.conf(5), readable by root only.

    A name that is not plain text is written in hexadecimal, which needs no quotes.
    """
    plain = re.fullmatch(r"[ !#-\[\]-~]+", wifi.ssid)
    name = f'"{wifi.ssid}"' if plain else wifi.ssid.encode().hex()
    return lines(
        node,
        "ctrl_interface=/run/wpa_supplicant",
        f"country={wifi.country}",
        "network={",
        f"    ssid={name}",
        "    key_mgmt=WPA-PSK",
        f"    psk={wifi.psk.reveal()}",
        "}",
        mode=0o600,
    )


def wireless(node: NodePlan) -> Wifi | None:
    """Return the wireless network that a node is on, with its link or with the head's way out; it has one radio."""
    return node.wifi or (node.head.upstream.wifi if node.head else None)


def radio(node: NodePlan) -> Tree:
    """Return the files that let a radio send from the first boot; nothing for a node without Wi-Fi.

    Raspberry Pi OS loads rfkill with `default_state=0` and ships NetworkManager's state with `WirelessEnabled=false`,
    to keep radios silent until somebody has told the country (pi-gen, stage2/02-net-tweaks). modprobe joins the
    options of all its files in the order of their names, and the kernel takes the last.
    """
    wifi = wireless(node)
    if wifi is None:
        return Tree()
    options = (
        f"options cfg80211 ieee80211_regdom={wifi.country}",
        "options rfkill default_state=1",
    )
    return Tree(
        {
            "etc/modprobe.d/zz-pibake-wifi.conf": lines(node, *options),
            "var/lib/NetworkManager/NetworkManager.state": File(_STATE),
        }
    )


def kernel_words(node: NodePlan) -> tuple[str, ...]:
    """Return the words of the kernel command line that Wi-Fi needs: its country, by cfg80211's module parameter."""
    wifi = wireless(node)
    return (f"cfg80211.ieee80211_regdom={wifi.country}",) if wifi else ()


def commands(node: NodePlan) -> tuple[str, ...]:
    """Return shell commands that do for the first boot what `radio`'s files, written by then, do for later ones."""
    if wireless(node) is None:
        return ()
    return ("rfkill unblock wlan 2> /dev/null || :", "nmcli radio wifi on 2> /dev/null || :")
