"""Every vendor's way to vouch for its files, by the command line: with its folders, names and signatures."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest
from tests.tools import images, sites, vendor
from tests.tools.httpd import Break, Status
from tests.tools.sites import PUBLISHED, RASPIOS, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tools.vendor import Keys

PAST = "20200101T000000"
SIGNED = ("ubuntu-24.04", "raspios-trixie-lite", "clearsigned-1")
UNSIGNED = ("unsigned-1", "debian-12-raspi4", "hypriotos-rpi64", "centos-7-raspi3")
ALL = (*PUBLISHED, *sites.OWN)
LISTED = tuple(base for base in ALL if base != "pinned-1")
NOT_OVER_HTTP = {
    base for base in ALL if base.startswith(("unsigned", "debian-12-raspi", "hypriot", "centos"))
}


class Open(Protocol):
    def __call__(self, base: str, *, tls: bool | None = None) -> Site: ...


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with vendor.keyring() as keys:
        yield keys


@pytest.fixture(scope="module")
def key(keys: Keys) -> str:
    return keys.make("vendor@example.org")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return images.make_small(tmp_path_factory.mktemp("image") / "card.img", noise=1 << 18).read_bytes()


@pytest.fixture(scope="module")
def other(image: bytes) -> bytes:
    return image[: 8 << 20] + b"another" + image[(8 << 20) + 7 :]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sites.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def open_site(tmp_path: Path, keys: Keys, key: str, image: bytes, certificate: Path) -> Iterator[Open]:
    """Open a vendor's site: over https where nothing else would do, over http like a plain mirror elsewhere."""
    with ExitStack() as stack:

        def opened(base: str, *, tls: bool | None = None) -> Site:
            tls = base in NOT_OVER_HTTP if tls is None else tls
            packed = images.pack(image, "zip" if "hypriot" in base else "xz")
            folder = tmp_path / base
            folder.mkdir()
            with_tls = certificate if tls else None
            site = sites.site(folder, base=base, keys=keys, key=key, image=image, packed=packed, tls=with_tls)
            return stack.enter_context(site)

        yield opened


def again(site: Site, image: bytes) -> bytes:
    return images.pack(image, "zip" if "hypriot" in site.base else "xz")


def refused(site: Site, *options: str) -> str:
    """Return what a pull says that fails for lack of proof; nothing may have come into the cache."""
    code, said = site.pull(*options)
    assert code == 4, said
    assert not list(site.cache.rglob("*.img"))
    assert not list(site.cache.rglob("*.part"))
    site.assert_sound()
    return said


@pytest.mark.parametrize("base", ALL)
def test_what_a_vendor_publishes_is_pulled_and_it_is_said_what_vouches_for_it(
    base: str, open_site: Open, key: str
) -> None:
    site = open_site(base)
    site.put()
    code, said = site.pull()
    assert code == 0, said
    vouched = {
        **dict.fromkeys(NOT_OVER_HTTP, "unsigned: trusted on first use"),
        **dict.fromkeys(("raspios-trixie-lite", "raspios-bookworm-lite"), f"image signed by {key[-16:]}"),
        "pinned-1": "digest pinned in the catalogue",
    }.get(base, f"digest signed by {key[-16:]}")
    assert f"({vouched})" in said
    assert ("its vendor signs nothing" in said) == (base in NOT_OVER_HTTP)
    (row,) = (row for row in json.loads(site.run("base", "list", "--json").stdout) if row["name"] == base)
    assert row["state"] == "cached"
    assert row["file"] == site.path.rpartition("/")[2]
    assert row["sha256"] == hashlib.sha256(site.image).hexdigest()
    assert row["vouched"] == vouched
    site.assert_sound()


@pytest.mark.parametrize("base", ["ubuntu-18.04-raspi3", "hypriotos-1.12", "centos-7-raspi4"])
def test_a_base_past_its_end_of_life_is_pulled_with_a_warning(base: str, open_site: Open) -> None:
    site = open_site(base)
    site.put()
    code, said = site.pull()
    assert code == 0, said
    assert f"warning: {base}: " in said
    assert "no security updates since" in said


def test_a_base_with_security_updates_is_pulled_without_a_warning(open_site: Open) -> None:
    site = open_site("raspios-trixie-lite")
    site.put()
    assert "warning" not in site.pull()[1]


@pytest.mark.parametrize("base", [*SIGNED, "debian-12-raspi4", "hypriotos-rpi64"])
def test_a_download_that_broke_off_is_continued_and_verified_as_a_whole(base: str, open_site: Open) -> None:
    site = open_site(base)
    site.put()
    site.server.files[f"/{site.path}"].acts = [Break(150_000)]
    site.assert_pulled()
    first, second = site.server.asked(site.path)
    assert "Range" not in first.headers
    assert "Range" in second.headers


