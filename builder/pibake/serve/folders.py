"""Where `pibake serve` keeps what: a folder beside cluster.yaml, of which boards see two parts only.

golden/NAME.img          golden images, exported to all nodes, read-only; NAME.json says what is in each
tftp/                    what TFTP serves: .golden/NAME/ per golden image, and a folder of links for each board
nodes/HOSTNAME/export/   a node's own files, exported to it alone: boot/ is its boot partition, state.img its ext4
nodes/HOSTNAME/disk.qcow2   its disk, with `root: nbd`
nodes/HOSTNAME/node.json    what it boots from
rack.sqlite              what boards and nodes have done (`rack.ledger`)
run/                     the engines' own files
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAME = "netboot"


@dataclass(frozen=True)
class Folders:
    """The folder and its parts."""

    root: Path

    @property
    def golden(self) -> Path:
        """Golden images."""
        return self.root / "golden"

    @property
    def tftp(self) -> Path:
        """The root of the TFTP server."""
        return self.root / "tftp"

    @property
    def run(self) -> Path:
        """The engines' own files."""
        return self.root / "run"

    def eeprom(self, generation: str) -> Path:
        """What boards of a netboot generation (`boards.NETBOOT`), such as "eeprom-2711", update their EEPROM from."""
        return self.root / "eeprom" / generation.removeprefix("eeprom-")

    def node(self, hostname: str) -> Path:
        """What belongs to one node."""
        return self.root / "nodes" / hostname

    def make(self) -> None:
        """Make the folders. Seeds hold secrets: what is of nodes is closed to everybody else on this host."""
        for folder, mode in ((self.root, 0o755), (self.golden, 0o755), (self.tftp, 0o755), (self.run, 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        (self.root / "nodes").mkdir(mode=0o700, exist_ok=True)
