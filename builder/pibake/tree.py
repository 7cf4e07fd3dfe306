"""Rendered files as a value, before any sink puts them anywhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake import resources
from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class File:
    """One file: its bytes, permission bits and owner (`user:group`); FAT keeps only the bytes."""

    data: bytes
    mode: int = 0o644
    owner: str = "root:root"


@dataclass(frozen=True)
class Tree:
    """Files by relative POSIX path, in sorted order."""

    files: Mapping[str, File] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.files:
            if path.startswith("/") or ".." in path.split("/") or not path:
                raise ValueError(f"{path!r} is not a path below the tree")
        object.__setattr__(self, "files", dict(sorted(self.files.items())))

    def __iter__(self) -> Iterator[tuple[str, File]]:
        return iter(self.files.items())

    def __getitem__(self, path: str) -> File:
        return self.files[path]

    def __len__(self) -> int:
        return len(self.files)

    def __or__(self, other: Tree) -> Tree:
        """Return both trees in one; `other` wins where both have a path."""
        return Tree({**self.files, **other.files})

    @classmethod
    def read(cls, folder: Path) -> Tree:
        """Return the files below `folder`; git keeps only the executable bit, so modes are 0755 or 0644.

        Raises:
            PibakeError: the folder holds something that is no file, such as a symbolic link.
        """
        files = {}
        for path in resources.below(folder):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise PibakeError(f"{path} is neither a file nor a folder", "overlays hold plain files only")
            if path.is_file():
                executable = path.stat().st_mode & 0o100
                files[path.relative_to(folder).as_posix()] = File(
                    path.read_bytes(), 0o755 if executable else 0o644
                )
        return cls(files)

    def digest(self) -> str:
        """Return a sha256 over paths, modes, owners and contents."""
        total = hashlib.sha256()
        for path, file in self:
            total.update(f"{path}\0{file.mode:o}\0{file.owner}\0{len(file.data)}\0".encode())
            total.update(file.data)
        return total.hexdigest()

    def write(self, folder: Path) -> None:
        """Write the files below `folder`, with their modes; owners are left to the caller."""
        for path, file in self:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
            target.chmod(file.mode)
