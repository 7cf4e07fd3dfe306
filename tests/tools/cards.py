"""Cards for tests: loop devices over files, and over a file system that fails as it is told."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools.images import MIB, make, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
HERE = Path(__file__).parent
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
SMALL_SYNCS = (
    "from pibake.flash import writer; writer.SYNC_EVERY = 4 << 20; from pibake import cli; cli.main()"
)
"""A program that is pibake, and says on the card every 4 MiB how far it is: real cards are larger than those of tests."""


@contextmanager
def loop(backing: Path) -> Iterator[Path]:
    """Make a block device of a file."""
    device = Path(tool("losetup", "--find", "--show", backing).decode().strip())
    try:
        yield device
    finally:
        tool("losetup", "--detach", device)


def open_to_all(path: Path) -> None:
    """Let everybody read a file of pytest's own folders, which are for one user."""
    top = Path(tempfile.gettempdir())
    for each in (path, *path.parents):
        if each == top or not each.is_relative_to(top):
            break
        each.chmod(each.stat().st_mode | (0o055 if each.is_dir() else 0o044))


def _nobody_can() -> bool:
    """Return whether a user without any rights could start pibake."""
    argv = [*AS_NOBODY, sys.executable, "-c", "import pibake"]
    return (
        os.geteuid() == 0 and subprocess.run(argv, check=False, capture_output=True, cwd="/").returncode == 0
    )


needs_nobody = pytest.mark.skipif(
    not _nobody_can(), reason="needs root, and a checkout that everybody can read"
)


class BadCard:
    """A block device that fails as it is told; `backing` holds what was really written."""

    def __init__(self, folder: Path, length: int) -> None:
        self.backing, self.told, self.mount = folder / "backing", folder / "faults.json", folder / "mount"
        self.mount.mkdir()
        self.backing.touch()
        os.truncate(self.backing, length)
        self.device = Path()
        self.tell()

    def tell(self, **faults: Any) -> None:
        """Say what fails from now on."""
        part = self.told.with_suffix(".part")
        part.write_text(json.dumps(faults))
        part.replace(self.told)

    def server(self) -> subprocess.Popen[bytes]:
        argv: list[str | Path] = [sys.executable, HERE / "badcard.py", self.backing, self.mount, self.told]
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL)


@contextmanager
def bad_card(folder: Path, length: int) -> Iterator[BadCard]:
    """Put in a card of `length` bytes that does as it is told."""
    if not Path("/dev/fuse").exists() or not shutil.which("fusermount3"):
        pytest.skip("a card that fails needs /dev/fuse and fusermount3")
    card = BadCard(folder, length)
    server = card.server()
    try:
        wait((card.mount / "card").exists)
        with loop(card.mount / "card") as card.device:
            yield card
    finally:
        subprocess.run(["fusermount3", "-u", "-z", card.mount], check=False)
        server.wait(10)


def wait(condition: Any, seconds: float = 20) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def image(path: Path, *, noise: int = 9 * MIB, seed: int = 1) -> Path:
    """Make an image of 64 MiB: two partitions, `noise` bytes that no card holds by chance, and holes."""
    return make(path, noise=noise, seed=seed)


def noisy(path: Path, length: int) -> Path:
    """Make an image that is noise from its first partition to its end, so that writing it takes a while."""
    image(path)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(random.Random(7).randbytes(length - MIB))  # noqa: S311 - noise, not a secret
        file.truncate(length)
    return path


def same(path: Path, source: Path) -> bool:
    """Return whether a device or file begins with all bytes of an image."""
    data = source.read_bytes()
    with path.open("rb") as file:
        return file.read(len(data)) == data


def pibake(
    *arguments: str | Path, program: str = "", prefix: tuple[str, ...] = (), **env: str
) -> list[str | Path]:
    """Return the command line of a real pibake, or of a `program` that is one."""
    variables = [f"{name}={value}" for name, value in env.items()]
    start = ["-c", program] if program else ["-m", "pibake"]
    return [*prefix, "env", *variables, sys.executable, *start, *arguments]
