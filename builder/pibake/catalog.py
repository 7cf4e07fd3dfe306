"""The bases that have a name: `images/catalog.yaml`, and a catalogue of one's own, as values.

`PIBAKE_CATALOG` in the environment names a second file in the same form, with its keys in `keys/` beside it; its
bases come after pibake's own, and take the place of those with the same name.
"""

from __future__ import annotations

import copy
import datetime as dt
import difflib
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pibake import proof, resources
from pibake.errors import PibakeError
from pibake.system import Network

if TYPE_CHECKING:
    from pibake.proof import Proof


@dataclass(frozen=True)
class Download:
    """A base that its vendor publishes: which file, and what vouches for it.

    Attributes:
        vendor: name of the vendor; `PIBAKE_<VENDOR>_URL` in the environment replaces `url`.
        url: where the vendor's tree begins, ending in a slash.
        folder: folder of the file below `url`, ending in a slash; where a part of it is a shell pattern, the newest
            folder of the server's index that holds a fitting file is taken.
        file: shell pattern of the file's name; the newest match is taken.
        proof: what vouches for it.
    """

    vendor: str
    url: str
    folder: str
    file: str
    proof: Proof

    @property
    def root(self) -> str:
        """Return the URL of the vendor's tree, on the mirror that the environment names if it names one."""
        base = os.environ.get(f"PIBAKE_{self.vendor.upper()}_URL") or self.url
        return f"{base.rstrip('/')}/"

    @property
    def location(self) -> str:
        """Return the URL of the folder, which may hold shell patterns."""
        return f"{self.root}{self.folder}"


@dataclass(frozen=True)
class Assemble:
    """A base that is made here from a distribution's packages.

    Attributes:
        suite: Debian's name of the release.
        network: the program that configures its network.
        cloud_init: whether it has cloud-init.
    """

    suite: str
    network: Network = Network.NETPLAN
    cloud_init: bool = True


@dataclass(frozen=True)
class Entry:
    """One base of the catalogue."""

    name: str
    title: str
    arch: str
    boards: tuple[str, ...]
    user: str
    end_of_life: dt.date
    notes: str
    source: Download | Assemble


def names() -> tuple[str, ...]:
    """Return the names of all bases, in the catalogue's order."""
    return tuple(_entries(os.environ.get("PIBAKE_CATALOG", "")))


def entry(name: str) -> Entry:
    """Return one base by its name; an unknown one is an error that suggests what was meant."""
    found = _entries(os.environ.get("PIBAKE_CATALOG", "")).get(name)
    if found:
        return found
    close = difflib.get_close_matches(name, names(), n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise PibakeError(f"there is no base called {name!r}", f"{meant}the catalogue has: {', '.join(names())}")


def warnings(entry: Entry, today: dt.date) -> list[str]:
    """Return what speaks against using a base, as sentences: that nobody mends its holes any more."""
    if entry.end_of_life >= today:
        return []
    over = f"has had no security updates since {entry.end_of_life}"
    return [f"{entry.name}: {entry.title} {over}; `pibake base list` shows what has"]


def vouched(source: Download | Assemble) -> str:
    """Say in a few words what vouches for a base."""
    match source:
        case Download():
            return proof.describe(source.proof)
        case Assemble():
            return "packages signed by Debian"


@functools.cache
def _entries(own: str) -> dict[str, Entry]:
    entries = parse(resources.text("images", "catalog.yaml"), resources.path("images", "keys"))
    if own:
        path = Path(own)
        try:
            entries |= parse(path.read_text("utf-8"), path.parent / "keys")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise PibakeError(
                f"the catalogue {path} (from PIBAKE_CATALOG) cannot be used: {error!r}",
                "docs/bases.md describes the form",
            ) from error
    return entries


def parse(text: str, keys: Path) -> dict[str, Entry]:
    """Return the entries of a catalogue, whose keys are in the folder `keys`; every value stays text."""
    tree = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader makes only str, list and dict
    vendors = tree.get("vendors", {})
    return {name: _entry(name, fields, vendors, keys) for name, fields in tree["bases"].items()}


def _entry(name: str, fields: dict[str, Any], vendors: dict[str, dict[str, str]], keys: Path) -> Entry:
    rest = copy.deepcopy(fields)
    download, assemble = rest.pop("download", None), rest.pop("assemble", None)
    if (download is None) == (assemble is None):
        raise ValueError(f"{name}: exactly one of download and assemble is needed")
    if download:
        vendor = vendors[download["vendor"]]
        checked = proof.parse(download.pop("proof"), vendor, keys)
        source: Download | Assemble = Download(url=vendor["url"], proof=checked, **download)
    else:
        source = _assemble(name, **assemble)
    rest["boards"] = tuple(rest["boards"])
    rest["end_of_life"] = dt.date.fromisoformat(rest["end_of_life"])
    return Entry(name=name, source=source, **rest)


def _assemble(name: str, suite: str, network: str = "netplan", cloud_init: str = "true") -> Assemble:
    if cloud_init not in {"true", "false"}:
        raise ValueError(f"{name}: cloud_init is true or false, not {cloud_init}")
    return Assemble(suite, Network(network), cloud_init == "true")
