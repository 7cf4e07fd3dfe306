"""What a person calls something in a registry: REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pibake.errors import PibakeError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_PATTERN = re.compile(
    r"(?P<registry>(?P<host>localhost|\[[0-9A-Fa-f:]+\]|(?=[^/]*[.:])[A-Za-z0-9.-]+)(?::[0-9]{1,5})?)/"
    rf"(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@sha256:(?P<sha256>[0-9a-f]{64}))?"
)
"""Names and tags as in the OCI distribution specification, "Pulling manifests"."""


@dataclass(frozen=True)
class Reference:
    """Where something is: `host` is the registry without its port, `sha256` (hex) is "" unless it was given."""

    registry: str
    host: str
    repository: str
    tag: str
    sha256: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return what is meant by `text`; the tag is "latest" if there is none."""
        match = _PATTERN.fullmatch(text)
        if not match:
            raise PibakeError(
                f"{text!r} is not the name of a repository in a registry",
                "write it like registry.lab.example/pibake/lab:latest: with a dot or a port in the registry, in small letters behind it",
            )
        got = match.groupdict(default="")
        return cls(got["registry"], got["host"], got["repository"], got["tag"] or "latest", got["sha256"])

    @property
    def target(self) -> str:
        """Return what the manifest is asked for by: the digest, or else the tag."""
        return f"sha256:{self.sha256}" if self.sha256 else self.tag

    def __str__(self) -> str:
        name = f"{self.registry}/{self.repository}"
        return f"{name}@sha256:{self.sha256}" if self.sha256 else f"{name}:{self.tag}"
