"""firstrun.sh, which Raspberry Pi Imager writes for Raspberry Pi OS up to bookworm.

The script is never run: lines of the shapes that Imager writes are read, all others are not. Formats: Raspberry Pi
Imager; raspberrypi-sys-mods (imager_custom).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from pibake.errors import ConfigError
from pibake.imported import cloud, imager, logins, people, wireless
from pibake.imported.values import Network

if TYPE_CHECKING:
    from pibake.imported.values import Draft

HEREDOC = re.compile(r"""^\s*cat\s*>\s*"?([^"\s]+)"?\s*<<\s*'?(\w+)'?\s*$""")


def read(draft: Draft, raw: bytes, file: str) -> None:
    """Read a firstrun.sh.

    Raises:
        ConfigError: it is not one that Imager wrote.
    """
    text = raw.decode("utf-8", "replace")
    if "FIRSTUSER" not in text and "imager_custom" not in text:
        raise ConfigError(
            [
                f"{file}:1: this is no script of Raspberry Pi Imager's\n   hint: put what it does into cluster.yaml or an overlay"
            ]
        )
    script = _Script(text.splitlines(), file)
    imager.hostname(draft, *script.first("set_hostname", r"echo (\S+) >/etc/hostname"))
    keys = script.keys()
    name, hashed, place = script.user()
    account = imager.account(draft, name, place, keys) if name or keys else None
    if account:
        if hashed:
            account = replace(account, password_hash=logins.password_hash(draft, hashed, place, "userconf"))
        draft.accounts[account.name] = account
        draft.carried(place, f"user {account.name}", people.summary(account))
    script.wlan(draft)
    zone, where = script.first("set_timezone", r'echo "([\w/+-]+)" >/etc/timezone')
    if zone:
        cloud.timezone(draft, zone, where)
    if (keymap := script.first("set_keymap", r'XKBLAYOUT="(\w+)"'))[0]:
        draft.left(keymap[1], "keymap", cloud.LEFT["keyboard"])
    if "rpi-connect" in text:
        draft.left(file, "rpi-connect", imager.SECTIONS["connect"])
    draft.left(file, "other commands", "only what Imager writes is read; commands of yours are not")


class _Script:
    """The lines of a firstrun.sh: arguments of `imager_custom`, and files written from here-documents."""

    def __init__(self, lines: list[str], file: str) -> None:
        self.lines, self.file = lines, file
        self.calls: dict[str, tuple[list[str], str]] = {}
        self.documents: dict[str, tuple[str, str]] = {}
        end, path, body, start = "", "", list[str](), 0
        for number, line in enumerate(lines, 1):
            if end and line.strip() == end:
                self.documents[path.rpartition("/")[2]] = ("\n".join(body), f"{file}:{start}")
                end = ""
            elif end:
                body.append(line)
            elif found := HEREDOC.match(line):
                path, end, body, start = found[1], found[2], [], number
            elif re.match(r"\s*/usr/lib/(raspberrypi-sys-mods/imager_custom|userconf-pi/userconf) ", line):
                self._call(line, number)

    def _call(self, line: str, number: int) -> None:
        try:
            program, *words = shlex.split(line)
        except ValueError:
            return
        name = "userconf" if program.endswith("userconf") else words.pop(0) if words else ""
        self.calls.setdefault(name, (words, f"{self.file}:{number}"))

    def first(self, call: str, otherwise: str) -> tuple[str, str]:
        """Return the argument of a call, or what a line of older scripts says, and its place."""
        words, place = self.calls.get(call, ([], self.file))
        if words:
            return words[0], place
        for number, line in enumerate(self.lines, 1):
            if found := re.fullmatch(otherwise, line.strip()):
                return found[1], f"{self.file}:{number}"
        return "", place

    def keys(self) -> list[str]:
        words, _ = self.calls.get("enable_ssh", ([], ""))
        if words[:1] == ["-k"]:
            return words[1:]
        return self.documents.get("authorized_keys", ("", ""))[0].splitlines()

    def user(self) -> tuple[str, str, str]:
        """Return name, hash and place of the first user."""
        words, place = self.calls.get("userconf", ([], self.file))
        return (words[0] if words else imager.USER), (words[1] if len(words) > 1 else ""), place

    def wlan(self, draft: Draft) -> None:
        words, place = self.calls.get("set_wlan", ([], ""))
        hidden = words[:1] == ["-h"]
        ssid, secret, country, *_ = [*words[hidden:], "", "", ""]
        if ssid:
            draft.country = country
            draft.networks.append(
                Network(place, ssid, secret, kind="WPA-PSK" if secret else "NONE", hidden=hidden)
            )
        elif document := self.documents.get("wpa_supplicant.conf"):
            wireless.wpa_supplicant(draft, *document)
