"""Images made of delta files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import about
from pibake.image import artifact, bmap, delta, pieces
from pibake.image.clone import clone
from pibake.progress import Meter

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.progress import Progress


@dataclass(frozen=True)
class Unpacked:
    """An image made of a delta: where it is, and its sha256 (hex)."""

    image: Path
    sha256: str


def unpack(
    path: Path, *, out: Path, cache: Cache, progress: Progress, golden: Path | None = None
) -> Unpacked:
    """Make the .img of a delta file, the same bytes as `pibake build` makes.

    Args:
        path: the delta.
        out: folder for the image; made if missing.
        cache: where its golden image is.
        progress: where to show what is going on.
        golden: a file to take as the golden image instead.

    Raises:
        PibakeError: the delta is damaged, its golden image is missing or another one, or there is no room.
    """
    stem = path.name.removesuffix(".delta")
    name, map_name = f"{stem}.img", f"{stem}.bmap"
    with about(path.name), cache.lock(f"out-{out.resolve() / name}", progress):
        image = delta.opened(path, cache, progress, golden=golden)
        with artifact.workplace(out, name, f"{name}.sha256", map_name) as work:
            final = work.part(name)
            final.touch(mode=0o600, exist_ok=False)
            with progress.task(f"compose {name}", total=pieces.volume(image.pieces)) as task:
                digest = clone(image, final, Meter(task).add)
            work.part(f"{name}.sha256").write_text(f"{digest}  {name}\n")
            work.part(map_name).write_text(bmap.render(image.pieces, image.length))
            work.publish()
    return Unpacked(out / name, digest)
