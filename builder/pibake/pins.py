"""`addons.lock` beside cluster.yaml: what charts, manifests and images of add-ons were when they came first.

    # a comment
    NAME VERSION SHA256

NAME is an add-on's, or the name of an image with its registry; VERSION is a chart's or manifest's version, or an image's tag;
SHA256 (hex) is that of the .tgz, of the manifest, or of what the tag stands for in the registry. People keep it in git: what another
builder gets is what the first one got. What has a digest in the catalogue or in cluster.yaml is not in here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.errors import PibakeError, VerificationError
from pibake.fsys import stamp, write

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.progress import Progress
    from pibake.web import Policy

FILE = "addons.lock"
HEAD = """\
# Written by pibake: the sha256 of each chart, manifest and image of an add-on, as it was when it came first.
# Keep it with cluster.yaml. To take another one on purpose, remove its line.
"""
_LINE = re.compile(r"(?P<name>\S+)\s+(?P<version>\S+)\s+(?P<sha256>[0-9a-f]{64})")


@dataclass
class Pins:
    """The pins of one cluster.

    Attributes:
        path: the file.
        cache: whose lock two runs share.
        progress: where to say what is trusted from now on.
    """

    path: Path
    cache: Cache
    progress: Progress
    _known: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    _stamp: list[int] | None = field(default=None, repr=False)

    def get(self, name: str, version: str) -> str:
        """Return the sha256 that is pinned; "" if none is."""
        if (now := stamp(self.path)) != self._stamp:  # another run may have pinned something
            self._known, self._stamp = self._read(), now
        return self._known.get((name, version), "")

    def settle(self, name: str, version: str, sha256: str, source: str) -> None:
        """Pin what has just come, if nothing is pinned.

        Args:
            name: what it is.
            version: which.
            sha256: its digest (hex).
            source: where it came from.

        Raises:
            VerificationError: something else is pinned.
            PibakeError: the file is damaged, or cannot be written.
        """
        if self.get(name, version) == sha256:
            return
        with self.cache.lock(f"{self.path.absolute()}", self.progress):
            now = self._read()
            if known := now.get((name, version)):
                self.refuse(name, version, known, sha256, source)
            self._write({**now, (name, version): sha256})
        self.progress.say(
            f"{name} {version}: no one vouches for a digest of {source}. It is trusted on first use: {FILE} keeps the "
            f"sha256 {sha256}, and from now on only that one is taken"
        )

    def refuse(self, name: str, version: str, known: str, got: str, source: str) -> None:
        """Raise where what came is not what is pinned."""
        if known != got:
            raise VerificationError(
                f"{name} {version} from {source}", expected=known, got=got, source=str(self.path),
                hint="it is another one than at its first use, under the old version. If whoever publishes it says why, "
                f"remove the line `{name} {version} ...` from {self.path.name}, and run this again",
            )  # fmt: skip

    def _read(self) -> dict[tuple[str, str], str]:
        try:
            lines = self.path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise PibakeError(f"{self.path} cannot be read: {error}", "restore it from git") from error
        found = {}
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            match = _LINE.fullmatch(text)
            if not match or (match["name"], match["version"]) in found:
                raise PibakeError(
                    f"{self.path}:{number}: {'this is pinned twice' if match else 'this is no line of a lock file'}",
                    "a line is `NAME VERSION SHA256`, each once; a merge that went wrong is mended by removing both lines",
                )
            found[match["name"], match["version"]] = match["sha256"]
        return found

    def _write(self, pins: dict[tuple[str, str], str]) -> None:
        lines = [f"{name} {version} {sha256}\n" for (name, version), sha256 in sorted(pins.items())]
        try:
            write(self.path, HEAD + "".join(lines))
            if os.geteuid() == 0:  # what root does for the folder's owner stays the owner's
                owner = self.path.parent.stat()
                os.chown(self.path, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise PibakeError(
                f"{self.path} cannot be written: {error.strerror}",
                "what nobody vouches for is pinned there: run `pibake build` of the first server once as the owner of that folder",
            ) from error


@dataclass(frozen=True)
class Downloads:
    """What all downloads of one cluster's add-ons share: where digests are pinned, and where things are kept and shown."""

    pins: Pins
    cache: Cache
    progress: Progress
    policy: Policy | None = None
