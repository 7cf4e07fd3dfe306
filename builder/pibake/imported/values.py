"""What an import comes to (`Imported`), and what its readers collect on the way there (`Draft`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.config.problems import Bad

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.secret import Secret
    from pibake.tree import File, Tree


@dataclass(frozen=True)
class Note:
    """What became of one key; it never holds a password, a hash or a Wi-Fi key.

    Attributes:
        place: `user-data.yml:12`, or a file's name where lines are not known.
        key: the key as it was written.
        text: what it became, or why it was left out and what to do instead.
        carried: whether it is in the cluster.yaml, or pibake does so anyway.
    """

    place: str
    key: str
    text: str
    carried: bool


@dataclass(frozen=True)
class Account:
    """A user; every value is one that cluster.yaml takes. `keys` are key texts and https URLs."""

    name: str
    keys: tuple[str, ...] = ()
    password_hash: Secret | None = None
    sudo: bool = False
    groups: tuple[str, ...] = ()
    shell: str = "/bin/bash"


@dataclass(frozen=True)
class Wifi:
    """A wireless network: its name, its 256-bit key as 64 hex digits, and the country ("DE" or empty)."""

    ssid: str
    psk: Secret
    country: str


@dataclass(frozen=True)
class Imported:
    """One node of a cluster.yaml and what it needs around it; what is not known is empty or None.

    Attributes:
        hostname: the short name.
        domain: the domain of a full name.
        address: the fixed address, with its prefix if that is known.
        subnet: the subnet that follows from the address and its prefix.
        link: "wifi" if the node's link is the wireless one.
        overlay: files for the folder overlays/HOSTNAME.
        missing: what cluster.yaml needs and nothing said -> why, for `hostname`, `address`, `subnet`, `users`, `ssh_keys`
            and `country`.
        notes: what became of every key, in the order of reading.
    """

    hostname: str
    domain: str
    address: str
    subnet: str
    gateway: str
    dns: tuple[str, ...]
    search: tuple[str, ...]
    vlan: str
    mac: str
    link: str
    wifi: Wifi | None
    locale: str
    timezone: str
    users: tuple[Account, ...]
    overlay: Tree
    missing: dict[str, str]
    notes: tuple[Note, ...]

    @property
    def has_secrets(self) -> bool:
        """Tell whether a cluster.yaml made of this holds a password's hash or a Wi-Fi key."""
        return self.wifi is not None or any(user.password_hash for user in self.users)


@dataclass
class Port:
    """What one source says of one network interface, as it was written."""

    name: str
    place: str
    addresses: list[str] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)
    dns: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    vlan: str = ""
    mac: str = ""

    @property
    def wireless(self) -> bool:
        """Tell whether this is a wireless interface, by its name (systemd.net-naming-scheme(7): wl)."""
        return self.name.startswith("wl")


@dataclass
class Network:
    """A wireless network, as it was written.

    `secret` is a passphrase, 64 hex digits, or nothing for an open network; `kind` is wpa_supplicant.conf(5)'s key_mgmt.
    """

    place: str
    ssid: str
    secret: str
    country: str = ""
    kind: str = "WPA-PSK"
    hidden: bool = False


@dataclass
class Draft:
    """What readers collect; `imported.decide` makes an `Imported` of it."""

    hostname: str = ""
    domain: str = ""
    locale: str = ""
    timezone: str = ""
    country: str = ""
    accounts: dict[str, Account] = field(default_factory=dict)
    ports: list[Port] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)
    dns: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def carried(self, place: str, key: str, text: str) -> None:
        """Note what a key became."""
        self.notes.append(Note(place, key, text, carried=True))

    def left(self, place: str, key: str, why: str, hint: str = "") -> None:
        """Note why a key is not carried over."""
        self.notes.append(Note(place, key, f"{why}; {hint}" if hint else why, carried=False))

    def checked(self, place: str, key: str, text: str, parse: Callable[[str], object]) -> str:
        """Return a text that cluster.yaml takes, or nothing and a note why it does not."""
        try:
            parse(text)
        except Bad as bad:
            self.left(place, key, bad.message, bad.hint)
            return ""
        return text
