"""The mapped ranges of an image, cut into pieces with a digest each."""

from __future__ import annotations

from dataclasses import dataclass

PIECE = 1 << 20
"""Pieces are cut at multiples of this many bytes."""


@dataclass(frozen=True)
class Piece:
    """One mapped range of an image, cut at multiples of PIECE: bytes `start` up to, not including, `end`.

    Both are multiples of 4096 (or the image's end). `sha256` is that of these bytes in hex, or "" if not known yet.
    """

    start: int
    end: int
    sha256: str
