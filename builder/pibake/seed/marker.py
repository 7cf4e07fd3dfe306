"""The marker of a card: a small file beside the seed that tells whoever reads the card which node it is, and of which build.

Nothing on the node reads it, it holds no secret, and it has no part in the instance-id: the same seed is the same seed on
whatever image it lies.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from pibake import __version__

if TYPE_CHECKING:
    from pibake.plan import NodePlan

MARKER_FILE = "pibake.json"
FORMAT = 1
"""Of the marker: raised when a reader of this one could not make sense of the next."""


@dataclass(frozen=True)
class Origin:
    """What a card is made from: the cluster's name, the base's name and sha256, and that of the image that is copied.

    `golden` is `base_sha256` again where nothing was put into the base's root file system.
    """

    cluster: str
    base: str
    base_sha256: str
    golden: str


@dataclass(frozen=True)
class Marker:
    """What a marker says.

    Attributes:
        pibake: the version that wrote it.
        cluster: the cluster's name.
        hostname: the node's name.
        fqdn: its full name.
        addresses: with prefixes, one or two.
        role: "server" or "agent".
        kubernetes: distribution and release, "k3s v1.31.4+k3s1"; "" on a plain machine.
        instance_id: that of the seed.
        vehicle: what applies the seed on the node: "cloud-init" or "files".
        base: the name of the base image.
        base_sha256: its digest.
        golden_sha256: the digest of the image that was copied.
        source_date_epoch: the time of the build, in Unix time.
    """

    pibake: str
    cluster: str
    hostname: str
    fqdn: str
    addresses: tuple[str, ...]
    role: str
    kubernetes: str
    instance_id: str
    vehicle: str
    base: str
    base_sha256: str
    golden_sha256: str
    source_date_epoch: int


def marker(node: NodePlan, origin: Origin, *, instance_id: str, vehicle: str, epoch: int) -> Marker:
    """Return what the marker of a node's card says."""
    return Marker(
        pibake=__version__,
        cluster=origin.cluster,
        hostname=node.hostname,
        fqdn=node.fqdn,
        addresses=tuple(str(address) for address in node.link.addresses),
        role=node.role,
        kubernetes=release(node),
        instance_id=instance_id,
        vehicle=vehicle,
        base=origin.base,
        base_sha256=origin.base_sha256,
        golden_sha256=origin.golden,
        source_date_epoch=epoch,
    )


def release(node: NodePlan) -> str:
    """Return the Kubernetes that a node runs: "k3s v1.31.4+k3s1", or "" on a plain machine."""
    return f"{node.member.kubernetes.distribution} {node.member.kubernetes.version}" if node.member else ""


def write(value: Marker) -> bytes:
    """Return the file's content."""
    return (json.dumps({"format": FORMAT, **asdict(value)}, indent=1) + "\n").encode()


def read(data: bytes) -> Marker:
    """Return what a marker says; keys that are not known here are left out.

    Raises:
        ValueError: it is no marker of this format.
    """
    values = json.loads(data.decode("utf-8"))
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    try:
        known = {field.name: values[field.name] for field in fields(Marker)}
        return Marker(**{**known, "addresses": tuple(map(str, known["addresses"]))})
    except (KeyError, TypeError) as error:
        raise ValueError(f"it lacks {error}") from error
