"""Names of container images, as docker and Kubernetes read them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pibake.errors import PibakeError
from pibake.share.reference import Reference

HUB, HUB_HOST = "docker.io", "registry-1.docker.io"
"""Where images are from whose names have no registry, and where that answers."""


@dataclass(frozen=True)
class Name:
    """An image's name.

    Attributes:
        written: as somebody wrote it.
        repository: in full, without tag and digest: `docker.io/library/busybox`.
        reference: where it is.
        known_as: what containerd has to know it by: with its tag, and with its digest where one is written.
    """

    written: str
    repository: str
    reference: Reference
    known_as: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Name:
        """Return what is meant by `[REGISTRY/]NAME[:TAG][@sha256:HEX]`.

        Raises:
            PibakeError: it is no name of an image.
        """
        try:
            found = Reference.parse(_in_full(text))
        except PibakeError:
            raise PibakeError(
                f"{text!r} is not the name of a container image",
                "write it like quay.io/metallb/controller:v0.16.1",
            ) from None
        repository = f"{found.registry}/{found.repository}"
        names = [f"{repository}@sha256:{found.sha256}"] if found.sha256 else []
        if not found.sha256 or ":" in text.partition("@")[0].rpartition("/")[2]:
            names.insert(0, f"{repository}:{found.tag}")
        if found.registry == HUB:
            found = replace(found, registry=HUB_HOST, host=HUB_HOST)
        return cls(text, repository, found, tuple(names))

    @property
    def file_name(self) -> str:
        """What to call an archive of it."""
        return re.sub(r"[^A-Za-z0-9.-]+", "_", self.written) + ".tar"


def _in_full(text: str) -> str:
    """Return a name with its registry: the part before the first slash is one if it has a dot or a port."""
    first, slash, _ = text.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return text.replace("/", "/library/", 1) if first == HUB and text.count("/") == 1 else text
    return f"{HUB}/{text}" if slash else f"{HUB}/library/{text}"
