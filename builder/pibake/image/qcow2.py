"""Nodes as qcow2 disks on top of their golden image, for virtual machines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.run import run

if TYPE_CHECKING:
    from pibake.image.composition import Composition


def write(image: Composition, target: Path) -> None:
    """Write a composed image as a qcow2 file whose backing file is the base image, by its full path.

    Raises:
        MissingTool: qemu-img or qemu-io is not there.
        CommandFailed: one of them failed, for example because the disk is full.
    """
    why = "write a qcow2 disk"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.base.absolute())]
    run([*create, target, str(image.length)], why=why)
    with tempfile.TemporaryDirectory(prefix="pibake-") as folder:
        commands: list[str] = []
        for number, patch in enumerate(image.patches):
            source = Path(folder, str(number))
            source.write_bytes(patch.data)
            source.chmod(0o600)
            commands += ["-c", f"write -q -s {source} {patch.offset} {len(patch.data)}"]
        if commands:
            run(["qemu-io", "-f", "qcow2", *commands, target], why=why)
