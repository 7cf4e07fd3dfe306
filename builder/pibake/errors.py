"""Every error pibake raises on purpose.

    PibakeError                exit 1   what failed, about what, and what to do next
    ├── ConfigError            exit 2   all problems of a cluster.yaml at once, each with its place
    ├── MissingTool            exit 3   a tool this host lacks, what it is needed for, how to install it
    ├── VerificationError      exit 4   a digest or signature that does not match
    ├── CommandFailed          exit 1   a tool that failed, with the command to try again
    ├── ImageError             exit 1   an image that is not what it should be
    ├── FetchError             exit 1   a download that could not be had
    └── BootFailed             exit 1   a test boot that did not reach a healthy state

Library code raises; only `pibake.cli` prints and exits.
"""

from __future__ import annotations

import shlex
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class PibakeError(Exception):
    """An expected failure: a sentence saying what went wrong, and a hint saying what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.subject = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" if self.subject else self.message


class ConfigError(PibakeError):
    """What is wrong with a cluster.yaml; `problems` holds every problem, already rendered."""

    exit_code = 2

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        super().__init__("\n\n".join(problems), hint)
        self.problems = tuple(problems)


class MissingTool(PibakeError):
    """A program or file that this host lacks."""

    exit_code = 3

    def __init__(self, tool: str, why: str, hint: str) -> None:
        super().__init__(f"{tool} is not installed; it is needed to {why}", hint)
        self.tool = tool


class VerificationError(PibakeError):
    """Bytes that are not the bytes they should be."""

    exit_code = 4

    def __init__(self, what: str, *, expected: str, got: str, source: str, hint: str = "") -> None:
        super().__init__(f"{what} does not match: expected {expected} (from {source}), got {got}", hint)
        self.expected = expected
        self.got = got


class CommandFailed(PibakeError):
    """A tool that ended with an error; the message holds the command to replay and its last lines."""

    def __init__(self, argv: Sequence[str], code: int, output: str, *, why: str = "", hint: str = "") -> None:
        ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
        last = "\n".join(f"    {line}" for line in output.strip().splitlines()[-12:])
        purpose = f" (to {why})" if why else ""
        text = f"{argv[0]} {ended}{purpose}\n  command: {shlex.join(argv)}"
        super().__init__(f"{text}\n  it said:\n{last}" if last else text, hint)
        self.argv = tuple(argv)
        self.code = code
        self.output = output


class ImageError(PibakeError):
    """An image whose content is not what pibake needs."""


class FetchError(PibakeError):
    """A download that failed after every retry."""


class BootFailed(PibakeError):
    """A test boot that did not become healthy; `console` is the tail of what the machine printed."""

    def __init__(self, message: str, *, console: str = "", hint: str = "") -> None:
        tail = "\n".join(f"    {line}" for line in console.strip().splitlines()[-15:])
        super().__init__(f"{message}\n  last lines of the console:\n{tail}" if tail else message, hint)
        self.console = console


@contextmanager
def about(subject: str | Path) -> Iterator[None]:
    """Name the node or file that an error raised inside the block is about."""
    try:
        yield
    except PibakeError as error:
        if not error.subject:
            error.subject = str(subject)
        raise
