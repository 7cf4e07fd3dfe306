"""dpkg's own records in a root file system: stanzas of the status file, path filters, diversions.

Formats: deb822(5), deb-conffiles(5), dpkg(1) ("path-exclude"), dpkg-divert(1), and dpkg's lib/dpkg/dump.c, which
writes a conffile as ` PATH HASH`, with `newconffile` as the hash of one that was never configured.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pibake.image.ext4_tree import Files

Stanza = dict[str, str]
"""Fields by name as they stand in the file; further lines of a value keep their leading space."""
UNPACKED = "install ok unpacked"
INFO = "var/lib/dpkg/info"
STATUS = "var/lib/dpkg/status"
NEW = "newconffile"


def parse(text: str) -> list[Stanza]:
    """Return the stanzas of a control or status file."""
    stanzas = []
    for block in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([^\s:#][^\s:]*):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE)
        if fields:
            stanzas.append(dict(fields))
    return stanzas


def render(stanzas: Iterable[Stanza]) -> str:
    """Return a status file."""
    return "".join(
        "".join(
            f"{name}:{'' if value.startswith(chr(10)) else ' '}{value}\n" for name, value in stanza.items()
        )
        + "\n"
        for stanza in stanzas
    )


def identity(stanza: Stanza) -> tuple[str, str]:
    """Return what tells packages apart: the name, and the architecture where several may be there at once."""
    several = stanza.get("Multi-Arch") == "same"
    return stanza["Package"], stanza.get("Architecture", "") if several else ""


def is_there(stanza: Stanza | None) -> bool:
    """Return whether a package of the status file has its files in the tree."""
    return stanza is not None and stanza["Status"].split()[-1] not in {"not-installed", "config-files"}


def unpacked(control: Stanza, conffiles: Sequence[str], old: Stanza | None) -> Stanza:
    """Return the stanza of a package that was just unpacked.

    Args:
        control: the package's own control file.
        conffiles: its conffiles, each perhaps with a flag before it.
        old: what the status file said of the package before.
    """
    known = _hashes(old)
    lines = []
    for entry in conffiles:
        *flags, path = entry.split()
        lines.append(" ".join(["", path, known.pop(path, NEW), *flags]))
    lines += [f" {path} {value} obsolete" for path, value in known.items()]
    stanza = {"Package": control["Package"], "Status": UNPACKED}
    stanza |= {name: value for name, value in control.items() if name != "Package"}
    configured = ""
    if old and old["Status"].split()[-1] in {"installed", "triggers-pending", "triggers-awaited"}:
        configured = old["Version"]
    elif old:
        configured = old.get("Config-Version", "")
    if configured:
        stanza["Config-Version"] = configured
    if lines:
        stanza["Conffiles"] = "".join(f"\n{line}" for line in lines)
    return stanza


def _hashes(stanza: Stanza | None) -> dict[str, str]:
    """Return the conffiles of an earlier version and the digests it was configured with."""
    rows = [line.split() for line in (stanza or {}).get("Conffiles", "").splitlines() if line.strip()]
    return {row[0]: row[1] for row in rows}


@dataclass(frozen=True)
class Rules:
    """How this root wants packages unpacked: what to leave out, and what to put elsewhere."""

    filters: tuple[tuple[bool, str], ...]
    """Patterns in order, and whether they exclude; the last one that fits decides (dpkg(1))."""
    diversions: Mapping[str, tuple[str, str]]
    """By path: the package whose file stays there (":" for the administrator), and where the others' go."""

    @classmethod
    def read(cls, files: Files) -> Rules:
        """Return the rules of a root file system."""
        names = ["etc/dpkg/dpkg.cfg"]
        names += [f"etc/dpkg/dpkg.cfg.d/{name}" for name in sorted(files.listing("etc/dpkg/dpkg.cfg.d"))]
        text = "\n".join((files.read(name) or b"").decode(errors="replace") for name in names)
        filters = re.findall(r"^\s*path-(exclude|include)[\s=]+(\S+)", text, re.MULTILINE)
        lines = (files.read("var/lib/dpkg/diversions") or b"").decode(errors="replace").splitlines()
        return cls(
            tuple((kind == "exclude", pattern) for kind, pattern in filters),
            {lines[n]: (lines[n + 2], lines[n + 1]) for n in range(0, len(lines) - 2, 3)},
        )

    def leaves_out(self, path: str) -> bool:
        """Return whether the path (with leading slash) is not to be unpacked."""
        fitting = [out for out, pattern in self.filters if fnmatch.fnmatchcase(path, pattern)]
        return bool(fitting) and fitting[-1]

    def place(self, path: str, package: str) -> str:
        """Return where a package's file (with leading slash) goes."""
        owner, elsewhere = self.diversions.get(path, (package, path))
        return path if owner == package else elsewhere
