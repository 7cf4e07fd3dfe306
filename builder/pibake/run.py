"""The one door for child processes.

Every tool pibake calls goes through `run` (or `spawn`, for one that is left running): argument lists only, a
clean environment, no standard input unless given, the child ended when the caller is, and an error that holds
the command to try again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pibake.errors import CommandFailed, MissingTool
from pibake.log import log
from pibake.resources import packages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

KEPT_ENVIRONMENT = (
    "HOME", "LOGNAME", "PATH", "SOURCE_DATE_EPOCH", "TERM", "TMPDIR", "USER", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian keeps sfdisk, mkfs and mke2fs, and where a user's PATH does not look."""


@dataclass(frozen=True)
class Completed:
    """What a finished command left: exit status and decoded output."""

    code: int
    stdout: str
    stderr: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment children get: a short list of kept names, C.UTF-8, and `extra`."""
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    kept["PATH"] = f"{kept.get('PATH', '/usr/bin:/bin')}:{SBIN}"
    return {**kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def find(tool: str, why: str) -> str:
    """Return the path of `tool`, or raise `MissingTool` saying what it is needed for and how to get it."""
    path = shutil.which(tool, path=environment()["PATH"])
    if path:
        return path
    package = next((p.name for p in packages() if p.provides == tool), "")
    hint = f"sudo apt-get install {package}" if package else f"install {tool} and put it on PATH"
    raise MissingTool(tool, why, hint)


def run(
    argv: Sequence[str | Path],
    *,
    why: str = "",
    stdin: bytes | None = None,
    stdout: IO[bytes] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a command to its end and return what it printed.

    Args:
        argv: program and arguments; the program is looked up with `find`.
        why: what the command is for, as it reads after "to", for errors.
        stdin: bytes to feed it; nothing by default.
        stdout: an open file that takes its standard output instead of the caller.
        cwd: folder to run it in.
        env: variables added to the clean environment.
        timeout: seconds after which it is ended.
        check: raise when the exit status is not 0.
        on_line: called with each line of output (both streams) as it comes.

    Raises:
        MissingTool: the program is not installed.
        CommandFailed: it failed, or did not end in time.
    """
    feed = subprocess.PIPE if stdin is not None else None
    with spawn(argv, why=why, cwd=cwd, env=env, stdin=feed, stdout=stdout or subprocess.PIPE) as child:
        out, err, timed_out = _communicate(child, stdin, timeout, on_line)
    code = child.returncode
    command = [str(a) for a in argv]
    if timed_out:
        raise CommandFailed(command, code, out + err, why=why, hint=f"it did not end within {timeout:g} s")
    if check and code:
        raise CommandFailed(command, code, err if err.strip() else out, why=why)
    return Completed(code, out, err)


@contextmanager
def spawn(
    argv: Sequence[str | Path],
    *,
    why: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: IO[bytes] | int = subprocess.PIPE,
    stderr: IO[bytes] | int = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own; end the whole group when the block is left."""
    command = [str(a) for a in argv]
    program = find(command[0], why or "go on")
    log.debug("+ %s", shlex.join(command))
    child = subprocess.Popen(
        [program, *command[1:]],
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env=environment(env),
        start_new_session=True,
    )
    try:
        yield child
    finally:
        end(child)
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream:
                stream.close()


def end(child: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """End a child and everything it started: politely, then after `grace` seconds for certain."""
    if child.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
            return


def _communicate(
    child: subprocess.Popen[bytes],
    stdin: bytes | None,
    timeout: float | None,
    on_line: Callable[[str], None] | None,
) -> tuple[str, str, bool]:
    """Feed and drain a child; return both outputs and whether it ran out of time."""
    if on_line is None:
        try:
            out, err = child.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            end(child)
            out, err = child.communicate()
            return _text(out), _text(err), True
        return _text(out), _text(err), False

    collected: dict[str, list[str]] = {"out": [], "err": []}

    def drain(name: str, stream: IO[bytes]) -> None:
        for raw in stream:
            line = _text(raw).rstrip("\n")
            collected[name].append(line)
            on_line(line)

    streams = {"out": child.stdout, "err": child.stderr}
    threads = [threading.Thread(target=drain, args=(n, s), daemon=True) for n, s in streams.items() if s]
    for thread in threads:
        thread.start()
    if stdin is not None and child.stdin:
        child.stdin.write(stdin)
        child.stdin.close()
    timed_out = False
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        end(child)
    for thread in threads:
        thread.join()
    return "\n".join(collected["out"]), "\n".join(collected["err"]), timed_out


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")
