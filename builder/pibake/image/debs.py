"""Debian packages, unpacked into a root file system as `dpkg --unpack` leaves them.

The first boot does the rest, on the board itself: `dpkg --configure -a` puts conffiles in their places and runs the
postinst scripts. Three things differ from dpkg: no preinst script is run, nothing in the root can be; file triggers
are not recorded, since what they renew is read afresh at boot (units, udev rules) or left out (manuals); and files
of a replaced version that the new one lacks stay.

deb(5); a conffile is left as `PATH.dpkg-new` (dpkg's src/main/unpack.c), whatever stands at PATH.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, PibakeError
from pibake.image import dpkg
from pibake.image.ext4_write import Entry, Kind
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pibake.image.ext4_tree import Files


@dataclass(frozen=True)
class Deb:
    """A package, and its sha256 (hex)."""

    path: Path
    sha256: str


def size(deb: Path) -> int:
    """Return about how many bytes a package takes when it is unpacked: xz and zstd make a quarter of programs."""
    return 4 * deb.stat().st_size


def control(deb: Path, arch: str) -> dpkg.Stanza:
    """Return the control fields of a package.

    Args:
        deb: the package.
        arch: Debian's name of the architecture it must be for, unless it is for all.

    Raises:
        PibakeError: the file is no Debian package, or one for another processor.
    """
    try:
        found = dpkg.parse(run(["dpkg-deb", "--field", deb], why="read Debian packages").stdout)
    except CommandFailed as error:
        said = error.output.strip().rpartition("\n")[2]
        raise PibakeError(f"{deb} is no Debian package that can be read: {said}") from error
    if not found or not {"Package", "Version", "Architecture"} <= found[0].keys():
        raise PibakeError(f"{deb} has no proper control file")
    if found[0]["Architecture"] not in {arch, "all"}:
        raise PibakeError(
            f"{deb} is a package for {found[0]['Architecture']}; the base needs {arch} (or all)",
            f"get it for {arch}, for example with `apt-get download {found[0]['Package']}:{arch}`",
        )
    return found[0]


def unpack(debs: Sequence[Path], files: Files, work: Path, arch: str) -> list[Entry]:
    """Return what to write into the root file system so that the packages are unpacked in it.

    Args:
        debs: the packages, in any order; one that is there in the same version already is passed over.
        files: the root file system.
        work: folder for their content, made here, needed until the entries are written.
        arch: Debian's name of the root's architecture.

    Raises:
        PibakeError: a package cannot be read, is for another processor, or the root has no dpkg.
    """
    if not debs:
        return []
    status = files.read(dpkg.STATUS)
    if status is None:
        raise PibakeError(f"{files.image.name} has no /{dpkg.STATUS}: packages need a base made of packages")
    known = {
        dpkg.identity(stanza): stanza for stanza in dpkg.parse(status.decode("utf-8", "surrogateescape"))
    }
    work.mkdir(parents=True)
    rules = dpkg.Rules.read(files)
    entries: list[Entry] = []
    seen: dict[tuple[str, str], Path] = {}
    for number, deb in enumerate(sorted(debs)):
        stanza = control(deb, arch)
        key = dpkg.identity(stanza)
        if key in seen:
            raise PibakeError(f"{deb} and {seen[key]} are both package {key[0]}", "keep one of them")
        seen[key], old = deb, known.get(key)
        if dpkg.is_there(old) and old and old["Version"] == stanza["Version"]:
            continue
        package = _Package(deb, stanza, work / str(number))
        entries += [*package.data(rules), *package.records(files)]
        known[key] = dpkg.unpacked(stanza, package.conffiles, old)
    if entries:
        new = work / "status"
        new.write_text(dpkg.render(known.values()), "utf-8", "surrogateescape")
        entries.append(Entry(dpkg.STATUS, source=new))
    return entries


class _Package:
    """One package while it is taken apart in the folder `work`."""

    def __init__(self, deb: Path, stanza: dpkg.Stanza, work: Path) -> None:
        self.deb, self.stanza, self.work = deb, stanza, work
        work.mkdir()
        self.control = {
            member.name.removeprefix("./"): (member, content)
            for member, content in self._members("--ctrl-tarfile")
            if content
        }
        self.conffiles = [line for line in self._text("conffiles").splitlines() if line.strip()]
        self.listed: list[str] = []
        self.sums: dict[str, str] = {}

    def data(self, rules: dpkg.Rules) -> Iterator[Entry]:
        """Yield the files of the package."""
        conffiles = {line.split()[-1] for line in self.conffiles}
        for member, content in self._members("--fsys-tarfile"):
            path = "/" + member.name.removeprefix(".").strip("/")
            self.listed.append(path if path != "/" else "/.")
            if path != "/" and not rules.leaves_out(path):
                self._sum(member, content, path[1:])
                place = rules.place(path, self.stanza["Package"]) + (".dpkg-new" if path in conffiles else "")
                yield self._entry(member, content, place[1:])

    def records(self, files: Files) -> Iterator[Entry]:
        """Yield dpkg's records of the package; call it after `data`."""
        name, architecture = dpkg.identity(self.stanza)
        prefix = f"{dpkg.INFO}/{name}{':' if architecture else ''}{architecture}."
        made = {"list": "".join(f"{path}\n" for path in self.listed)}
        if "md5sums" not in self.control:  # dpkg makes one up, too
            made["md5sums"] = "".join(f"{md5}  {path}\n" for path, md5 in self.sums.items())
        for file in files.listing(dpkg.INFO):
            kind = file.removeprefix(prefix.rpartition("/")[2])
            if kind != file and kind not in self.control and kind not in made:
                yield Entry(f"{prefix}{kind}", Kind.ABSENT)  # of an older version; dpkg would run it
        for kind, (member, content) in self.control.items():
            if kind != "control":
                yield Entry(f"{prefix}{kind}", source=content, mode=member.mode & 0o7777, mtime=_time(member))
        for kind, text in made.items():
            source = self.work / kind
            source.write_text(text, "utf-8", "surrogateescape")
            yield Entry(f"{prefix}{kind}", source=source)

    def _sum(self, member: tarfile.TarInfo, content: Path | None, path: str) -> None:
        if content:
            with content.open("rb") as file:
                self.sums[path] = hashlib.file_digest(file, "md5").hexdigest()
        elif member.islnk():
            self.sums[path] = self.sums.get(member.linkname.removeprefix(".").strip("/"), "")

    def _entry(self, member: tarfile.TarInfo, content: Path | None, path: str) -> Entry:
        if member.isfile():
            kind, target = Kind.FILE, ""
        elif member.isdir():
            kind, target = Kind.DIRECTORY, ""
        elif member.issym():
            kind, target = Kind.SYMLINK, member.linkname
        elif member.islnk():
            kind, target = Kind.HARD_LINK, member.linkname.removeprefix(".").strip("/")
        else:
            raise PibakeError(f"{self.deb}: {member.name} is a device, which pibake does not unpack")
        return Entry(path, kind, content, target, member.mode & 0o7777, member.uid, member.gid, _time(member))

    def _text(self, name: str) -> str:
        found = self.control.get(name)
        return found[1].read_text("utf-8", "surrogateescape") if found else ""

    def _members(self, part: str) -> Iterator[tuple[tarfile.TarInfo, Path | None]]:
        """Yield the members of one of the package's two archives, and where the content of each file is now."""
        packed = self.work / "tar"
        with packed.open("wb") as out:
            run(["dpkg-deb", part, self.deb], why="unpack Debian packages", stdout=out)
        with tarfile.open(packed, errorlevel=2) as archive:
            for number, member in enumerate(archive):
                if ".." in member.name.split("/"):
                    raise PibakeError(f"{self.deb}: {member.name} leads out of the root")
                content = None
                if reader := archive.extractfile(member) if member.isfile() else None:
                    content = self.work / f"{part.strip('-')}-{number}"
                    with content.open("wb") as out:
                        shutil.copyfileobj(reader, out, 1 << 20)
                yield member, content
        packed.unlink()


def _time(member: tarfile.TarInfo) -> int:
    return max(0, int(member.mtime))
