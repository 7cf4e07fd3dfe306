"""What differs between two seeds, in a person's words, and what of it a node that has been booted would not follow.

What cloud-init does to a user that is there already: it adds keys, and sudo's rule, and sets the password; groups, shell
and keys that are there stay as they are (cloudinit/distros/__init__.py, `create_user`; cloudinit/ssh_util.py,
`setup_user_keys`). pibake-seed.service sets shell and keys, and adds groups.
"""

from __future__ import annotations

import base64
import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pibake.seed.accounts import ACCOUNTS
from pibake.seed.archive import FILES_FILE, SECRETS_FILE
from pibake.seed.marker import MARKER_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.seed.marker import Marker

QUIET = ("meta-data", MARKER_FILE, SECRETS_FILE, FILES_FILE, "user-data", "network-config")
"""Files whose differences are told by what they hold."""
KEYS = "etc/pibake/keys/"


@dataclass(frozen=True)
class Login:
    """A user as a seed makes it: authorized keys, and what else there is to say of the account."""

    keys: frozenset[str]
    rest: str


@dataclass(frozen=True)
class Content:
    """What a seed holds: users by name, and files by path on the node, except secrets."""

    users: Mapping[str, Login]
    files: Mapping[str, bytes]


def content(seed: Mapping[str, bytes]) -> Content:
    """Return what the files of a seed, by name on the boot partition, hold."""
    try:
        data = yaml.safe_load(seed.get("user-data", b"")) or {}
    except yaml.YAMLError:
        data = {}
    data = data if isinstance(data, dict) else {}
    files = {entry["path"].lstrip("/"): _decoded(entry) for entry in data.get("write_files") or []}
    files |= _unpacked(seed.get(FILES_FILE, b""))
    users = {user["name"]: _login(user) for user in data.get("users") or [] if isinstance(user, dict)}
    for line in files.get(ACCOUNTS, b"").decode("utf-8", "replace").splitlines():
        name, _, rest = line.partition(":")
        users[name] = Login(frozenset(files.get(KEYS + name, b"").decode().splitlines()), rest)
    return Content(users, files)


def words(old: Mapping[str, bytes], new: Mapping[str, bytes], before: Marker, after: Marker) -> Iterator[str]:
    """Yield what is another in the `new` seed, by the files on the boot partition and their markers."""
    for name, was, is_ in (
        ("hostname", before.hostname, after.hostname),
        ("full name", before.fqdn, after.fqdn),
        ("address", ", ".join(before.addresses), ", ".join(after.addresses)),
        ("role", before.role, after.role),
    ):
        if was != is_:
            yield f"{name}: {was} -> {is_}"
    if before.addresses == after.addresses and old.get("network-config") != new.get("network-config"):
        yield "network: other settings"
    had, has = content(old), content(new)
    for name in sorted(had.users.keys() | has.users.keys()):
        if said := _of_user(had.users.get(name), has.users.get(name)):
            yield f"user {name}: {said}"
    paths = sorted(
        path
        for path in had.files.keys() | has.files.keys()
        if had.files.get(path) != has.files.get(path) and path != "etc/pibake/seed-id"
    )
    if paths:
        yield "files: " + ", ".join(f"/{path}" for path in paths)
    yield from _of_secrets(old.get(SECRETS_FILE, b""), new.get(SECRETS_FILE, b""))
    for name in sorted((old.keys() | new.keys()) - {*QUIET}):
        if said := _of_text(old.get(name, b""), new.get(name, b"")):
            yield f"{name}: {said}"


def left_behind(old: Content, new: Content, *, cloud_init: bool) -> Iterator[str]:
    """Yield what a booted node keeps of its old seed although the new one has it no more."""
    for name, had in old.users.items():
        has = new.users.get(name)
        if has is None:
            yield f"user {name} stays on the node, with its keys: remove it there with `userdel -r {name}`"
        elif cloud_init and had.keys - has.keys:
            yield f"{len(had.keys - has.keys)} key(s) of {name} still open the node: remove them from ~{name}/.ssh/authorized_keys"
        elif not cloud_init and had.keys and not has.keys:
            yield f"the keys of {name} still open the node: remove ~{name}/.ssh/authorized_keys"
        if cloud_init and has and had.rest != has.rest:
            yield f"shell and groups of {name} stay as they are on the node, and sudo that was taken away"
    if cloud_init and (gone := sorted(old.files.keys() - new.files.keys())):
        yield "files that stay on the node: " + ", ".join(f"/{path}" for path in gone)


def _of_user(had: Login | None, has: Login | None) -> str:
    if had is None or has is None:
        return "added" if has else "removed"
    said = [
        f"{len(keys)} key(s) {what}"
        for keys, what in ((has.keys - had.keys, "added"), (had.keys - has.keys, "removed"))
        if keys
    ]
    if had.rest != has.rest:
        said.append("other groups, shell or sudo")
    return ", ".join(said)


def _of_secrets(old: bytes, new: bytes) -> Iterator[str]:
    if old == new:
        return
    if not old:
        yield "secrets: on the boot partition again, until the node has joined"
    else:
        yield "secrets: other ones" if new else "secrets: removed"


def _of_text(old: bytes, new: bytes) -> str:
    """Return the words that differ between two texts, without the clock's start, which is another for each day."""
    was, is_ = (
        [word for word in text.decode("utf-8", "replace").split() if not word.startswith("pibake.clock=")]
        for text in (old, new)
    )
    added = [f"+{word}" for word in is_ if word not in was]
    return " ".join([*added, *(f"-{word}" for word in was if word not in is_)])


def _login(user: Mapping[str, Any]) -> Login:
    keys = frozenset(map(str, user.get("ssh_authorized_keys") or []))
    rest = {key: value for key, value in user.items() if key not in {"name", "ssh_authorized_keys"}}
    return Login(keys, repr(sorted(rest.items(), key=str)))


def _decoded(entry: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(entry.get("content", "")))
    except ValueError:
        return b""


def _unpacked(archive: bytes) -> dict[str, bytes]:
    if not archive:
        return {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            found = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
            return {name: file.read() for name, file in found.items() if file}
    except tarfile.TarError:
        return {}
