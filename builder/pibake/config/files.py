"""The files a cluster.yaml names: public keys, overlays, packages, hooks and images."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake import resources
from pibake.config import accounts, values
from pibake.config.check import value
from pibake.config.overlays import Item, read
from pibake.config.problems import Bad, Loc, Problem, listing, nearest, show
from pibake.config.rules import holders, items
from pibake.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEY_FILE = 256 * 1024


@dataclass
class Files:
    """What was found, under the names the user wrote.

    Attributes:
        folder: where relative paths start: the folder of cluster.yaml.
        keys: key file -> the keys in it.
        overlays: overlay -> its folder.
        items: overlay -> what is in it.
        images: other file or folder, such as an image -> its absolute path.
        debs: path of packages -> the .deb files it stands for.
        hooks: hook -> its program.
        read: the files whose content was used.
        elsewhere: what is wrong with files that are not the cluster.yaml, with its place.
    """

    folder: Path
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    overlays: dict[str, Path] = field(default_factory=dict)
    items: dict[str, tuple[Item, ...]] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    debs: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    hooks: dict[str, Path] = field(default_factory=dict)
    read: list[Path] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def find(self, data: Any) -> Iterator[Problem]:
        """Look for every file the values name, and yield a problem for each that is of no use."""
        for user in range(len(items(data, "users"))):
            for key in range(len(value(data, ("users", user, "ssh_keys")) or ())):
                yield from self._key(data, ("users", user, "ssh_keys", key, "file"))
        for owner in holders(data):
            yield from self._image(data, (*owner, "base", "file"))
            yield from self._overlays(data, (*owner, "overlays"))
            yield from self._packages(data, (*owner, "packages"))
            yield from self._hooks(data, (*owner, "hooks"))
        yield from self._image(data, ("kubernetes", "datastore"))
        yield from self._image(data, ("kubernetes", "registries"))
        yield from self._bundle(data, ("kubernetes", "bundle"))

    def path(self, written: str) -> Path:
        """Return the absolute path that was meant."""
        # unlike Path.expanduser, this one leaves a `~somebody` whom the host does not know as it is
        return Path(self.folder, os.path.expanduser(written))  # noqa: PTH111

    def _key(self, data: Any, loc: Loc) -> Iterator[Problem]:
        written = value(data, loc)
        if not _usable(written) or written in self.keys:
            return
        path = self.path(written)
        self.keys[written] = ()
        try:
            self.keys[written] = accounts.key_file(_read(path))
        except Bad as bad:
            yield Problem(loc, f"cannot use {show(written)}: {bad.message}", bad.hint)
        else:
            self.read.append(path)

    def _image(self, data: Any, loc: Loc) -> Iterator[Problem]:
        written = value(data, loc)
        if not _usable(written) or written in self.images:
            return
        path = self.path(written)
        if path.is_file():
            self.images[written] = path
        else:
            yield Problem(loc, f"there is no file {show(written)}", f"it was looked for at {path}")

    def _bundle(self, data: Any, loc: Loc) -> Iterator[Problem]:
        written = value(data, loc)
        if not _usable(written):
            return
        path = self.path(written)
        if path.is_dir():
            self.images[written] = path
        else:
            yield Problem(loc, f"there is no folder {show(written)}", f"it was looked for at {path}")

    def _overlays(self, data: Any, loc: Loc) -> Iterator[Problem]:
        names = value(data, loc)
        yield from _twice(names, loc)
        for index, name in _each(names):
            if "/" in name or name in self.overlays:
                continue
            places = [folder / name for folder in self._overlay_folders()]
            found = next((place for place in places if place.is_dir()), None)
            if not found:
                yield self._no_overlay((*loc, index), name)
                continue
            self.overlays[name] = found.absolute()
            try:
                self.items[name] = read(found.absolute())
            except ConfigError as error:
                self.elsewhere += error.problems

    def _packages(self, data: Any, loc: Loc) -> Iterator[Problem]:
        names = value(data, loc)
        yield from _twice(names, loc)
        for index, written in _each(names):
            if "/" not in written or written in self.debs:
                continue
            path = self.path(written)
            found = (path,) if path.is_file() else tuple(sorted(path.glob("*.deb")))
            self.debs[written] = found
            if not path.exists():
                where = f"it was looked for at {path}"
                yield Problem((*loc, index), f"there is no file or folder {show(written)}", where)
            elif not found or (path.is_file() and path.suffix != ".deb"):
                yield Problem(
                    (*loc, index), f"{show(written)} holds no Debian package", "their names end in .deb"
                )

    def _hooks(self, data: Any, loc: Loc) -> Iterator[Problem]:
        names = value(data, loc)
        yield from _twice(names, loc)
        folder = self.folder / "hooks"
        for index, name in _each(names):
            if "/" in name or name in self.hooks:
                continue
            if not (folder / name).is_file():
                known = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
                hint = nearest(name, known) or f"make the program hooks/{name} beside cluster.yaml"
                yield Problem((*loc, index), f"there is no hook {show(name)}", hint)
            elif not os.access(folder / name, os.X_OK):
                yield Problem(
                    (*loc, index),
                    f"the hook {show(name)} is no program",
                    f"`chmod +x hooks/{name}` makes it one",
                )
            else:
                self.hooks[name] = (folder / name).absolute()

    def _overlay_folders(self) -> tuple[Path, Path]:
        return self.folder / "overlays", resources.path("overlays")

    def _no_overlay(self, loc: Loc, name: str) -> Problem:
        known = sorted(
            {
                entry.name
                for folder in self._overlay_folders()
                if folder.is_dir()
                for entry in folder.iterdir()
                if entry.is_dir()
            }
        )
        hint = (
            nearest(name, known)
            or f"make the folder overlays/{name} beside cluster.yaml; there are: {listing(known)}"
        )
        return Problem(loc, f"there is no overlay {show(name)}", hint)


def _each(names: Any) -> Iterator[tuple[int, str]]:
    """Yield every text of a list once, with its place."""
    for index, name in enumerate(names if isinstance(names, list) else ()):
        if _usable(name) and names.index(name) == index:
            yield index, name


def _twice(names: Any, loc: Loc) -> Iterator[Problem]:
    for index, name in enumerate(names if isinstance(names, list) else ()):
        if _usable(name) and (first := names.index(name)) < index:
            message = f"{show(name)} stands in `{loc[-1]}` twice"
            yield Problem((*loc, index), message, "remove one of them", first=(*loc, first))


def _usable(written: Any) -> bool:
    """Tell whether a value can be a path at all; what cannot is told elsewhere."""
    try:
        return isinstance(written, str) and bool(values.filename(written))
    except Bad:
        return False


def _read(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > MAX_KEY_FILE:
            raise Bad("it is too big for a file of keys", "name the file ending in .pub")
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise Bad("there is no such file", "`ssh-keygen -t ed25519` makes a key pair") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Bad(f"{(reason or str(error)).lower()}", "name a .pub file you can read") from None
