"""Block maps of images (`.bmap`): which blocks hold data, with a checksum for each range.

The format is that of bmap-tools, as its documentation and the comments in its files describe it: XML with the image's
size, the size of a block, the mapped ranges of blocks (`a-b`, both inclusive) and a checksum of the file itself, made with
64 zeros (40 for sha1) in its own place. 1.3 has sha1 only; 2.0 names the kind of checksum; 1.4 is 2.0 under a wrong number.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

from pibake.errors import ImageError, VerificationError
from pibake.image.pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BLOCK = 4096
VERSIONS = ("1.3", "1.4", "2.0")
DIGITS = {"sha1": 40, "sha256": 64, "sha512": 128}
LARGEST = 64 << 20
"""Bytes of the longest block map that is read: enough for a terabyte in ranges of 64 KiB."""
AGAIN = "get the .bmap again, or remove it to do without"
RANGE = re.compile(r"\s*([0-9]{1,15})(?:\s*-\s*([0-9]{1,15}))?\s*")


@dataclass(frozen=True)
class Range:
    """A mapped range: bytes `start` up to, not including, `end`; `checksum` (hex) is "" where the file has none."""

    start: int
    end: int
    checksum: str


@dataclass(frozen=True)
class Bmap:
    """A block map: the image's length in bytes, its mapped ranges in order, and the kind of their checksums."""

    length: int
    ranges: tuple[Range, ...]
    kind: str

    def pieces(self) -> tuple[Piece, ...]:
        """Return the ranges as pieces; their sha256 is "" if the map has another kind of checksum."""
        return tuple(
            Piece(each.start, each.end, each.checksum if self.kind == "sha256" else "")
            for each in self.ranges
        )


