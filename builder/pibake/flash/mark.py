"""The mark of an unfinished card: what its first block holds while an image is being written.

It is the journal, kept on the card itself: a card that was swapped in the reader, written elsewhere or never written has not
got it, and a card that has it goes on in any reader of any computer. It is no partition table and no file system, so that
nothing mounts or boots the card. The last write of a flash puts the image's own first block in its place.

Line 1 says what this is, line 2 is JSON (`image`: what identifies the image, `synced`: bytes that are written and synced), line 3 the
sha256 of the first two. All of it is shorter than a sector, which a card writes whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

SIZE = 4096
"""Bytes of the block that holds the mark."""
TITLE = b"pibake is writing an image here; run `pibake flash` again to finish\n"


@dataclass(frozen=True)
class Mark:
    """How far an image is written: all its bytes before `synced` are on the medium."""

    image: str
    synced: int

    def encode(self) -> bytes:
        """Return the block that says so."""
        text = TITLE + json.dumps({"image": self.image, "synced": self.synced}).encode() + b"\n"
        return (text + hashlib.sha256(text).hexdigest().encode() + b"\n").ljust(SIZE, b"\0")


def decode(block: bytes) -> Mark | None:
    """Return the mark in a first block; None if there is none, or half of one."""
    text, found, _ = block.rpartition(b"}\n")
    if not block.startswith(TITLE) or not found:
        return None
    text += found
    if block[len(text) :][:64] != hashlib.sha256(text).hexdigest().encode():
        return None
    facts = json.loads(text[len(TITLE) :])
    return Mark(facts["image"], facts["synced"])
