"""The catalogue of bases, and what is told from a vendor's list of digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pibake import catalog, vendor
from pibake.boards import BOARDS
from pibake.catalog import Assemble, Download
from pibake.errors import PibakeError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_catalogue_has_the_bases_that_the_readme_promises() -> None:
    assert {"debian-13", "debian-12", "ubuntu-24.04"} <= set(catalog.names())


@pytest.mark.parametrize("name", catalog.names())
def test_every_entry_is_complete(name: str) -> None:
    entry = catalog.entry(name)
    assert entry.arch == "arm64"
    assert set(entry.boards) <= set(BOARDS)
    assert entry.title
    assert entry.notes


@pytest.mark.parametrize("name", catalog.names())
def test_a_download_is_signed_by_a_key_that_comes_with_pibake(name: str) -> None:
    source = catalog.entry(name).source
    if isinstance(source, Download):
        assert source.keyring.is_file()
        assert source.location.startswith("https://")
        assert source.location.endswith("/")
        assert len(source.fingerprint) == 40
        assert source.fingerprint in (source.keyring.parent / "README.md").read_text()


def test_debian_is_assembled() -> None:
    assert catalog.entry("debian-13").source == Assemble("trixie")


def test_a_mistyped_name_is_answered_with_what_was_meant() -> None:
    with pytest.raises(PibakeError) as caught:
        catalog.entry("debain-13")
    assert "did you mean debian-13?" in caught.value.hint


def test_the_environment_names_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    source = catalog.entry("ubuntu-24.04").source
    assert isinstance(source, Download)
    monkeypatch.setenv("PIBAKE_UBUNTU_URL", "http://mirror.lan/ubuntu")
    assert source.location == "http://mirror.lan/ubuntu/releases/24.04/release/"


OWN = """
bases:
  debian-13: {title: Ours, arch: arm64, boards: [pi4], user: pi, end_of_life: "2030-01-01", notes: ours, assemble: {suite: x}}
"""


def test_a_catalogue_of_ones_own_comes_after_pibakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    monkeypatch.setenv("PIBAKE_CATALOG", str(path))
    assert catalog.entry("debian-13").source == Assemble("x")
    assert "ubuntu-24.04" in catalog.names()


@pytest.mark.parametrize("text", ["", "- a", "bases: {x: {title: y}}", "a: [", "bases: 3"])
def test_a_broken_catalogue_of_ones_own_is_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    monkeypatch.setenv("PIBAKE_CATALOG", str(path))
    with pytest.raises(PibakeError, match=r"own\.yaml \(from PIBAKE_CATALOG\) cannot be used"):
        catalog.names()


def test_both_forms_of_a_list_of_digests_are_read() -> None:
    one, two = "0" * 64, "A" * 64
    listed = vendor.parse(f"# comment\n{one} *a.img.xz\n{two}  ./b c.img\r\nshort *x\n")
    assert listed == {"a.img.xz": one, "b c.img": two.lower()}


def test_versions_are_compared_by_number() -> None:
    names = [f"ubuntu-{v}-preinstalled-server-arm64+raspi.img.xz" for v in ("24.04", "24.04.9", "24.04.10")]
    assert sorted([names[2], names[0], names[1]], key=vendor.version) == names
