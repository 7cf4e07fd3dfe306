"""What a program or shared library says it needs to run."""

from __future__ import annotations

import io
from dataclasses import dataclass

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from pibake.errors import ImageError


@dataclass(frozen=True)
class Needs:
    """The dynamic loader a program names (PT_INTERP; "" in a library), and the libraries it asks for (DT_NEEDED)."""

    loader: str
    libraries: tuple[str, ...]


def needs(data: bytes, name: str) -> Needs:
    """Return what the ELF file `data` needs; `name` is for errors.

    Raises:
        ImageError: it is no ELF file.
    """
    loader, libraries = "", []
    try:
        for segment in ELFFile(io.BytesIO(data)).iter_segments():
            if isinstance(segment, InterpSegment):
                loader = segment.get_interp_name()
            elif isinstance(segment, DynamicSegment):
                tags = segment.iter_tags("DT_NEEDED")
                libraries += [tag.needed for tag in tags]  # type: ignore[attr-defined]  # of this kind of tag
    except ELFError as error:
        raise ImageError(f"/{name} is no program or library that can be read: {error}") from error
    return Needs(loader, tuple(libraries))
