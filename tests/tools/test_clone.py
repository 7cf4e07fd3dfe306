from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from pibake.image.clone import Copy, allocated, extents

if TYPE_CHECKING:
    from pathlib import Path


def sparse(path: Path, *pieces: tuple[int, bytes], length: int) -> Path:
    with path.open("wb") as file:
        file.truncate(length)
        for position, data in pieces:
            os.pwrite(file.fileno(), data, position)
    return path


@pytest.mark.parametrize("length", [0, 1, 4096, (64 << 20) + 17])
@pytest.mark.parametrize("head", [0, 1 << 20, 5 << 20, 1 << 30])
def test_the_copy_has_the_same_bytes_and_the_digest_is_that_of_the_file(
    tmp_path: Path, length: int, head: int
) -> None:
    pieces = [(0, b"start"), (4 << 20, os.urandom(3 << 20)), (60 << 20, os.urandom(100_000))]
    source = sparse(tmp_path / "a", *(p for p in pieces if p[0] + len(p[1]) < length), length=length)
    copy = Copy(source, tmp_path / "b")
    copy.head(min(head, length))
    digest = copy.rest()
    assert (tmp_path / "b").read_bytes() == source.read_bytes()
    assert digest == hashlib.sha256(source.read_bytes()).hexdigest()


def test_what_is_changed_in_the_head_is_in_the_digest(tmp_path: Path) -> None:
    source = sparse(tmp_path / "a", (0, b"a" * 4096), (8 << 20, b"b" * 4096), length=16 << 20)
    copy = Copy(source, tmp_path / "b")
    copy.head(4 << 20)
    with (tmp_path / "b").open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"seed")
    assert copy.rest() == hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest()
    assert source.read_bytes()[2 << 20 : (2 << 20) + 4] == bytes(4)


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = sparse(tmp_path / "a", (100 << 20, b"x" * 4096), length=1 << 30)
    copy = Copy(source, tmp_path / "b")
    copy.head(1 << 20)
    copy.rest()
    assert (tmp_path / "b").stat().st_size == 1 << 30
    assert allocated(tmp_path / "b") <= allocated(source)


def test_extents_are_the_ranges_with_data(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", (1 << 20, b"x" * 8192), (4 << 20, b"y" * 4096), length=8 << 20)
    with path.open("rb") as file:
        found = list(extents(file.fileno(), 0, 8 << 20))
        assert found == [(1 << 20, (1 << 20) + 8192), (4 << 20, (4 << 20) + 4096)]
        assert list(extents(file.fileno(), (1 << 20) + 4096, 2 << 20)) == [
            ((1 << 20) + 4096, (1 << 20) + 8192)
        ]
