"""mmdebstrap on this host: whether arm64 programs run here, where its tree may lie, what its failures mean."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shlex
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, MissingTool
from pibake.run import find, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

EMULATOR = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
ARCHIVES = "/var/cache/apt/archives"
"""Where apt keeps packages inside a tree."""
IMAGE = "/proc/self/fd/9"
"""How mmdebstrap's hooks reach the image."""
GUARD = """exec 9<>"$0"; trap 'kill -KILL 0' TERM; "$@" & wait $!"""
"""Opens the image, runs mmdebstrap, and at a signal ends all of it at once: asked politely, mmdebstrap would wait for
the maintainer script under way, and a process group that Python has left behind has nobody else to end it."""
LAST = ("bullseye",)
"""Suites past their long-term support, to be had as their last point release: the list of security updates is still
there, but not all files it names."""
POINT_RELEASE = 'sed -i -e /-security/d -e /-updates/d "$1/etc/apt/sources.list"'
"""Takes from mmdebstrap's own list of archives what came after the point release."""
HINTS = (
    (
        r"Temporary failure resolving|Could not (connect|resolve)|Unable to connect|Failed to fetch",
        "the Debian mirror could not be reached: check the network, or the http_proxy variable",
    ),
    (
        r"newuidmap|/etc/subuid|unshare.*(not permitted|failed)|user namespace",
        "user namespaces are closed to you here: run as root, or see `pibake doctor`",
    ),
    (
        r"No space left on device|Could not allocate block",
        "the disk is full: 3 GiB are needed while a base is assembled",
    ),
)


def require_emulation() -> None:
    """Make sure that arm64 programs run here.

    Raises:
        MissingTool: they do not, and only root can change that.
    """
    if platform.machine() == "aarch64":
        return
    find("arch-test", "find out whether arm64 programs run here")
    if run(["arch-test", "arm64"], check=False).code == 0:
        return
    if os.geteuid() == 0:
        if not EMULATOR.parent.joinpath("register").exists():
            run(
                ["mount", "-t", "binfmt_misc", "binfmt_misc", EMULATOR.parent],
                why="run arm64 programs",
                check=False,
            )
        run(["update-binfmts", "--enable", "qemu-aarch64"], why="run arm64 programs", check=False)
        if run(["arch-test", "arm64"], check=False).code == 0:
            return
    raise MissingTool(
        "an emulator of arm64 that the kernel knows of",
        "assemble Debian bases",
        "sudo apt-get install qemu-user-static binfmt-support && "
        "sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; sudo update-binfmts --enable qemu-aarch64",
    )


@contextmanager
def scratch(work: Path) -> Iterator[Path]:
    """Make a folder for mmdebstrap's tree and remove it, whatever owners the files in it have by then.

    In unshare mode the tree belongs to subordinate ids, which must be able to reach it: below a private home
    they cannot, so the folder then goes to /var/tmp. What a killed run left there is swept.
    """
    work.mkdir(parents=True, exist_ok=True)
    reachable = os.geteuid() == 0 or all(p.stat().st_mode & 0o001 for p in (work, *work.resolve().parents))
    place = work if reachable else Path("/var/tmp")  # noqa: S108 - mkdtemp makes the folder
    prefix = f"pibake-{os.geteuid()}-"
    for stale in place.glob(f"{prefix}*"):
        with _held(stale) as ours:
            if ours:
                _remove(stale)
    room = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    with _held(room):
        try:
            room.chmod(0o755)
            yield room
        finally:
            _remove(room)


@contextmanager
def _held(room: Path) -> Iterator[bool]:
    """Lock a room, and say whether nobody else had it."""
    descriptor = os.open(room, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _remove(room: Path) -> None:
    shutil.rmtree(room, ignore_errors=True)
    if room.exists():  # files of subordinate ids are for their own namespace to remove
        run(["unshare", "--map-root-user", "--map-auto", "rm", "-rf", room], why="clean up", check=False)
        shutil.rmtree(room, ignore_errors=True)


def mmdebstrap(
    arguments: Sequence[str],
    *,
    suite: str,
    room: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    image: Path | None = None,
) -> None:
    """Run mmdebstrap as root, or in a user namespace of one's own.

    Args:
        arguments: everything after the program and its mode, up to suite and target.
        suite: the Debian suite, for messages.
        room: the folder for its trees.
        environment: what hooks and maintainer scripts get to see.
        on_line: called with every line it prints.
        image: a file that hooks write as `IMAGE`. It goes in as an open file, since subordinate ids may have no
            way into its folder.

    Raises:
        CommandFailed: it failed.
    """
    root = os.geteuid() == 0
    hooks = [f"--setup-hook={POINT_RELEASE}"] if suite in LAST else []
    argv = ["mmdebstrap", "--verbose", f"--mode={'root' if root else 'unshare'}", *hooks, *arguments]
    if root:
        # its mounts are seen by nobody else and go with it (in unshare mode mmdebstrap does the same)
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *argv]
    if image is not None:
        image.chmod(0o666)
    # setpriv tells the guard when we die
    argv = ["setpriv", "--pdeathsig", "TERM", "sh", "-c", GUARD, str(image or "/dev/null"), *argv]
    why = f"assemble Debian {suite}"
    env = {**environment, "TMPDIR": str(room), "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(
            argv, why=why, env=env, cwd=room, on_line=on_line
        )  # the caller's folder may be closed to them, too
    except CommandFailed as error:
        hint = next((hint for pattern, hint in HINTS if re.search(pattern, error.output)), "")
        raise CommandFailed(error.argv, error.code, error.output, why=why, hint=hint) from None
    if image is not None:
        image.chmod(0o644)


def quote(path: Path) -> str:
    """Return a path as mmdebstrap's special hooks read it: they split words as a shell does."""
    return shlex.quote(str(path))