def render(pieces: Sequence[Piece], length: int) -> str:
    """Return the block map (version 2.0) of an image of `length` bytes, with one range for each piece.

    Every piece needs its digest: what is written without one would not be checked by `bmaptool copy`.
    """
    mapped = sum(-(-piece.end // BLOCK) - piece.start // BLOCK for piece in pieces)
    ranges = "\n".join(f"        {_range(piece)}" for piece in pieces)
    blank = "0" * DIGITS["sha256"]
    text = f"""<?xml version="1.0" encoding="UTF-8"?>
<bmap version="2.0">
    <ImageSize> {length} </ImageSize>
    <BlockSize> {BLOCK} </BlockSize>
    <BlocksCount> {-(-length // BLOCK)} </BlocksCount>
    <MappedBlocksCount> {mapped} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> {blank} </BmapFileChecksum>
    <BlockMap>
{ranges}
    </BlockMap>
</bmap>
"""
    return text.replace(blank, hashlib.sha256(text.encode()).hexdigest(), 1)


def _range(piece: Piece) -> str:
    if piece.start % BLOCK or not piece.sha256:
        raise ValueError(f"{piece} is no range of a block map")
    first, last = piece.start // BLOCK, -(-piece.end // BLOCK) - 1
    blocks = f"{first}-{last}" if last > first else f"{first}"
    return f'<Range chksum="{piece.sha256}"> {blocks} </Range>'


def read(path: Path) -> Bmap:
    """Return the block map in a file.

    Raises:
        ImageError: it is no block map of a version pibake knows, or contradicts itself.
        VerificationError: its checksum of itself is wrong.
    """
    data = path.read_bytes()
    if len(data) > LARGEST:
        raise ImageError(f"{path} is {len(data)} bytes long, which no block map is", AGAIN)
    return _Reading(path, data).bmap()


@dataclass
class _Reading:
    """A block map as it is read: the text of each element, and the ranges."""

    path: Path
    data: bytes
    version: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    found: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def bmap(self) -> Bmap:
        self._parse()
        if self.version not in VERSIONS:
            self._no(f"has version {self.version or '(none)'}; pibake reads {', '.join(VERSIONS)}")
        kind = "sha1" if self.version == "1.3" else self._text("ChecksumType").lower()
        if kind not in DIGITS:
            self._no(f"has checksums of the kind {kind!r}; pibake knows {', '.join(DIGITS)}")
        self._check_itself(kind)
        length, block = self._number("ImageSize"), self._number("BlockSize")
        if block < 512 or block % 512:
            self._no(f"has blocks of {block} bytes")
        if self._number("BlocksCount") != -(-length // block):
            self._no(f"says {self._number('BlocksCount')} blocks of {block} bytes make {length} bytes")
        ranges = self._ranges(length, block, kind)
        mapped = sum(-(-each.end // block) - each.start // block for each in ranges)
        if mapped != self._number("MappedBlocksCount"):
            self._no(f"says {self._number('MappedBlocksCount')} blocks are mapped, and lists {mapped}")
        return Bmap(length, ranges, kind)

    def _parse(self) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._characters
        parser.EndElementHandler = self._end
        parser.buffer_text = True
        try:
            parser.Parse(self.data, True)
        except expat.ExpatError as error:
            self._no(f"is no XML: {error}")
        except (UnicodeError, LookupError, ValueError) as error:
            self._no(f"cannot be read as text: {error}")

    def _doctype(self, *_: object) -> NoReturn:
        self._no("declares a document type, which block maps never do")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name)
        path = "/".join(self._open)
        if path == "bmap":
            self.version = attributes.get("version", "")
        elif path == "bmap/BlockMap/Range":
            self.found.append(("", attributes))
        elif len(self._open) == 2 and name in self.texts:
            self._no(f"has two elements {name}")
        elif len(self._open) == 2:
            self.texts[name] = ""

    def _characters(self, text: str) -> None:
        if self._open == ["bmap", "BlockMap", "Range"]:
            self.found[-1] = (self.found[-1][0] + text, self.found[-1][1])
        elif len(self._open) == 2:
            self.texts[self._open[1]] += text

    def _end(self, _: str) -> None:
        self._open.pop()

    def _check_itself(self, kind: str) -> None:
        given = self._text("BmapFileSHA1" if self.version == "1.3" else "BmapFileChecksum")
        if not re.fullmatch(rf"[0-9a-fA-F]{{{DIGITS[kind]}}}", given):
            self._no(f"has {given!r} where a {kind} should be")
        blanked = self.data.replace(given.encode(), b"0" * len(given), 1)
        got = hashlib.new(kind, blanked).hexdigest()
        if got != given.lower():
            raise VerificationError(
                f"the block map {self.path}", expected=given, got=got, source="the file itself", hint=AGAIN
            )

    def _ranges(self, length: int, block: int, kind: str) -> tuple[Range, ...]:
        attribute = "sha1" if self.version == "1.3" else "chksum"
        ranges: list[Range] = []
        for text, attributes in self.found:
            match = RANGE.fullmatch(text)
            if not match:
                self._no(f"has a range {text.strip()!r}")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first or first * block < (ranges[-1].end if ranges else 0):
                self._no(f"has its ranges out of order at {text.strip()}")
            if last * block >= length:
                self._no(f"maps block {last}, which is behind the image's end at byte {length}")
            checksum = attributes.get(attribute, "").strip().lower()
            if checksum and not re.fullmatch(rf"[0-9a-f]{{{DIGITS[kind]}}}", checksum):
                self._no(f"has {checksum!r} where a {kind} should be")
            ranges.append(Range(first * block, min((last + 1) * block, length), checksum))
        return tuple(ranges)

    def _text(self, name: str) -> str:
        if name not in self.texts:
            self._no(f"lacks {name}")
        return self.texts[name].strip()

    def _number(self, name: str) -> int:
        text = self._text(name)
        if not re.fullmatch(r"[0-9]{1,18}", text):
            self._no(f"has {text!r} as {name}")
        return int(text)

    def _no(self, what: str) -> NoReturn:
        raise ImageError(f"the block map {self.path} {what}", AGAIN)


def check(bmap: Bmap, image: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
    """Read the mapped ranges of an image, and compare them with a map's checksums.

    `on_bytes` is told how many bytes have been read.

    Raises:
        VerificationError: a range has another checksum.
        ImageError: the image ends before it.
    """
    done = 0
    buffer = memoryview(bytearray(1 << 20))
    with image.open("rb", buffering=0) as file:
        for each in bmap.ranges:
            own = hashlib.new(bmap.kind)
            file.seek(each.start)
            position = each.start
            while position < each.end:
                count = file.readinto(buffer[: min(len(buffer), each.end - position)])
                if not count:
                    raise ImageError(f"{image} ended at byte {position}, within a range of its block map")
                own.update(buffer[:count])
                position += count
                done += count
                on_bytes(done)
            if each.checksum and own.hexdigest() != each.checksum:
                raise VerificationError(
                    f"{image}, bytes {each.start} to {each.end},", expected=each.checksum, got=own.hexdigest(),
                    source="its block map", hint="get the image again",
                )  # fmt: skip
