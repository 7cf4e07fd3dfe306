"""The cluster as a whole, for what is rendered on each of its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Peer:
    """What every node's templates may say of any node."""

    hostname: str
    fqdn: str
    address: str
    address6: str
    role: str
    board: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Fleet:
    """The whole cluster, as its nodes' templates see it."""

    cluster: str
    domain: str
    nodes: tuple[Peer, ...]