@pytest.mark.parametrize(
    ("base", "older", "newer"),
    [
        (
            "ubuntu-18.04-raspi4",
            "releases/18.04/release/ubuntu-18.04.4-preinstalled-server-arm64+raspi4.img.xz",
            "releases/18.04/release/ubuntu-18.04.5-preinstalled-server-arm64+raspi4.img.xz",
        ),
        (
            "raspios-trixie-lite",
            f"{RASPIOS}2025-12-04/2025-12-04-raspios-trixie-arm64-lite.img.xz",
            f"{RASPIOS}2026-06-19/2026-06-18-raspios-trixie-arm64-lite.img.xz",
        ),
        (
            "unsigned-1",
            "tested/20220808_board_4.img.xz",
            "tested/20231109_board_4.img.xz",
        ),
    ],
)
def test_refresh_finds_the_next_release_by_the_vendor_s_own_list_or_index(
    base: str, older: str, newer: str, open_site: Open, other: bytes
) -> None:
    site = open_site(base)
    site.put(older, packed=again(site, other))
    assert site.pull()[0] == 0
    site.put(newer)
    site.server.requests.clear()
    assert hashlib.sha256(other).hexdigest() in site.pull()[1]
    assert not site.server.requests
    assert hashlib.sha256(site.image).hexdigest() in site.pull("--refresh")[1]


def test_a_newer_folder_with_another_release_in_it_is_passed_over(open_site: Open) -> None:
    site = open_site("raspios-trixie-lite")
    site.put(f"{RASPIOS}2027-11-01/2027-11-01-raspios-forky-arm64-lite.img.xz")
    site.put()
    site.assert_pulled()


def test_of_several_bases_in_one_folder_the_right_one_is_taken(open_site: Open, other: bytes) -> None:
    site = open_site("unsigned-1")
    site.put("tested/20991109_board_3.img.xz", packed=again(site, other))
    site.put("tested/20991109_board_4.img.gz", packed=again(site, other))
    site.put()
    site.assert_pulled()


@pytest.mark.parametrize("base", ["raspios-trixie-lite", "unsigned-1"])
def test_a_folder_without_our_file_is_named(base: str, open_site: Open) -> None:
    site = open_site(base)
    site.put(site.path.replace("lite.img", "full.img").replace("board_4", "board_5"))
    code, said = site.pull()
    assert code == 1
    assert "holds no file like " in said


@pytest.mark.parametrize("base", LISTED)
def test_a_good_list_without_our_file_says_what_it_names(base: str, open_site: Open) -> None:
    site = open_site(base)
    site.put(called="somebody-elses.img.xz")
    code, said = site.pull()
    assert code == 1
    assert "; it names somebody-elses.img.xz" in said
    assert not site.server.asked(site.path)
    assert not list(site.cache.rglob("*.img"))


@pytest.mark.parametrize("base", [*SIGNED, "pinned-1"])
def test_another_file_in_the_place_of_the_right_one_is_refused_whatever_the_server_says(
    base: str, open_site: Open, other: bytes
) -> None:
    site = open_site(base)
    site.put()
    site.replace(again(site, other))
    said = refused(site)
    wrong = "(from the catalogue)" if base == "pinned-1" else "a signature that does not fit the content"
    assert wrong in said


@pytest.mark.parametrize("base", SIGNED)
def test_a_missing_signature_is_refused(base: str, open_site: Open) -> None:
    site = open_site(base)
    site.put()
    for name in list(site.server.files):
        if name.endswith((".gpg", ".sig", ".asc")):
            del site.server.files[name]
    assert "got none" in refused(site)
    assert not site.server.asked(site.path)


@pytest.mark.parametrize("base", SIGNED)
def test_rubbish_for_a_signature_is_refused(base: str, open_site: Open) -> None:
    site = open_site(base)
    site.put()
    for name, resource in site.server.files.items():
        if name.endswith((".gpg", ".sig", ".asc")):
            resource.data = b"<html>not found</html>"
    assert "no signature at all" in refused(site)


@pytest.mark.parametrize("base", SIGNED)
def test_a_signature_by_another_key_is_refused(base: str, open_site: Open, keys: Keys) -> None:
    site = open_site(base)
    site.put(by=keys.make(f"other-{base}@example.org"))
    assert "a signature by another key" in refused(site)


@pytest.mark.parametrize("base", SIGNED)
def test_another_key_in_the_same_keyring_is_refused_too(base: str, open_site: Open, keys: Keys) -> None:
    site = open_site(base)
    second = keys.make(f"second-{base}@example.org")
    (site.folder / "keys" / "vendor.gpg").write_bytes(keys.export(site.key, second))
    site.put(by=second)
    assert f"got a good signature by {second}" in refused(site)


