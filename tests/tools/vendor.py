"""A vendor with signing keys, a catalogue that names it, and the command line pointed at both."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools import command
from tests.tools.httpd import Server
from tests.tools.images import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "demo-1.2.10-arm64.img.xz"
CATALOG = """
vendors:
  demo: {{url: "{url}", key: demo.gpg, fingerprint: {fingerprint}}}
bases:
  demo-1:
    title: A demonstration
    arch: arm64
    boards: [pi4]
    user: pi
    end_of_life: "2099-12-31"
    notes: For tests.
    download:
      vendor: demo
      folder: releases/
      file: "demo-1*-arm64.img.xz"
      proof: {{sums: SHA256SUMS, signature: SHA256SUMS.gpg}}
"""


class Keys:
    """Signing keys in a folder of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def gpg(self, *arguments: str | Path, data: bytes = b"") -> bytes:
        return tool(
            "gpg", "--homedir", self.home, "--batch", "--quiet", "--passphrase", "", *arguments, data=data
        )

    def make(self, name: str, *, at: str = "", expires: str = "never") -> str:
        """Make a key, as if at another time if asked to, and return its fingerprint."""
        then = ("--faked-system-time", at) if at else ()
        self.gpg(*then, "--quick-generate-key", name, "ed25519", "sign", expires)
        listed = self.gpg("--list-keys", "--with-colons", name).decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def sign(self, data: bytes, key: str, *, at: str = "") -> bytes:
        then = ("--faked-system-time", at) if at else ()
        return self.gpg(*then, "--local-user", key, "--armor", "--detach-sign", data=data)

    def clearsign(self, data: bytes, key: str, *, at: str = "") -> bytes:
        then = ("--faked-system-time", at) if at else ()
        return self.gpg(*then, "--local-user", key, "--clear-sign", data=data)

    def revoke(self, key: str) -> None:
        """Publish the revocation that gpg made along with the key."""
        text = (self.home / "openpgp-revocs.d" / f"{key}.rev").read_text()
        self.gpg("--import", data=text.replace(":-----BEGIN", "-----BEGIN").encode())

    def export(self, *keys: str) -> bytes:
        return self.gpg("--export", *keys)


@contextmanager
def keyring() -> Iterator[Keys]:
    """Make an empty keyring; its agent is ended afterwards."""
    # In /tmp itself: the agent's socket must have a path of at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="gpg", dir="/tmp", ignore_cleanup_errors=True) as name:
        try:
            yield Keys(Path(name))
        finally:
            tool("gpgconf", "--homedir", name, "--kill", "all")


@dataclass
class Shop:
    """A vendor's server, and a person's empty cache."""

    server: Server
    folder: Path
    image: bytes = field(repr=False)
    packed: bytes = field(repr=False)
    keys: Keys
    key: str

    @property
    def cache(self) -> Path:
        return self.folder / "cache" / "pibake"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIBAKE_")},
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PIBAKE_CATALOG": str(self.folder / "catalog.yaml"),
            "REQUESTS_CA_BUNDLE": str(self.server.certificate or ""),
        }

    def publish(self, name: str = FILE, *, sums: str = "", signature: bytes = b"") -> None:
        """Put the image, the list of digests and its signature on the server."""
        self.server.add(f"releases/{name}", self.packed)
        listed = (sums or f"{hashlib.sha256(self.packed).hexdigest()} *{name}\n").encode()
        self.server.add("releases/SHA256SUMS", listed)
        self.server.add("releases/SHA256SUMS.gpg", signature or self.keys.sign(listed, self.key))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a real process."""
        argv = [sys.executable, "-m", "pibake", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command.run(*arguments, env=self.environment)

    def assert_sound(self) -> None:
        """Check that nothing half-made has a final name, and that pibake says the same of its cache."""
        for path in (self.cache / "images" / "sha256").glob("[!.]*"):
            assert re.fullmatch(r"[0-9a-f]{64}\.(img|json)", path.name), path
            if path.suffix == ".img":
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
        verified = self.run("base", "verify")
        assert verified.returncode == 0, verified.stderr

    def assert_pulled(self) -> None:
        """Check that a pull succeeds now and gives the right image."""
        pulled = self.run("base", "pull", "demo-1")
        assert pulled.returncode == 0, pulled.stderr
        assert hashlib.sha256(self.image).hexdigest() in pulled.stdout
        self.assert_sound()


@contextmanager
def shop(folder: Path, keys: Keys, key: str, image: bytes, packed: bytes) -> Iterator[Shop]:
    """Open a vendor's server, and write the catalogue that points at it."""
    (folder / "keys").mkdir()
    (folder / "keys" / "demo.gpg").write_bytes(keys.export(key))
    with Server() as server:
        (folder / "catalog.yaml").write_text(CATALOG.format(url=server.url, fingerprint=key))
        yield Shop(server, folder, image, packed, keys, key)
