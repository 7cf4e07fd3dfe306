"""The folder that keeps a cluster's secrets: one file, in the clear for its owner alone or encrypted with age.

    secrets/                  0700, beside cluster.yaml
        .gitignore            "*": nothing in here is for a repository by accident
        identity.json         0600, or instead of it, encrypted at rest:
        identity.json.age     and
        recipients.txt        who it is encrypted to (public)

There is one file, so that what is there is always one consistent whole: it is replaced by a rename, and a killed
run leaves the old one. Nothing that exists is overwritten except by `rotate` and `forget`.
"""

from __future__ import annotations

import os
import secrets as randomness
import stat
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pibake import age, identity
from pibake.errors import PibakeError
from pibake.fsys import sync
from pibake.lock import held
from pibake.progress import Silent
from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pibake.identity import Secrets, Wanted
    from pibake.plan import Plan

FOLDER = "secrets"
PLAIN = "identity.json"
ENCRYPTED = "identity.json.age"
RECIPIENTS = "recipients.txt"
LARGEST = 64 << 20
"""Bytes; ten thousand nodes take about ten million."""


def wanted(plan: Plan) -> Wanted:
    """Return the identities a plan needs."""
    distribution = plan.kubernetes.distribution if plan.kubernetes else ""
    passwords = {addon.name: addon.generated for addon in plan.addons if addon.generated}
    roles = {node.hostname: node.role for node in plan.nodes}
    return identity.Wanted(plan.cluster, distribution, roles, addons=passwords)


