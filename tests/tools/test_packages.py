"""`packages:` of nodes: resolved by apt against the base's own signed sources, or from files, and unpacked."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.seeding import DEBIAN
from tests.tools import layouts, vendor
from tests.tools.httpd import Server
from tests.tools.images import tool
from tests.tools.test_debs import deb, mounted
from tests.tools.test_payload import Repository

from pibake import recipe
from pibake.bases import Base
from pibake.cache import Cache
from pibake.errors import FetchError, PibakeError
from pibake.image import ext4
from pibake.image.golden import golden
from pibake.progress import Silent
from pibake.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tools.vendor import Keys

    from pibake.image.golden import Payload

EPOCH = 1_700_000_000
WANTS = "etc/systemd/system/multi-user.target.wants"


@dataclass
class Shop:
    """A distribution's repository, and a base whose sources name it at a host that is not there."""

    repository: Repository
    base: Base
    cache: Cache
    folder: Path

    def payload(self, *packages: str, debs: tuple[Path, ...] = ()) -> Payload:
        wanted = Recipe(lays=False, starts=False, packages=packages, debs=debs, hooks=(), overlays=())
        return recipe.obtain(wanted, self.base, DEBIAN, self.cache, Silent(), kubernetes=None)

    def names(self, *packages: str, debs: tuple[Path, ...] = ()) -> list[str]:
        return sorted(deb.path.name for deb in self.payload(*packages, debs=debs).debs)


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with vendor.keyring() as keys:
        yield keys


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """Sources as Debian 11 has them, as Debian 13 and Ubuntu have them, and with the key inside as Ubuntu 24.04 may."""
    key = keys.make(f"d-{tmp_path.name}@example.org")
    folder = tmp_path / "packages"
    packages = [
        deb(folder, "web", more="Depends: libweb, there\nRecommends: absent\n", usr__bin__tool="web\n",
            etc__web_dot_conf="a=1\n", DEBIAN__conffiles="/etc/web.conf\n"),
        deb(folder, "libweb", usr__lib__libweb="so\n"),
    ]  # fmt: skip
    sources = {
        "list": (
            "sources.list",
            "deb [signed-by=/usr/share/keyrings/d.gpg] https://deb.example.org/debian/ /\n",
        ),
        "sources": (
            "sources.list.d/ubuntu.sources",
            "Types: deb\nURIs: http://ports.example.org/debian/\nSuites: /\nSigned-By: /usr/share/keyrings/d.gpg\n",
        ),
        "inline-key": (
            "sources.list.d/inline.sources",
            "Types: deb\nURIs: http://ports.example.org/debian/\nSuites: /\nSigned-By:\n"
            + "".join(
                f" {line or '.'}\n" for line in keys.gpg("--armor", "--export", key).decode().splitlines()
            ),
        ),
    }
    name, text = sources[getattr(request, "param", "list")]
    status = "Package: there\nStatus: install ok installed\nMaintainer: A <a@example.org>\nArchitecture: arm64\nVersion: 1\nDescription: x\n"
    root: dict[str, str | bytes | None] = {
        f"etc/apt/{name}": text,
        "usr/share/keyrings/d.gpg": keys.export(key),
        "var/lib/dpkg/status": status,
        "var/lib/dpkg/info/format": "1\n",
        "var/lib/dpkg/info/there.list": "/.\n",
        "var/lib/dpkg/info/there.md5sums": "",
        "var/lib/dpkg/arch": "arm64\n",
        "var/lib/dpkg/updates/": "",
        "var/lib/dpkg/triggers/File": "",
    }
    image = layouts.make("debian-13", tmp_path / "base.img", root=root, size=40)
    base = Base(image, hashlib.sha256(image.read_bytes()).hexdigest(), "small", EPOCH)
    with Server() as server:
        monkeypatch.setenv("PIBAKE_APT_URL", server.url)
        repository = Repository(folder, keys, key, server)
        repository.publish("debian/", packages)
        yield Shop(repository, base, Cache(tmp_path / "cache"), folder)


