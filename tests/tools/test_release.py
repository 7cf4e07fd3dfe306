"""k3s' downloads against a server that misbehaves: only what the release's list vouches for comes into the cache."""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING

import pytest
from tests.tools.httpd import Break, Server, Status

from pibake import release
from pibake.cache import Cache
from pibake.errors import FetchError, PibakeError, VerificationError
from pibake.progress import Silent
from pibake.release import BINARY, IMAGES, SUMS
from pibake.web import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = "v1.31.4+k3s1"
FOLDER = "mirror/v1.31.4%2Bk3s1"
HURRY = Policy(attempts=3, backoff=0.01, longest=0.1, connect=2, read=1)


def elf(machine: int = 183, size: int = 300_000) -> bytes:
    """Return what begins like an executable for a 64-bit little-endian machine."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + os.urandom(size)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("PIBAKE_K3S_URL", f"{server.url}mirror")
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def publish(server: Server, **assets: bytes) -> dict[str, bytes]:
    """Serve a release; a key of `assets` is `binary` or `images`."""
    files = {BINARY: assets.get("binary", elf()), IMAGES: assets.get("images", os.urandom(200_000))}
    for name, data in files.items():
        server.add(f"{FOLDER}/{name}", data)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    server.add(f"{FOLDER}/{SUMS}", sums.encode())
    return files


def get(cache: Cache, *names: str) -> list[bytes]:
    return [asset.path.read_bytes() for asset in release.k3s(VERSION, names, cache, Silent(), HURRY)]


def test_assets_come_from_the_mirror_once(server: Server, cache: Cache) -> None:
    files = publish(server)
    assert get(cache, BINARY, IMAGES) == [files[BINARY], files[IMAGES]]
    server.files.clear()
    asset = release.k3s(VERSION, (BINARY,), cache, Silent(), HURRY)[0]
    assert asset.sha256 == hashlib.sha256(files[BINARY]).hexdigest()
    assert len(server.asked(f"{FOLDER}/{BINARY}")) == len(server.asked(f"{FOLDER}/{SUMS}")) == 1


def test_only_what_is_asked_for_is_downloaded(server: Server, cache: Cache) -> None:
    publish(server)
    get(cache, BINARY)
    assert not server.asked(f"{FOLDER}/{IMAGES}")


def test_a_download_that_breaks_goes_on_where_it_ended(server: Server, cache: Cache) -> None:
    data = publish(server)[BINARY]
    server.add(f"{FOLDER}/{BINARY}", data, Break(200_000), Status(503))
    assert get(cache, BINARY) == [data]
    assert server.asked(f"{FOLDER}/{BINARY}")[-1].headers["Range"].startswith("bytes=")


def test_a_file_that_is_not_the_listed_one_is_refused_and_not_kept(server: Server, cache: Cache) -> None:
    publish(server)
    server.add(f"{FOLDER}/{BINARY}", elf())
    with pytest.raises(
        VerificationError, match=r"sha256 of .*k3s-arm64 does not match: expected .*sha256sum-arm64"
    ):
        get(cache, BINARY)
    kept = [path.name for path in cache.root.rglob("*") if path.is_file() and "lock" not in path.name]
    assert not kept


def test_a_cached_file_that_was_touched_is_read_again_and_fetched_anew(server: Server, cache: Cache) -> None:
    files = publish(server)
    asset = release.k3s(VERSION, (BINARY,), cache, Silent(), HURRY)[0]
    os.utime(asset.path)
    assert get(cache, BINARY) == [files[BINARY]]
    assert len(server.asked(f"{FOLDER}/{BINARY}")) == 1
    asset.path.write_bytes(b"damage")
    assert get(cache, BINARY) == [files[BINARY]]
    assert len(server.asked(f"{FOLDER}/{BINARY}")) == 2


def test_an_executable_for_another_processor_is_refused(server: Server, cache: Cache) -> None:
    publish(server, binary=elf(62))
    with pytest.raises(PibakeError, match="k3s-arm64 is made for amd64; the boards need arm64"):
        get(cache, BINARY)
    publish(server, binary=b"<html>not found</html>")  # the mirror's list changed: it is asked for again
    with pytest.raises(PibakeError, match="k3s-arm64 is no executable: it begins with 3c 68 74"):
        get(cache, BINARY)


def test_a_release_that_does_not_exist_is_named_with_its_url(server: Server, cache: Cache) -> None:
    with pytest.raises(FetchError) as caught:
        get(cache, BINARY)
    message = str(caught.value)
    assert f"there is no k3s {VERSION} for arm64" in message
    assert f"{server.url}{FOLDER}/{SUMS}" in message
    assert "PIBAKE_K3S_URL" in caught.value.hint


def test_a_list_without_the_asset_says_what_it_names(server: Server, cache: Cache) -> None:
    server.add(f"{FOLDER}/{SUMS}", f"{'0' * 64}  other\n".encode())
    with pytest.raises(FetchError, match="does not name k3s-arm64; it names other"):
        get(cache, BINARY)
