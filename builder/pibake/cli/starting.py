"""What `pibake init` asks, makes and writes."""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pibake import config as configuration
from pibake.config import accounts, starter, values
from pibake.config.problems import Bad
from pibake.errors import PibakeError
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "pibake_ed25519"
MAKE = "make one"


def write(out: Path, *, ask: bool, force: bool) -> Iterator[str]:
    """Write the starter file, and a key and a schema beside it where they are missing; yield what to tell."""
    network = starter.lan(_routes())
    found = starter.public_key(Path.home() / ".ssh")
    key: str | dict[str, str] = {"file": _short(found)} if found else MAKE
    count = 3
    if ask:
        network, key, count = _asked(network, key)
    folder = out.parent
    folder.mkdir(parents=True, exist_ok=True)
    # decided before anything is written, so that a subnet without room leaves nothing behind
    content = starter.text(network, count=count, key={"file": f"{KEY}.pub"} if key == MAKE else key)
    if key == MAKE:
        yield from _key(folder)
    _put(out, content, force=force)
    yield f"wrote {out}: node1 to node{count} on {network.subnet}"
    if _schema(folder / starter.SCHEMA_NAME):
        yield f"wrote {folder / starter.SCHEMA_NAME}, for completion in editors"
    yield "next: look it over, then `pibake build --hostname node1`"


def _routes() -> str:
    """Return the host's IPv4 routes as JSON, or nothing where that cannot be had."""
    try:
        return run(["ip", "-j", "-4", "route"], why="suggest a subnet", timeout=5).stdout
    except PibakeError:
        return ""


def _asked(network: starter.Lan, key: str | dict[str, str]) -> tuple[starter.Lan, str | dict[str, str], int]:
    """Ask for what only the user can know; every question has an answer to just confirm."""
    subnet = _prompt("Subnet of the nodes", str(network.subnet), _ipv4_subnet)
    if subnet != network.subnet:
        gateway = _prompt("Gateway", str(subnet.network_address + 1), _gateway(subnet))
        network = starter.Lan(subnet, gateway)
    default = key if isinstance(key, str) else key["file"]
    answer = _prompt("SSH public key (a file, a key, or an https URL)", default, _public_key)
    room = min(subnet.num_addresses - 3, 250)
    count = click.prompt("Number of nodes", default=min(3, room), type=click.IntRange(1, room))
    return network, answer, count


def _prompt(question: str, default: str, parse: Callable[[str], Any]) -> Any:
    def answered(raw: str) -> Any:
        try:
            return parse(raw.strip())
        except Bad as bad:
            raise click.UsageError(f"{bad.message}; {bad.hint}" if bad.hint else bad.message) from None

    return click.prompt(question, default=default, value_proc=answered)


def _ipv4_subnet(raw: str) -> ipaddress.IPv4Network:
    found = values.subnet(raw)
    if not isinstance(found, ipaddress.IPv4Network) or found.prefixlen > 29:
        raise Bad(f"{raw} is not an IPv4 subnet with room for a few nodes", "write it like 192.168.10.0/24")
    return found


def _gateway(subnet: ipaddress.IPv4Network) -> Callable[[str], values.IPAddress]:
    def parse(raw: str) -> values.IPAddress:
        found = values.ip(raw)
        if found not in subnet or found in {subnet.network_address, subnet.broadcast_address}:
            raise Bad(f"{found} is not an address for a router in {subnet}")
        return found

    return parse


def _public_key(raw: str) -> str | dict[str, str]:
    if raw == MAKE:
        return MAKE
    if "://" in raw:
        return {"url": values.key_url(raw)}
    if raw.split(None, 1)[:1] and raw.split(None, 1)[0] in accounts.KEY_TYPES:
        return accounts.public_key(raw)
    try:
        path = Path(raw).expanduser().absolute()
        accounts.key_file(path.read_text("utf-8"))
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Bad(f"cannot read {raw}: {reason.lower()}") from None
    return {"file": _short(path)}


def _short(path: Path) -> str:
    """Return a path below the home folder with ~, so that the file means the same to others."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _key(folder: Path) -> Iterator[str]:
    """Make an SSH key pair beside the file, unless there is one; an existing key is never touched."""
    private, public = folder / KEY, folder / f"{KEY}.pub"
    if public.exists():
        yield f"taking the SSH key {public}, which is there already"
        return
    if private.exists():
        raise PibakeError(
            f"{private} is there without its {public.name}",
            f"`ssh-keygen -y -f {private} > {public}` makes the public half again",
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{KEY}-") as scratch:
        made = Path(scratch, KEY)
        command: list[str | Path] = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "pibake",
            "-f",
            made,
        ]
        run(command, why="make an SSH key to log in with", timeout=60)
        # `link`, unlike `rename`, fails where a file of that name came in between
        os.link(made, private)
        os.link(f"{made}.pub", public)
    yield f"made {private}, the SSH key to log in with (keep it to yourself), and {public.name}"


def _put(path: Path, content: str, *, force: bool) -> None:
    """Write a file beside its final name and move it there whole."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as file:
        scratch = Path(file.name)
        try:
            file.write(content)
            file.flush()
            scratch.chmod(0o644)
            if force:
                scratch.replace(path)
            else:
                os.link(scratch, path)
        except FileExistsError:
            raise PibakeError(f"{path} is already there", "--force overwrites it") from None
        finally:
            scratch.unlink(missing_ok=True)


def _schema(path: Path) -> bool:
    """Write the JSON Schema, unless it or another file stands there; say whether it was written."""
    schema = configuration.json_schema()
    content = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    there = path.read_text("utf-8", "replace") if path.exists() else None
    if there is not None and (there == content or json.dumps(schema["title"]) not in there):
        return False
    _put(path, content, force=True)
    return True
