"""k3s' downloads against a server that misbehaves: only what the release's list vouches for comes into the cache."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from typing import TYPE_CHECKING

import pytest
from tests.tools.httpd import Break, Server, Status

from pibake import release
from pibake.cache import Cache
from pibake.errors import FetchError, PibakeError, VerificationError
from pibake.progress import Silent
from pibake.release import NAMES
from pibake.web import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.release import Asset

VERSION = "v1.31.4+k3s1"
FOLDER = "mirror/v1.31.4%2Bk3s1"
BINARY, IMAGES, SUMS = "k3s-arm64", "k3s-airgap-images-arm64.tar.zst", "sha256sum-arm64.txt"
HURRY = Policy(attempts=3, backoff=0.01, longest=0.1, connect=2, read=1)


def elf(machine: int = 183, flags: int = 0, *, bits: int = 64, size: int = 300_000) -> bytes:
    """Return what begins like an executable for a little-endian machine; 32-bit ones have their flags at 36."""
    head = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9) + struct.pack("<HHI", 2, machine, 1)
    return head + struct.pack("<IIII", 0x10000, 52, 0, flags) + os.urandom(size)


def elf32(flags: int = 0x5000400) -> bytes:
    """Return what begins like an executable for ARM, version 5 of its EABI, unless told otherwise with hard float."""
    return elf(40, flags, bits=32)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("PIBAKE_K3S_URL", f"{server.url}mirror")
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def publish(server: Server, arch: str = "arm64", **assets: bytes) -> dict[str, bytes]:
    """Serve a release's files for an architecture by their names there; a key of `assets` is `binary` or `images`."""
    binary, images, listed = {
        "arm64": (BINARY, IMAGES, SUMS),
        "armhf": ("k3s-armhf", "k3s-airgap-images-arm.tar.zst", "sha256sum-arm.txt"),
    }[arch]
    program = assets.get("binary", elf() if arch == "arm64" else elf32())
    files = {binary: program, images: assets.get("images", os.urandom(200_000))}
    for name, data in files.items():
        server.add(f"{FOLDER}/{name}", data)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    server.add(f"{FOLDER}/{listed}", sums.encode())
    return files


def obtain(cache: Cache, *names: str, arch: str = "arm64") -> tuple[Asset, ...]:
    return release.k3s(VERSION, names, arch, cache, Silent(), policy=HURRY)


def get(cache: Cache, *names: str, arch: str = "arm64") -> list[bytes]:
    return [asset.path.read_bytes() for asset in obtain(cache, *names, arch=arch)]


def test_assets_come_from_the_mirror_once(server: Server, cache: Cache) -> None:
    files = publish(server)
    assert get(cache, BINARY, IMAGES) == [files[BINARY], files[IMAGES]]
    server.files.clear()
    asset = obtain(cache, BINARY)[0]
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
    asset = obtain(cache, BINARY)[0]
    os.utime(asset.path)
    assert get(cache, BINARY) == [files[BINARY]]
    assert len(server.asked(f"{FOLDER}/{BINARY}")) == 1
    asset.path.write_bytes(b"damage")
    assert get(cache, BINARY) == [files[BINARY]]
    assert len(server.asked(f"{FOLDER}/{BINARY}")) == 2


def test_an_executable_for_another_processor_is_refused(server: Server, cache: Cache) -> None:
    publish(server, binary=elf(62))
    with pytest.raises(PibakeError, match="k3s-arm64 is made for amd64; the base needs arm64"):
        get(cache, BINARY)
    publish(server, binary=b"<html>not found</html>")  # the mirror's list changed: it is asked for again
    with pytest.raises(PibakeError, match="k3s-arm64 is no executable: it begins with 3c 68 74"):
        get(cache, BINARY)


def test_each_architecture_has_its_own_files_and_list_in_one_release(server: Server, cache: Cache) -> None:
    files = {**publish(server), **publish(server, "armhf")}
    for arch, names in NAMES.items():
        assert get(cache, names.binary, names.images, arch=arch) == [files[names.binary], files[names.images]]
    server.files.clear()
    assert get(cache, BINARY) == [files[BINARY]]
    assert get(cache, "k3s-armhf", arch="armhf") == [files["k3s-armhf"]]


@pytest.mark.parametrize(("data", "made_for"), [(elf(), "arm64"), (elf32(0x5000200), "armel")])
def test_an_executable_that_no_armhf_system_runs_is_refused(
    server: Server, cache: Cache, data: bytes, made_for: str
) -> None:
    publish(server, "armhf", binary=data)
    with pytest.raises(PibakeError, match=f"k3s-armhf is made for {made_for}; the base needs armhf"):
        get(cache, "k3s-armhf", arch="armhf")


def test_an_executable_of_go_says_nothing_about_floats_and_is_taken(server: Server, cache: Cache) -> None:
    data = publish(server, "armhf", binary=elf32(0x5000002))["k3s-armhf"]
    assert get(cache, "k3s-armhf", arch="armhf") == [data]


def test_a_release_that_does_not_exist_is_named_with_its_url(server: Server, cache: Cache) -> None:
    with pytest.raises(FetchError) as caught:
        get(cache, BINARY)
    message = str(caught.value)
    assert f"there is no k3s {VERSION} for arm64" in message
    with pytest.raises(
        FetchError, match=rf"there is no k3s {re.escape(VERSION)} for armhf: .*/sha256sum-arm\.txt"
    ):
        get(cache, "k3s-armhf", arch="armhf")
    assert f"{server.url}{FOLDER}/{SUMS}" in message
    assert "PIBAKE_K3S_URL" in caught.value.hint


def test_a_list_without_the_asset_says_what_it_names(server: Server, cache: Cache) -> None:
    server.add(f"{FOLDER}/{SUMS}", f"{'0' * 64}  other\n".encode())
    with pytest.raises(FetchError, match="does not name k3s-arm64; it names other"):
        get(cache, BINARY)
