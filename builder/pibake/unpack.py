"""Images made of delta files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import about
from pibake.image import artifact, bmap, delta
from pibake.image.clone import clone
from pibake.image.extents import allocated

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
    name = f"{path.name.removesuffix('.delta')}.img"
    with about(path.name), cache.lock(f"out-{out.resolve() / name}", progress):
        image = delta.opened(path, cache, progress, golden=golden)
        map_name = f"{path.name.removesuffix('.delta')}.bmap"
        with artifact.workplace(out, name, f"{name}.sha256", map_name) as work:
            final = work.part(name)
            final.touch(mode=0o600, exist_ok=False)
            with progress.task(f"compose {name}", total=allocated(image.base)) as task:
                done = 0

                def on_bytes(count: int) -> None:
                    nonlocal done
                    done += count
                    task.update(done)

                digest = clone(image, final, on_bytes)
            work.part(f"{name}.sha256").write_text(f"{digest}  {name}\n")
            work.part(map_name).write_text(bmap.render(image.pieces, image.length))
            work.publish()
    return Unpacked(out / name, digest)
