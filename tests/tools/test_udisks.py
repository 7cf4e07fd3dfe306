"""A card is flashed by somebody who may not open it: the real udisksd asks the real polkitd, and hands it over or does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools.cards import AS_NOBODY, HERE, image, loop, needs_nobody, open_to_all, pibake
from tests.tools.images import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("/usr/libexec/udisks2/udisksd", "/usr/lib/polkit-1/polkitd", "/usr/bin/dbus-daemon")
pytestmark = [
    needs_nobody,
    pytest.mark.skipif(
        not all(Path(path).exists() for path in NEEDED) or not shutil.which("unshare"),
        reason="needs udisks2, polkitd, dbus-daemon and unshare",
    ),
]


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """Make a card that only root can open, in a folder that everybody can read."""
    open_to_all(image(tmp_path / "a.img"))
    (tmp_path / "card").touch()
    os.truncate(tmp_path / "card", 80 * MIB)
    with loop(tmp_path / "card") as device:
        device.chmod(0o600)
        yield device


def flash(device: Path, folder: Path, answer: str) -> subprocess.CompletedProcess[str]:
    argv: list[str | Path] = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "sh",
        HERE / "with_udisks.sh",
    ]
    ours = pibake("flash", folder / "a.img", device, "--yes", prefix=AS_NOBODY, HOME="/nonexistent")
    return subprocess.run(
        [*argv, folder, device, answer, *ours],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
    )


def test_udisks_hands_the_card_over(card: Path, tmp_path: Path) -> None:
    done = flash(card, tmp_path, "YES")
    assert done.returncode == 0, done.stderr
    assert "read back and right" in done.stdout
    assert card.read_bytes()[: 63 * MIB] == (tmp_path / "a.img").read_bytes()[: 63 * MIB]


def test_a_refusal_says_how_else_to_get_permission(card: Path, tmp_path: Path) -> None:
    done = flash(card, tmp_path, "NO")
    assert done.returncode == 1
    assert f"no permission to write {card}, and udisks says: " in done.stderr
    assert "usermod -aG disk" in done.stderr
    assert card.read_bytes() == bytes(80 * MIB)


def test_without_a_system_bus_the_error_says_what_to_do(card: Path, tmp_path: Path) -> None:
    none = {"HOME": "/nonexistent", "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/none"}
    argv = pibake("flash", tmp_path / "a.img", card, "--yes", prefix=AS_NOBODY, **none)
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert "there is no system bus to ask udisks on" in done.stderr
    assert "install udisks2" in done.stderr
