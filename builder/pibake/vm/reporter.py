"""What a test boot adds to a card, in the copy of the initramfs that QEMU gets: the program that reports.

The card itself stays as it is, and nothing on the node has to help: whatever initramfs-tools or dracut made, and
whether cloud-init is there or not, systemd finds a unit below /run when it takes over.
"""

from __future__ import annotations

from pibake import resources
from pibake.image import cpio
from pibake.tree import File, Tree

INIT = "/pibake/init"
"""The program that the kernel starts instead of /init (its parameter `rdinit=`)."""


def add(initramfs: bytes, *, patience: float, vehicle: str, rules: str = "") -> bytes:
    """Return an initramfs with the reporter in front of it: none of the files in it is replaced.

    Args:
        initramfs: what the image boots with, plain or compressed.
        patience: seconds a node may wait for others before it reports that it does.
        vehicle: what applies the seed on the node, `cloud-init` or `files`.
        rules: udev rules for the root file system, of this boot alone.
    """
    unit = resources.render("cloud-init/report/pibake-report.service.j2", patience=patience, vehicle=vehicle)
    files = Tree(
        {
            "pibake/init": File(_data("init"), 0o755),
            "pibake/place": File(_data("place"), 0o755),
            "pibake/run/pibake-report/report.py": File(_data("report.py")),
            "pibake/run/pibake-report/start": File(_data("start")),
            "pibake/run/udev/rules.d/70-pibake-boot.rules": File(rules.encode()),
            "pibake/run/systemd/system/pibake-report.service": File(unit.encode()),
            "pibake/run/systemd/system/sysinit.target.d/pibake-report.conf": File(
                _data("pibake-report.conf")
            ),
        }
    )
    return cpio.join(cpio.pack(files), initramfs)


def _data(name: str) -> bytes:
    return resources.path("cloud-init", "report", name).read_bytes()
