"""What Raspberry Pi Imager writes for systems without cloud-init: custom.toml and rpi-preseed.toml.

Formats: raspberrypi-sys-mods (init_config, imager_custom), raspberrypi/rpi-preseed (README).
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pibake.config import accounts, names
from pibake.config.problems import Bad
from pibake.errors import ConfigError
from pibake.imported import cloud, logins, people
from pibake.imported.values import Account, Network, Port

if TYPE_CHECKING:
    from pibake.imported.values import Draft

USER = "pi"
"""The first user's name where Imager was given none."""

SECTIONS = {
    "connect": "Raspberry Pi Connect is not set up",
    "interfaces": cloud.LEFT["rpi"],
    "boot": "config.txt is that of the base",
    "packages": cloud.LEFT["packages"],
    "runcmd": "pibake runs no commands of yours; a unit in an overlay can",
    "mounts": cloud.LEFT["mounts"],
    "ca_certificates": cloud.LEFT["ca_certs"],
    "time": cloud.LEFT["ntp"],
}


def toml(draft: Draft, raw: bytes, file: str) -> None:
    """Read a custom.toml (config_version 1) or an rpi-preseed.toml.

    Raises:
        ConfigError: it is no TOML.
    """
    try:
        data = tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise ConfigError([f"{file}:1: the file is not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+), column (\d+)", str(error))
        place = f"{file}:{at[1]}:{at[2]}" if at else file
        raise ConfigError([f"{place}: this is not TOML"]) from None
    table = _Table(data, file)
    hostname(draft, table.text("system", "hostname"), file)
    _toml_user(draft, table)
    _toml_wlan(draft, table)
    _toml_ethernet(draft, table)
    if zone := table.text("locale", "timezone"):
        cloud.timezone(draft, zone, file)
    if table.text("locale", "keymap"):
        draft.left(file, "locale.keymap", cloud.LEFT["keyboard"])
    for key in sorted(
        data.keys() - {"config_version", "system", "user", "ssh", "wlan", "ethernet", "locale"}
    ):
        draft.left(file, key, SECTIONS.get(key, "pibake has nothing that corresponds to it"))


class _Table:
    """The sections of a TOML file; what has another type than it should counts as not given."""

    def __init__(self, data: dict[str, Any], file: str) -> None:
        self.data, self.file = data, file

    def get(self, section: str, key: str) -> Any:
        table = self.data.get(section)
        return table.get(key) if isinstance(table, dict) else None

    def text(self, section: str, key: str) -> str:
        found = self.get(section, key)
        return found.strip() if isinstance(found, str) else ""

    def texts(self, section: str, key: str) -> list[str]:
        found = self.get(section, key)
        return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def _toml_user(draft: Draft, table: _Table) -> None:
    name, password = table.text("user", "name") or USER, table.text("user", "password")
    keys = table.texts("ssh", "authorized_keys")
    if not (table.data.get("user") or keys):
        return
    made = account(draft, name, table.file, keys)
    if made is None:
        return
    # rpi-preseed says whether sudo asks for the password; the first user of older systems is never asked
    asks = table.get("user", "groups") is not None and table.get("user", "passwordless_sudo") is not True
    groups = [
        group
        for group in table.texts("user", "groups")
        if draft.checked(table.file, "user.groups", group, accounts.group)
    ]
    made = replace(made, sudo=not asks, groups=tuple(groups))
    if password and table.get("user", "password_encrypted") is False:
        draft.left(table.file, "user.password", logins.NO_CLEAR, logins.HASH_HINT)
    elif password:
        hashed = logins.password_hash(draft, password, table.file, "user.password")
        made = replace(made, password_hash=hashed)
    draft.accounts[name] = made
    draft.carried(table.file, f"user {name}", people.summary(made))
    if table.get("ssh", "password_authentication") is True:
        draft.left(table.file, "ssh.password_authentication", "SSH takes keys only")
    if table.texts("ssh", "ssh_import_id"):
        draft.left(
            table.file, "ssh.ssh_import_id", "write {url: https://github.com/NAME.keys} under `ssh_keys`"
        )


def _toml_wlan(draft: Draft, table: _Table) -> None:
    draft.country = table.text("wlan", "country")
    if not isinstance(table.data.get("wlan"), dict):
        return
    secret = table.text("wlan", "password")
    if ssid := table.text("wlan", "ssid"):
        hidden = table.get("wlan", "hidden") is True
        draft.networks.append(
            Network(table.file, ssid, secret, kind="WPA-PSK" if secret else "NONE", hidden=hidden)
        )
    else:
        draft.left(table.file, "wlan", "the name of the network is not given as text")


def _toml_ethernet(draft: Draft, table: _Table) -> None:
    if not isinstance(table.data.get("ethernet"), dict) or table.text("ethernet", "method") != "static":
        return
    dns = table.texts("ethernet", "dns") or table.text("ethernet", "dns").replace(",", " ").split()
    gateway = table.text("ethernet", "gateway")
    draft.ports.append(
        Port("ethernet", table.file, [table.text("ethernet", "address")], [gateway] if gateway else [], dns)
    )


def hostname(draft: Draft, text: str, place: str) -> None:
    """Take a host name; lower case, because Kubernetes' node names are."""
    if text and draft.checked(place, "hostname", text.lower(), names.hostname):
        draft.hostname, _, draft.domain = text.lower().partition(".")
        draft.carried(place, "hostname", text.lower())


def account(draft: Draft, name: str, place: str, keys: list[str]) -> Account | None:
    """Return the first user with the good ones of its keys, or None and a note."""
    if not draft.checked(place, "user", name, accounts.username):
        return None
    good = []
    for key in keys:
        try:
            good.append(accounts.public_key(key))
        except Bad as bad:
            draft.left(place, "ssh key", bad.message, bad.hint)
    return Account(name, keys=tuple(dict.fromkeys(good)), sudo=True)
