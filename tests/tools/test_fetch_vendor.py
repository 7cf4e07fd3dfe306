"""Bases by name, by the command line: pulled, pinned, refreshed, and refused if they are no image of a Pi."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from tests.tools import images, vendor
from tests.tools.vendor import FILE, Keys, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with vendor.keyring() as keys:
        yield keys


@pytest.fixture(scope="module")
def key(keys: Keys) -> str:
    return keys.make("vendor@example.org")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return images.make(tmp_path_factory.mktemp("image") / "card.img", noise=1 << 18).read_bytes()


@pytest.fixture
def shop(tmp_path: Path, keys: Keys, key: str, image: bytes) -> Iterator[Shop]:
    with vendor.shop(tmp_path, keys, key, image, images.pack(image, "xz")) as shop:
        yield shop


def test_a_signed_release_is_pulled_pinned_and_listed(shop: Shop) -> None:
    shop.publish()
    shop.assert_pulled()
    listed = json.loads(shop.run("base", "list", "--json").stdout)
    row = next(row for row in listed if row["name"] == "demo-1")
    assert row["state"] == "cached"
    assert row["file"] == FILE
    assert row["sha256"] == hashlib.sha256(shop.image).hexdigest()


def test_a_pinned_release_needs_no_network(shop: Shop) -> None:
    shop.publish()
    shop.assert_pulled()
    shop.server.files.clear()
    shop.assert_pulled()


def test_the_newest_point_release_is_taken_by_number_not_by_spelling(shop: Shop) -> None:
    good = hashlib.sha256(shop.packed).hexdigest()
    others = "".join(f"{'0' * 64} *demo-{v}-arm64.img.xz\n" for v in ("1", "1.2", "1.2.9", "1.2.9.1"))
    shop.publish(sums=f"{others}{good} *{FILE}\n{'1' * 64} *demo-2-arm64.img.xz\n")
    shop.assert_pulled()


def test_refresh_follows_a_new_point_release_and_prune_removes_the_old_image(shop: Shop) -> None:
    shop.publish()
    shop.assert_pulled()
    shop.image = shop.image[: 50 << 20] + b"newer" + shop.image[(50 << 20) + 5 :]
    shop.packed = images.pack(shop.image, "xz")
    shop.publish("demo-1.2.11-arm64.img.xz")
    refreshed = shop.run("base", "pull", "demo-1", "--refresh")
    assert hashlib.sha256(shop.image).hexdigest() in refreshed.stdout, refreshed.stderr
    assert len(list(shop.cache.rglob("*.img"))) == 2
    shop.run("base", "prune")
    assert len(list(shop.cache.rglob("*.img"))) == 1
    shop.assert_pulled()


def test_refresh_downloads_nothing_when_the_release_is_still_the_newest(shop: Shop) -> None:
    shop.publish()
    shop.assert_pulled()
    assert shop.run("base", "pull", "demo-1", "--refresh").returncode == 0
    assert len(shop.server.asked(f"releases/{FILE}")) == 1


def test_an_old_signature_beside_the_good_one_does_no_harm(shop: Shop, keys: Keys) -> None:
    other = keys.make(f"former-{shop.folder.name}@example.org")
    listed = f"{hashlib.sha256(shop.packed).hexdigest()} *{FILE}\n".encode()
    both = keys.gpg("--local-user", other, "--local-user", shop.key, "--detach-sign", data=listed)
    shop.publish(signature=both)
    shop.assert_pulled()


def test_a_mirror_takes_the_place_of_the_vendor(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from pibake import catalog, vendor

    shop.publish()
    text = (shop.folder / "catalog.yaml").read_text().replace(shop.server.url, "http://vendor.invalid/")
    source = catalog.parse(text, shop.folder / "keys")["demo-1"].source
    assert isinstance(source, catalog.Download)
    monkeypatch.setenv("PIBAKE_DEMO_URL", shop.server.url)
    assert vendor.newest(source).url == f"{shop.server.url}releases/{FILE}"


def test_an_image_without_a_partition_table_is_refused_with_what_it_is(shop: Shop) -> None:
    shop.packed = images.xz(b"<html>" + bytes(1 << 20))
    shop.publish()
    pulled = shop.run("base", "pull", "demo-1")
    assert pulled.returncode == 1
    assert "has no partition table" in pulled.stderr
    assert "a web page" in pulled.stderr
    assert not list(shop.cache.rglob("*.img*"))
    shop.assert_sound()


def test_an_image_that_does_not_begin_with_fat_is_refused(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "data.img"
    path.write_bytes(bytes(4 << 20))
    images.tool("sfdisk", "--quiet", path, data=b"label: dos\nstart=2048, type=83\n")
    shop.packed = images.xz(path.read_bytes())
    shop.publish()
    assert "its type is 83" in shop.run("base", "pull", "demo-1").stderr
    shop.assert_sound()


def test_a_partition_that_is_called_fat_and_is_not_is_refused(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "data.img"
    path.write_bytes(bytes(4 << 20))
    images.tool("sfdisk", "--quiet", path, data=b"label: dos\nstart=2048, type=c\n")
    shop.packed = images.xz(path.read_bytes())
    shop.publish()
    pulled = shop.run("base", "pull", "demo-1")
    assert pulled.returncode == 1
    assert "FAT" in pulled.stderr
    shop.assert_sound()


def test_a_mistyped_name_is_found_before_anything_is_downloaded(shop: Shop) -> None:
    shop.publish()
    pulled = shop.run("base", "pull", "demo-1", "dmo-1")
    assert pulled.returncode == 1
    assert "did you mean demo-1?" in pulled.stderr
    assert not shop.server.requests