@pytest.mark.parametrize("base", SIGNED)
def test_an_expired_key_is_refused(base: str, open_site: Open, keys: Keys) -> None:
    site = open_site(base)
    old = keys.make(f"old-{base}@example.org", at=PAST, expires="2020-02-01")
    site.trust(old)
    site.put(by=old, at=PAST)
    assert "a key that has expired" in refused(site)


@pytest.mark.parametrize("base", SIGNED)
def test_a_revoked_key_is_refused(base: str, open_site: Open, keys: Keys) -> None:
    site = open_site(base)
    lost = keys.make(f"lost-{base}@example.org")
    site.put(by=lost)
    keys.revoke(lost)
    site.trust(lost)
    assert "a key that was revoked" in refused(site)


@pytest.mark.parametrize("base", SIGNED)
def test_a_key_that_is_not_there_is_asked_for_by_name(base: str, open_site: Open) -> None:
    site = open_site(base)
    site.put()
    (site.folder / "keys" / "vendor.gpg").unlink()
    said = refused(site)
    assert f"there is no file {site.folder}/keys/vendor.gpg" in said
    assert f"gpg --export {site.key} > {site.folder}/keys/vendor.gpg" in said
    assert not site.server.asked(site.path)


def test_text_around_a_cleartext_signature_counts_for_nothing(open_site: Open, other: bytes) -> None:
    site = open_site("clearsigned-1")
    site.put()
    listed = site.server.files["/lists/sha256sum.txt.asc"]
    false = f"{hashlib.sha256(again(site, other)).hexdigest()}  clear-1.0.img.xz\n".encode()
    listed.data = false + listed.data + false
    site.assert_pulled()


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_second_text_signed_by_somebody_else_counts_for_nothing(
    order: str, open_site: Open, keys: Keys, other: bytes
) -> None:
    site = open_site("clearsigned-1")
    site.put()
    listed = site.server.files["/lists/sha256sum.txt.asc"]
    false = f"{hashlib.sha256(again(site, other)).hexdigest()}  clear-1.9.img.xz\n".encode()
    foreign = keys.clearsign(false, keys.make(f"foreign-{order}@example.org"))
    if order == "before":
        listed.data = foreign + listed.data
        refused(site)
    else:
        listed.data += foreign
        site.assert_pulled()


@pytest.mark.parametrize("base", UNSIGNED)
def test_an_unsigned_file_is_trusted_on_first_use_and_another_one_under_its_name_is_not(
    base: str, open_site: Open, other: bytes
) -> None:
    site = open_site(base)
    site.put()
    assert "its vendor signs nothing" in site.pull()[1]
    site.run("base", "prune", "--all")
    code, said = site.pull()
    assert code == 0, said
    assert "its vendor signs nothing" not in said
    site.run("base", "prune", "--all")
    site.replace(again(site, other))
    said = refused(site)
    assert f"expected {hashlib.sha256(site.packed).hexdigest()} (from its first use" in said
    (kept,) = (site.cache / "first-use").iterdir()
    assert f"remove {kept} and pull again" in said
    kept.unlink()
    assert site.pull()[0] == 0


def test_refresh_of_an_unsigned_file_that_changed_leaves_the_one_in_the_cache(
    open_site: Open, other: bytes
) -> None:
    site = open_site("debian-12-raspi4")
    site.put()
    site.assert_pulled()
    site.replace(again(site, other))
    assert site.pull("--refresh")[0] == 4
    site.assert_pulled()


@pytest.mark.parametrize("base", UNSIGNED)
def test_a_file_that_is_not_the_one_its_own_server_lists_is_not_trusted_at_all(
    base: str, open_site: Open, other: bytes
) -> None:
    site = open_site(base)
    site.put()
    site.server.add(site.path, again(site, other))
    assert "the file was damaged on its way" in refused(site)
    assert not (site.cache / "first-use").exists()


@pytest.mark.parametrize("base", UNSIGNED)
def test_an_unsigned_file_is_not_taken_over_http(base: str, open_site: Open) -> None:
    site = open_site(base, tls=False)
    site.put()
    assert "expected a signature, or at least https" in refused(site)
    assert not site.server.requests


def test_a_digest_that_https_leads_away_from_https_is_not_taken(open_site: Open) -> None:
    site = open_site("hypriotos-rpi64")
    plain = open_site("centos-7-raspi3", tls=False)
    site.put()
    plain.server.add("digest", site.server.files[f"/{site.path}.sha256"].data)
    away = Status(302, {"Location": f"{plain.server.url}digest"})
    site.server.files[f"/{site.path}.sha256"].then = away
    code, said = site.pull()
    assert code == 1
    assert f"leads to {plain.server.url}digest, which is not https" in said
    assert not list(site.cache.rglob("*.img"))
