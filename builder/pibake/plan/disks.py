"""Data disks, and what they are known by."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True)
class Disk:
    """A data disk of a node's: where it is, what becomes of it, and what it is known by.

    Attributes:
        device: the whole disk, below /dev; once it is made, its `partition` says which it is.
        mount: the folder it is mounted on.
        filesystem: "ext4", "xfs" or "btrfs".
        label: its name, and its file system's.
        identity: "CLUSTER/HOSTNAME/LABEL", which the UUIDs are derived from: the same disk of the same node has the same ones.
    """

    device: str
    mount: str
    filesystem: str
    label: str
    identity: str

    @property
    def table(self) -> str:
        """The UUID of its partition table (UEFI specification, GPT header, DiskGUID)."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"pibake:table:{self.identity}"))

    @property
    def partition(self) -> str:
        """The UUID of its one partition (UEFI specification, GPT partition entry, UniquePartitionGUID)."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"pibake:partition:{self.identity}"))


def disk_json(disk: Disk) -> dict[str, str]:
    """Return a data disk as JSON values, with the UUIDs it is known by."""
    return {**vars(disk), "table": disk.table, "partition": disk.partition}
