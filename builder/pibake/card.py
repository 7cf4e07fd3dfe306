"""What a card holds: which node of which cluster, of which build, and how far it has come.

Read from an image or a device that nobody has mounted, by mtools and debugfs, with permission to read and nothing more.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pibake.errors import ImageError, PibakeError
from pibake.health import fingerprint
from pibake.image import ext4, fat, table
from pibake.image.ext4_tree import Files
from pibake.seed import MARKER_FILE, SECRETS_FILE, Marker, Vehicle
from pibake.seed.marker import read as read_marker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SEEDED = "var/lib/pibake/seed-id"
CLOUD = "var/lib/cloud/data/instance-id"
STATE = "var/lib/pibake/state.json"
JOINED = "var/lib/pibake/joined"
MACHINE = "etc/machine-id"
RELEASES = ("etc/os-release", "usr/lib/os-release")


@dataclass(frozen=True)
class State:
    """What `pibake-join` wrote last.

    Attributes:
        stage: where it was: "network", "clock", "endpoint", "install", "join", "ready" or "scrubbed".
        status: "ok", "wait" or "failed".
        detail: in a person's words.
        time: when, in Unix time.
        reached: seconds after the boot by each stage that was reached.
    """

    stage: str
    status: str
    detail: str
    time: int
    reached: Mapping[str, float]


@dataclass(frozen=True)
class Root:
    """What the root file system says.

    Attributes:
        system: the system's name.
        booted: whether it was started from this card.
        applied: the instance-id of the seed that was applied last, "" if none was.
        joined: whether the node has been a member of a cluster.
        state: the last known state, or None.
        clean: False if the card was pulled out of a running node: what the node wrote last may be missing here.
        size: bytes of the file system.
        unused: bytes of the card behind it.
        host_keys: SSH host keys by type ("ed25519"), as fingerprints.
    """

    system: str
    booted: bool
    applied: str
    joined: bool
    state: State | None
    clean: bool
    size: int
    unused: int
    host_keys: Mapping[str, str]


@dataclass(frozen=True)
class Card:
    """What a card holds.

    Attributes:
        path: the image or device.
        size: its length in bytes.
        partitions: its partition table.
        marker: which node and build it is; None on cards of other makers, and of pibake before it had a marker.
        hostname: the node's name, "" if nothing tells it.
        instance_id: that of the seed on the boot partition, "" if there is none.
        secrets: whether secrets are on the boot partition.
        root: what the root file system says, or None.
        problems: what cannot be read, and why.
    """

    path: Path
    size: int
    partitions: table.Table
    marker: Marker | None = None
    hostname: str = ""
    instance_id: str = ""
    secrets: bool = False
    root: Root | None = None
    problems: tuple[str, ...] = field(default=())

    @property
    def ours(self) -> bool:
        """Return whether pibake made it."""
        return self.marker is not None or self.instance_id.startswith("pibake-")

    @property
    def pending(self) -> bool:
        """Return whether the node will apply the seed at its next boot."""
        return self.root is not None and self.root.applied != self.instance_id

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "path": str(self.path), "ours": self.ours, "pending": self.pending}


def read(path: Path) -> Card:
    """Return what the card `path`, an image or a device, holds.

    What is damaged is among the `problems`; the rest is read all the same.

    Raises:
        PibakeError: there is nothing that can be read.
        ImageError: there is no partition table; the error says what else it looks like.
    """
    size = _size(path)
    found = table.read(path)
    problems: list[str] = []
    files: Mapping[str, bytes] = {}
    root = None
    try:
        files = _boot(path, found.partitions[0], problems)
    except ImageError as error:
        problems.append(f"the boot partition: {error}")
    marker = None
    if MARKER_FILE in files:
        try:
            marker = read_marker(files[MARKER_FILE])
        except ValueError as error:
            problems.append(f"{MARKER_FILE} on the boot partition: {error}")
    try:
        root = _root(path, size, marker)
    except ImageError as error:
        problems.append(f"the root file system: {error}")
    meta = files.get("meta-data", b"").decode("utf-8", "replace")
    return Card(
        path,
        size,
        found,
        marker,
        marker.hostname if marker else _value(meta, "local-hostname"),
        _value(meta, "instance-id"),
        secrets=bool(files.get(SECRETS_FILE)),
        root=root,
        problems=tuple(problems),
    )


def _size(path: Path) -> int:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
    except FileNotFoundError:
        raise PibakeError(f"there is no {path}", "name an image, or the device of a card reader") from None
    except IsADirectoryError:
        raise PibakeError(f"{path} is a folder", "name an image, or the device of a card reader") from None
    except PermissionError:
        raise PibakeError(
            f"{path} may not be read by you", "ask for read permission on the device, or use sudo"
        ) from None
    except OSError as error:
        raise PibakeError(
            f"{path} cannot be read: {error.strerror}", "is there a card in the reader?"
        ) from error
    if not size:
        raise PibakeError(f"{path} is empty", "is there a card in the reader?")
    return size


def _boot(path: Path, first: table.Partition, problems: list[str]) -> dict[str, bytes]:
    """Return the files of a seed that tell of it."""
    if not first.is_fat:
        raise ImageError(f"{path}: the first partition is of type {first.type}, not FAT")
    there = fat.listing(path, first.start)
    wanted = [name for name in ("meta-data", MARKER_FILE, SECRETS_FILE) if name in there]
    files = fat.contents(path, first.start, wanted)
    problems += [
        f"{name} on the boot partition: mtools cannot read it" for name in wanted if name not in files
    ]
    return files


def _root(path: Path, size: int, marker: Marker | None) -> Root:
    partition = ext4.root_partition(path)
    files = Files(path, partition.start)
    keys = [
        f"etc/ssh/{name}" for name in files.listing("etc/ssh") if re.fullmatch(r"ssh_host_\w+_key\.pub", name)
    ]
    found = {
        name: data.decode("utf-8", "replace").strip()
        for name, data in files.contents([*RELEASES, MACHINE, SEEDED, CLOUD, STATE, JOINED, *keys]).items()
    }
    by_unit, by_cloud = found.get(SEEDED, ""), found.get(CLOUD, "")
    applied = by_unit if marker and marker.vehicle == Vehicle.FILES else by_cloud or by_unit
    state = _state(found.get(STATE, ""))
    title = next((_value(found[name], "PRETTY_NAME") for name in RELEASES if name in found), "")
    length = ext4.state(path, partition.start).size
    clean = not ext4.needs_recovery(path, partition.start)
    # what the first boot wrote may still be in the journal; no card that was not booted has one to replay
    booted = bool(applied or state) or found.get(MACHINE, "") not in {"", "uninitialized"} or not clean
    return Root(
        system=title,
        booted=booted,
        applied=applied,
        joined=JOINED in found,
        state=state,
        clean=clean,
        size=length,
        unused=size - partition.start - length,
        host_keys=dict(
            filter(None, (_host_key(name, found[name]) for name in sorted(found.keys() & {*keys})))
        ),
    )


def _state(text: str) -> State | None:
    """Return the state in a file of `pibake-join`; None if the file is not there, or was cut off."""
    with suppress(ValueError, TypeError, AttributeError, KeyError):
        values = json.loads(text)
        reached = {str(stage): float(seconds) for stage, seconds in values["reached"].items()}
        stage, status, detail = (str(values[key]) for key in ("stage", "status", "detail"))
        return State(stage, status, detail, int(values.get("time", 0)), reached)
    return None


def _host_key(name: str, line: str) -> tuple[str, str] | None:
    with suppress(ValueError, IndexError):
        return name.removeprefix("etc/ssh/ssh_host_").removesuffix("_key.pub"), fingerprint(line)
    return None


def _value(text: str, key: str) -> str:
    """Return the value of a line `key: value` or `KEY="value"`, as meta-data and os-release(5) have them."""
    found = re.search(rf"^{key}[:=][ \t]*[\"']?([^\"'\n]*)", text, re.MULTILINE)
    return found[1].strip() if found else ""