@pytest.mark.parametrize("shop", ["list", "sources", "inline-key"], indirect=True)
def test_packages_come_with_what_they_need_and_are_unpacked_for_the_first_boot(
    shop: Shop, tmp_path: Path
) -> None:
    payload = shop.payload("web")
    assert sorted(deb.path.name for deb in payload.debs) == ["libweb_1.0-1_arm64.deb", "web_1.0-1_arm64.deb"]
    assert f"{WANTS}/pibake-install.service" in payload.links
    assert f"{WANTS}/pibake-join.service" in payload.links
    assert "usr/local/lib/pibake/join" in {file.path for file in payload.files}
    made = golden(shop.base, payload, shop.cache, Silent())
    part = tmp_path / "root.ext4"
    start = ext4.root_partition(made.image).start
    tool("dd", f"if={made.image}", f"of={part}", "bs=1M", f"skip={start >> 20}", "conv=sparse")
    if os.geteuid():
        pytest.skip("mounts the root file system")
    root = mounted(part, tmp_path / "mnt", "rw")
    try:
        # this host's dpkg is of another architecture, and the packages bring no scripts that would have to run
        audit = tool("dpkg", f"--root={root}", "--audit").decode()
        assert "unpacked but not yet configured" in audit
        assert "web:arm64" in audit
        tool("dpkg", f"--root={root}", "--force-architecture", "--configure", "-a")
        assert not tool("dpkg", f"--root={root}", "--audit")
        assert (root / "etc/web.conf").read_text() == "a=1\n"
        assert not tool("dpkg", f"--root={root}", "--verify")
    finally:
        tool("umount", root)


def test_they_are_resolved_once_and_again_when_one_of_them_was_damaged(shop: Shop) -> None:
    first = shop.payload("web")
    files = dict(shop.repository.server.files)
    shop.repository.server.files.clear()
    assert shop.payload("web").key == first.key
    first.debs[0].path.write_bytes(b"damage")
    with pytest.raises(FetchError, match=r"the packages web for small cannot be had") as caught:
        shop.payload("web")
    assert "PIBAKE_APT_URL points at a mirror" in caught.value.hint
    shop.repository.server.files.update(files)
    assert shop.payload("web").key == first.key


def test_a_package_that_is_there_already_is_left_out_and_the_joining_program_is_not(shop: Shop) -> None:
    payload = shop.payload("there")  # whose program the seed of a node with packages does not bring
    assert payload.debs == ()
    assert f"{WANTS}/pibake-join.service" in payload.links


def test_a_name_that_no_source_has_is_an_error_with_what_apt_said(shop: Shop) -> None:
    with pytest.raises(
        FetchError, match=r"packages webb for small cannot be had: Unable to locate package webb"
    ):
        shop.payload("webb")
    assert not list(shop.cache.root.glob("packages/apt-????????????????????????????????"))


def test_a_source_signed_by_another_key_is_refused(shop: Shop, keys: Keys) -> None:
    shop.repository.key = keys.make(f"other-{shop.folder.parent.name}@example.org")
    shop.repository.publish("debian/", sorted(shop.folder.glob("*.deb")))
    with pytest.raises(FetchError, match=r"not signed|verified|NO_PUBKEY"):
        shop.payload("web")


def test_files_need_no_network_and_have_to_be_complete(shop: Shop, tmp_path: Path) -> None:
    files = dict(shop.repository.server.files)
    shop.repository.server.files.clear()
    mine = deb(tmp_path / "mine", "mine", more="Depends: libweb\n", usr__bin__mine="m\n")
    libweb = shop.folder / "libweb_1.0-1_arm64.deb"
    assert shop.names(debs=(libweb, mine)) == [libweb.name, mine.name]
    with pytest.raises(
        FetchError, match=r"packages mine_1\.0-1_arm64\.deb for small cannot be had"
    ) as caught:
        shop.payload(debs=(mine,))
    assert "what the files need has to be among them or in the base" in caught.value.hint
    shop.repository.server.files.update(files)
    assert shop.names("web", debs=(mine,)) == [libweb.name, mine.name, "web_1.0-1_arm64.deb"]


def test_a_file_for_another_processor_is_refused(shop: Shop, tmp_path: Path) -> None:
    other = deb(tmp_path / "mine", "mine", arch="amd64")
    with pytest.raises(
        PibakeError, match=r"mine_1\.0-1_amd64\.deb is a package for amd64; the base needs arm64"
    ):
        shop.payload(debs=(other,))


def test_a_base_without_dpkg_takes_none(shop: Shop, tmp_path: Path) -> None:
    shop.base = Base(layouts.make("centos-7", tmp_path / "centos.img", size=40), "0" * 64, "centos-7", EPOCH)
    with pytest.raises(PibakeError, match=r"centos-7 is not made of Debian packages") as caught:
        shop.payload("web")
    assert "leave `packages` out for nodes with this base" in caught.value.hint