class Vault:
    """The secrets folder of one cluster.

    Args:
        folder: where it is, or will be.
        identity_file: age or SSH private key that decrypts it; PIBAKE_AGE_IDENTITY by default.
        recipients: who to encrypt to if it is made now.
    """

    def __init__(
        self, folder: Path, *, identity_file: Path | None = None, recipients: Sequence[str] = ()
    ) -> None:
        named = os.environ.get("PIBAKE_AGE_IDENTITY", "")
        self.folder = folder
        self.identity_file = identity_file or (Path(named).expanduser() if named else None)
        self.recipients = tuple(recipients)

    @property
    def encrypted(self) -> bool:
        """Whether what is kept, or will be, is encrypted."""
        if (self.folder / PLAIN).exists():
            return False
        return bool(self.recipients) or any((self.folder / name).exists() for name in (ENCRYPTED, RECIPIENTS))

    def load(self, *, sound: bool = True) -> Secrets | None:
        """Return what is kept, or None if nothing is yet.

        Args:
            sound: also check that it is what a cluster can live on.

        Raises:
            PibakeError: others can read it, it is damaged or unsound, or the key that decrypts it is missing.
        """
        if not self.folder.exists():
            return None
        self._refuse_exposed(self.folder)
        plain, encrypted = self.folder / PLAIN, self.folder / ENCRYPTED
        if plain.exists() and encrypted.exists():
            raise PibakeError(
                f"{self.folder} holds both {PLAIN} and {ENCRYPTED}: changing one into the other was interrupted",
                "run `pibake secrets encrypt` or `pibake secrets decrypt` again; nothing is lost",
            )
        if not plain.exists() and not encrypted.exists():
            return None
        found = self._read(plain) if plain.exists() else self._read(encrypted)
        if sound:
            identity.check(found, datetime.now(UTC))
        return found

    def existing(self, *, sound: bool = True) -> Secrets:
        """Return what is kept; it is an error if nothing is."""
        found = self.load(sound=sound)
        if found is None:
            raise PibakeError(f"{self.folder} holds no secrets yet", "pibake secrets issue")
        return found

    def issue(self, wanted: Wanted) -> Secrets:
        """Return everything `wanted` needs, having issued and kept what was missing."""
        with self._locked():
            have = self.load()
            new = identity.issue(wanted, have, datetime.now(UTC))
            if new != have:
                self._write(new)
            return new

    def rotate(self, what: str, node: str = "", addon: str = "") -> Secrets:
        """Make one kind of secrets anew, keep and return them; see `identity.rotate`."""
        with self._locked():
            now = datetime.now(UTC)
            new = identity.rotate(self.existing(sound=False), what, now, node, addon)
            identity.check(new, now)
            self._write(new)
            return new

    def forget(self, hostname: str) -> bool:
        """Remove what was issued for a node; return whether there was anything."""
        if not self.folder.exists():
            return False
        with self._locked():
            have = self.load(sound=False)
            if have is None or hostname not in have.nodes:
                return False
            rest = {name: node for name, node in have.nodes.items() if name != hostname}
            self._write(replace(have, nodes=rest))
            return True

    def encrypt(self, recipients: Sequence[str]) -> None:
        """Encrypt what is kept; the file in the clear goes when the new one is whole and on the disk."""
        age.check(recipients)
        with self._locked():
            plain, encrypted = self.folder / PLAIN, self.folder / ENCRYPTED
            if not plain.exists() and not encrypted.exists():
                raise PibakeError(f"{self.folder} holds no secrets yet", "pibake secrets issue")
            found = self._read(plain if plain.exists() else encrypted)
            identity.check(found, datetime.now(UTC))
            self._put(ENCRYPTED, age.encrypt(identity.dumps(found), recipients))
            self._put(RECIPIENTS, "".join(f"{line}\n" for line in recipients).encode())
            if self.identity_file and self._read(encrypted) != found:
                raise PibakeError(f"{encrypted} does not hold what {plain} does", "the latter was kept")
            plain.unlink(missing_ok=True)
            sync(self.folder)

    def decrypt(self) -> None:
        """Keep what is encrypted in the clear from now on."""
        with self._locked():
            encrypted = self.folder / ENCRYPTED
            if not encrypted.exists():
                raise PibakeError(f"{self.folder} is not encrypted")
            self._put(PLAIN, identity.dumps(self._read(encrypted)).reveal().encode())
            for name in (ENCRYPTED, RECIPIENTS):
                (self.folder / name).unlink(missing_ok=True)
            sync(self.folder)

    def keep_public(self, name: str, text: str) -> Path:
        """Write a file that holds nothing secret, such as known_hosts, into the folder and return its path."""
        self._refuse_exposed(self.folder)
        if not (path := self.folder / name).exists() or path.read_text("utf-8") != text:
            self._put(name, text.encode())
        return path

    def _read(self, path: Path) -> Secrets:
        with path.open("rb") as file:
            self._refuse_exposed(path, os.fstat(file.fileno()))
            data = file.read(LARGEST)
        if path.name == PLAIN:
            try:
                return identity.loads(Secret(data.decode()), str(path))
            except UnicodeDecodeError:
                raise PibakeError(f"{path} is damaged: it is no text", "restore it from a copy") from None
        if self.identity_file is None:
            raise PibakeError(
                f"{path} is encrypted, and no key to decrypt it was given",
                "name an age identity or SSH private key with --age-identity or PIBAKE_AGE_IDENTITY",
            )
        return identity.loads(age.decrypt(data, self.identity_file, str(path)), str(path))

    def _write(self, new: Secrets) -> None:
        document = identity.dumps(new)
        if not self.encrypted:
            self._put(PLAIN, document.reveal().encode())
            return
        listed = self.folder / RECIPIENTS
        recipients = listed.read_text("utf-8").splitlines() if listed.exists() else list(self.recipients)
        if not recipients:
            raise PibakeError(f"{listed} names nobody to encrypt to", "pibake secrets encrypt -r RECIPIENT")
        data = age.encrypt(document, recipients)
        if not listed.exists():
            self._put(RECIPIENTS, "".join(f"{line}\n" for line in recipients).encode())
        self._put(ENCRYPTED, data)

    def _put(self, name: str, data: bytes) -> None:
        """Write a file beside its name, wait until it is on the disk, and rename it."""
        part = self.folder / f".{name}.{randomness.token_hex(4)}.part"
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                if os.geteuid() == 0:  # what root does for the folder's owner stays the owner's
                    owner = self.folder.stat()
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                os.fsync(file.fileno())
            part.replace(self.folder / name)
        finally:
            part.unlink(missing_ok=True)
        sync(self.folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder alone, made if it is missing, and swept of what a killed run left."""
        try:
            self.folder.mkdir(mode=0o700)
        except FileExistsError:
            self._refuse_exposed(self.folder)
        with held(self.folder, "identity", Silent()):
            for stale in self.folder.glob(".*.????????.part"):
                stale.unlink(missing_ok=True)
            if not (self.folder / ".gitignore").exists():
                self._put(".gitignore", b"*\n")
            yield

    @staticmethod
    def _refuse_exposed(path: Path, status: os.stat_result | None = None) -> None:
        status = status or path.stat()
        if os.geteuid() not in {status.st_uid, 0}:
            raise PibakeError(
                f"{path} belongs to the user with the number {status.st_uid}, and you are {os.geteuid()}",
                f"run pibake as its owner, or: sudo chown -R {os.geteuid()} {path}",
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            folder = path if stat.S_ISDIR(status.st_mode) else path.parent
            raise PibakeError(
                f"others can read {path} (mode {stat.S_IMODE(status.st_mode):04o}); it holds the cluster's secrets",
                f"chmod -R go= {folder}",
            )
