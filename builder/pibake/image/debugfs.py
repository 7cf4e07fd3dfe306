"""The door to debugfs, which reads and edits ext2, ext3 and ext4 without root, loop device or virtual machine.

debugfs (e2fsprogs, debugfs(8)) takes a script of commands and exits with 0 whatever happens: what went wrong stands
on standard error, after its banner. Each command is echoed on standard output before its own output.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, BinaryIO

from pibake.errors import ImageError
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ECHO = "debugfs: "
HINTS = {
    "No space left on device": "the disk of this host is full: free some space, or set XDG_CACHE_HOME to a larger one",
    "Could not allocate": "the root file system is full",
    "Bad magic number": "that is no ext4 file system: is this an image with an ext4 root partition?",
}


def quote(word: str) -> str:
    """Return a word of a command, quoted as libss reads it (lib/ss/parse.c): a quote inside is doubled.

    Raises:
        ImageError: it holds a character that a command line cannot.
    """
    if any(ord(c) < 32 for c in word):
        raise ImageError(f"the name {word!r} holds a control character, which pibake does not write")
    return '"' + word.replace('"', '""') + '"'


def place(image: Path, offset: int) -> str:
    """Return how e2fsprogs call a file system inside an image (`?` and options: ext2fs_open(), lib/ext2fs)."""
    return f"{image}?offset={offset}" if offset else str(image)


def query(image: Path, offset: int, commands: Sequence[str]) -> list[str]:
    """Return the output of each command, run on a file system that is not changed."""
    return _run(["debugfs"], place(image, offset), commands, 0)


def edit(image: Path, offset: int, commands: Sequence[str], *, epoch: int) -> None:
    """Run commands that change the file system; `epoch` is the time they leave in it.

    Raises:
        ImageError: one of them failed.
    """
    _run(["debugfs", "-w"], place(image, offset), commands, epoch)


def cat(image: Path, offset: int, path: str, into: BinaryIO) -> None:
    """Write the content of a file, or the target of a long symbolic link, into an open file."""
    argv = ["debugfs", "-R", f"cat {quote(path)}", place(image, offset)]
    done = run(argv, why="read the root file system", stdout=into)
    _check(place(image, offset), done.stderr)


def _run(command: Sequence[str], where: str, commands: Sequence[str], epoch: int) -> list[str]:
    with tempfile.NamedTemporaryFile(prefix="pibake-debugfs-") as script:
        script.write("".join(f"{line}\n" for line in commands).encode("utf-8", "surrogateescape"))
        script.flush()
        done = run(
            [*command, "-f", script.name, where],
            why="edit the root file system" if "-w" in command else "read the root file system",
            # the older name of the variable: SOURCE_DATE_EPOCH is known since e2fsprogs 1.47.1 only
            env={"E2FSPROGS_FAKE_TIME": str(epoch)},
        )
    _check(where, done.stderr)
    return _outputs(done.stdout, commands)


def _outputs(text: str, commands: Sequence[str]) -> list[str]:
    """Cut the output into one piece per command, at the echoes, which come in the order of the commands."""
    outputs: list[list[str]] = []
    for line in text.splitlines():
        if len(outputs) < len(commands) and line == f"{ECHO}{commands[len(outputs)]}":
            outputs.append([])
        elif outputs:
            outputs[-1].append(line)
    return ["\n".join(lines) for lines in outputs]


def _check(where: str, stderr: str) -> None:
    lines = [line for line in stderr.splitlines() if line.strip()]
    faults = [line for line in lines if not line.startswith("debugfs 1.")]
    if faults:
        hint = next((hint for text, hint in HINTS.items() if text in stderr), "")
        raise ImageError(f"{where}: debugfs said: {'; '.join(faults[:5])}", hint)
