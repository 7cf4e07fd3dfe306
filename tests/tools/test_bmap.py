"""Block maps: what pibake writes, bmaptool accepts; what bmaptool writes, pibake reads; and nothing else."""

from __future__ import annotations

import hashlib
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.tools.cards import image
from tests.tools.images import MIB, tool

from pibake.errors import ImageError, PibakeError, VerificationError
from pibake.flash.source import image_file
from pibake.image import bmap, pieces
from pibake.image.pieces import Piece
from pibake.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path


def rechecked(text: str) -> str:
    """Return a changed block map with a right checksum of itself."""
    given = text.split("<BmapFileChecksum>")[1].split("<", maxsplit=1)[0].strip()
    blank = text.replace(given, "0" * 64)
    return blank.replace("0" * 64, hashlib.sha256(blank.encode()).hexdigest())


@pytest.mark.parametrize("length", [64 * MIB, 64 * MIB - 512])
def test_bmaptool_copies_with_a_map_of_ours(tmp_path: Path, length: int) -> None:
    source = image(tmp_path / "a.img", noise=14 * MIB)
    with source.open("r+b") as file:
        file.truncate(length)
    (tmp_path / "a.bmap").write_text(bmap.render(pieces.measure(source), length))
    tool("bmaptool", "-q", "copy", "--bmap", tmp_path / "a.bmap", source, tmp_path / "b.img")
    assert (tmp_path / "b.img").read_bytes() == source.read_bytes()


def test_bmaptool_refuses_an_image_that_is_not_the_maps(tmp_path: Path) -> None:
    source = image(tmp_path / "a.img")
    (tmp_path / "a.bmap").write_text(bmap.render(pieces.measure(source), 64 * MIB))
    with source.open("r+b") as file:
        file.seek(51 * MIB)
        file.write(b"changed")
    argv: list[str | Path] = ["bmaptool", "copy", "--bmap", tmp_path / "a.bmap", source, tmp_path / "b.img"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode
    assert "checksum" in done.stderr


@pytest.mark.parametrize("kind", ["sha256", "sha1"])
def test_a_map_of_bmaptools_is_read(tmp_path: Path, kind: str) -> None:
    source = image(tmp_path / "a.img")
    made = tmp_path / "a.bmap"
    made.write_bytes(tool("bmaptool", "-q", "create", source))
    if kind == "sha1":
        made.write_text(as_version_1_3(made.read_text(), source.read_bytes()))
    found = bmap.read(made)
    bmap.check(found, source)
    assert found.kind == kind
    ours = [(piece.start, piece.end) for piece in image_file(source, Silent()).pieces]
    for each in found.ranges:  # what is no hole may be cut into several pieces, and is mapped whole
        inside = [(max(a, each.start), min(b, each.end)) for a, b in ours if b > each.start and a < each.end]
        assert sum(end - start for start, end in inside) == each.end - each.start


def as_version_1_3(text: str, data: bytes) -> str:
    """Return a block map as bmap-tools 2.6 wrote it: sha1 instead of sha256, and other names."""
    parsed = re.findall(r'chksum="(\w+)"> (\d+)(?:-(\d+))? <', text)
    for old, first, last in parsed:
        piece = data[int(first) * 4096 : (int(last or first) + 1) * 4096]
        text = text.replace(old, hashlib.sha1(piece, usedforsecurity=False).hexdigest())
    given = text.split("<BmapFileChecksum>")[1].split("<")[0].strip()
    text = re.sub(r"\s*<ChecksumType>.*?</ChecksumType>", "", text)
    text = text.replace("chksum=", "sha1=").replace("BmapFileChecksum", "BmapFileSHA1")
    text = text.replace('version="2.0"', 'version="1.3"').replace(given, "0" * 40)
    return text.replace("0" * 40, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def test_an_old_map_is_compared_with_the_image_before_anything_is_written(tmp_path: Path) -> None:
    source = image(tmp_path / "a.img")
    text = tool("bmaptool", "-q", "create", source).decode()
    (tmp_path / "a.img.bmap").write_text(as_version_1_3(text, source.read_bytes()))
    with source.open("r+b") as file:
        file.seek(51 * MIB)
        file.write(b"changed")
    with pytest.raises(VerificationError, match=r"a\.img, bytes \d+ to \d+, does not match"):
        image_file(source, Silent())


def test_what_is_rendered_is_read_back(tmp_path: Path) -> None:
    source = image(tmp_path / "a.img")
    measured = pieces.measure(source)
    (tmp_path / "x.bmap").write_text(bmap.render(measured, 64 * MIB))
    found = bmap.read(tmp_path / "x.bmap")
    assert (found.pieces(), found.length) == (measured, 64 * MIB)


PIECES = (Piece(0, 8192, "a" * 64), Piece(MIB, 2 * MIB, "b" * 64))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("> 0-1 <", "> 300 <", "ranges out of order"),
        ("> 0-1 <", "> 1-0 <", "ranges out of order"),
        ("> 256-511 <", "> 256-5110 <", "behind the image's end"),
        ("> 256-511 <", "> 256-510 <", "lists 257"),
        ("> 256-511 <", "> x <", "has a range 'x'"),
        ("<BlocksCount> 1024 <", "<BlocksCount> 1025 <", "1025 blocks of 4096 bytes make 4194304 bytes"),
        ("<BlockSize> 4096 <", "<BlockSize> 0 <", "blocks of 0 bytes"),
        ("<ImageSize> 4194304 <", "<ImageSize> -1 <", "'-1' as ImageSize"),
        ("b" * 64, "b" * 63, "where a sha256 should be"),
        ("> sha256 <", "> crc32 <", "checksums of the kind 'crc32'"),
        ('version="2.0"', 'version="3.0"', "has version 3.0; pibake reads 1.3, 1.4, 2.0"),
        ("<BlockSize> 4096 </BlockSize>", "", "lacks BlockSize"),
        ("<BlockSize>", "<BlockSize> 1 </BlockSize><BlockSize>", "two elements BlockSize"),
        ("</bmap>", "", "is no XML"),
        ("<bmap ", '<!DOCTYPE bmap [<!ENTITY a "aaaa">]><bmap ', "declares a document type"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused_by_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = bmap.render(PIECES, 4 * MIB)
    assert old in text
    (tmp_path / "x.bmap").write_text(rechecked(text.replace(old, new)))
    with pytest.raises(ImageError, match=re.escape(message)) as caught:
        bmap.read(tmp_path / "x.bmap")
    assert str(tmp_path / "x.bmap") in str(caught.value)


def test_a_map_whose_checksum_of_itself_is_wrong_is_refused(tmp_path: Path) -> None:
    text = bmap.render(PIECES, 4 * MIB)
    (tmp_path / "x.bmap").write_text(text.replace("a" * 64, "c" * 64))
    with pytest.raises(VerificationError, match=r"x\.bmap does not match"):
        bmap.read(tmp_path / "x.bmap")


def test_a_map_of_another_image_is_refused(tmp_path: Path) -> None:
    source = image(tmp_path / "a.img")
    (tmp_path / "a.bmap").write_text(bmap.render(PIECES, 4 * MIB))
    with pytest.raises(PibakeError, match="is the map of an image of 4194304 bytes"):
        image_file(source, Silent())


def test_a_map_without_checksums_is_not_written() -> None:
    with pytest.raises(ValueError, match="no range"):
        bmap.render([Piece(0, 4096, "")], 4096)
