"""The command line in this process: all that `python -m pibake` does, without the second it takes to start.

For tests of what a command does. Whatever is about processes (signals, locks, two at once, what a command becomes) starts
real ones.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any
from unittest import mock

from pibake import cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def run(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `pibake` with these arguments; `env` is its whole environment, as subprocess.run has it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
    with ExitStack() as stack:
        stack.enter_context(_as_it_was())
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        if env is not None:
            stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
        if cwd is not None:
            stack.enter_context(chdir(cwd))
        code = _status(arguments)
    said = [_text(stream) for stream in (out, err)]
    return subprocess.CompletedProcess(["pibake", *arguments], code, *said)


def start(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it as `run` does, in a process of its own."""
    argv = [sys.executable, "-m", "pibake", *arguments]
    return subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def started(argv: Sequence[str | Path], **how: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a program, and end it with the block: one that still runs when a test fails would be waited for.

    Args:
        argv: the program and its arguments.
        how: what `subprocess.Popen` is told beside that; its streams are of text.
    """
    with subprocess.Popen(argv, text=True, **how) as child:
        try:
            yield child
        finally:
            child.kill()


def _status(arguments: tuple[str, ...]) -> int:
    try:
        cli.main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Put back what a command changes for its whole process: where its log goes, what SIGTERM does, which TMPDIR holds."""
    root, own = logging.getLogger(), logging.getLogger("pibake")
    handlers, levels, handler = root.handlers[:], (root.level, own.level), signal.getsignal(signal.SIGTERM)
    folder, tempfile.tempdir = tempfile.tempdir, None
    try:
        yield
    finally:
        tempfile.tempdir = folder
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        own.setLevel(levels[1])
        signal.signal(signal.SIGTERM, handler)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")
