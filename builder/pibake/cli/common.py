"""What the commands about identities share: options, lengths of time, and where things are."""

from __future__ import annotations

import os
import re
import secrets as randomness
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pibake.plan import Plan
    from pibake.vault import Vault

STYLES = {"ok": "green", "warning": "yellow", "missing": "bold red", "wrong": "bold red", "unknown": "dim"}
"""How a finding stands -> how that looks."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}

config_option = click.option(
    "-c", "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="The cluster.yaml  [default: the one in this or a parent folder]",
)  # fmt: skip
age_option = click.option(
    "--age-identity", type=click.Path(path_type=Path), metavar="FILE", envvar="PIBAKE_AGE_IDENTITY",
    help="Age identity or SSH private key that decrypts the secrets.  [env: PIBAKE_AGE_IDENTITY]",
)  # fmt: skip
server_option = click.option(
    "--server", metavar="URL", help="The API server  [default: the endpoint in cluster.yaml]"
)


class Known(click.ParamType[str]):
    """A name of a catalogue; completed in shells. `names` is called when somebody presses the key for that."""

    name = "name"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self.names = names

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[click.shell_completion.CompletionItem]:
        """Return the names that go on like what is typed."""
        known = self.names()
        return [click.shell_completion.CompletionItem(name) for name in known if name.startswith(incomplete)]


class Duration(click.ParamType[timedelta]):
    """A length of time: `90m`, `8h`, `30d`, `1y`, or several together."""

    name = "time"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the length of time that is written."""
        if isinstance(value, timedelta):
            return value
        try:
            return duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes: `512M`, `8G`, `1.5T`, in powers of 1024."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes that is written."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([KMGT])(?:i?B)?", value, re.IGNORECASE)
        if not found:
            self.fail(f"{value!r} is no size; write it like 512M or 8G", param, ctx)
        return int(float(found[1]) * 1024 ** ("KMGT".index(found[2].upper()) + 1))


def duration(text: str) -> timedelta:
    """Return a length of time as people and Kubernetes write it; `ValueError` if it is none."""
    parts = re.findall(r"(\d{1,9})([smhdwy])", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no length of time; write it like 90m, 8h, 30d or 1y")
    try:
        return timedelta(seconds=sum(int(number) * UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None


@dataclass(frozen=True)
class Opened:
    """A cluster.yaml's plan and the vault beside it."""

    plan: Plan
    vault: Vault

    def url(self, given: str | None) -> str:
        """Return where the API server is: as given, or as planned."""
        if given is not None:
            if not re.fullmatch(r"https://[^\s/?#@]+", given.rstrip("/")):
                raise PibakeError(
                    f"{given!r} is no API server's URL", "write it like https://192.168.10.11:6443"
                )
            return given.rstrip("/")
        if self.plan.kubernetes is None:
            raise PibakeError(
                f"the cluster.yaml of {self.plan.cluster} has no `kubernetes` section, so no API server is known",
                "add the section, or name the server with --server https://...:6443",
            )
        return self.plan.kubernetes.url


def opened(config: Path | None, age_identity: Path | None, recipients: tuple[str, ...] = ()) -> Opened:
    """Return the plan of a cluster.yaml and its vault."""
    from pibake import catalog
    from pibake import config as configuration
    from pibake.cli.config import locate
    from pibake.plan import plan
    from pibake.vault import FOLDER, Vault

    source = locate(config)
    decided = plan(configuration.load(source, bases=catalog.names()))
    folder = source.parent / FOLDER
    return Opened(decided, Vault(folder, identity_file=age_identity, recipients=recipients))


def show_findings(first: str, second: str, rows: Iterable[tuple[str, str, str, str, str]]) -> None:
    """Print a table of what was looked at: how it stands, under `first` and `second` what it is, detail and remedy ("" for none)."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", first, second, "")
    for status, one, other, said, remedy in rows:
        detail = Text(said)
        if remedy:
            detail.append(f"\n{remedy}", "cyan")
        table.add_row(Text(status, STYLES[status]), Text(one), Text(other), detail)
    Console().print(table)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all; a symbolic link stays one."""
    final = path.resolve()
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{randomness.token_hex(4)}.part")
    try:
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
