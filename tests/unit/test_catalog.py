"""The catalogue of bases, and what is told from a vendor's list of digests."""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from pathlib import Path

import pytest
from tests.tools.sites import PUBLISHED

from pibake import catalog, proof, vendor, webindex
from pibake.boards import BOARDS
from pibake.catalog import Assemble, Download
from pibake.errors import PibakeError
from pibake.system import Network


def test_the_catalogue_has_the_bases_that_the_readme_promises() -> None:
    assert {"debian-13", "debian-12", "ubuntu-24.04"} <= set(catalog.names())


@pytest.mark.parametrize("name", catalog.names())
def test_every_entry_is_complete(name: str) -> None:
    entry = catalog.entry(name)
    assert entry.arch in {"arm64", "armhf"}
    assert set(entry.boards) <= set(BOARDS)
    assert entry.title
    assert entry.notes


@pytest.mark.parametrize("name", catalog.names())
def test_a_download_comes_over_https_and_its_key_comes_with_pibake(name: str) -> None:
    source = catalog.entry(name).source
    if isinstance(source, Download):
        assert source.location.startswith("https://")
        assert source.location.endswith("/")
        if key := proof.key_of(source.proof):
            assert key.file.is_file()
            assert re.fullmatch(r"[0-9A-F]{40}", key.fingerprint)
            assert (
                f"| `{key.file.name}` | `{key.fingerprint}` |" in (key.file.parent / "README.md").read_text()
            )


def test_each_pattern_fits_the_file_that_is_meant_and_no_other_entry_s() -> None:
    files = {name: path.rpartition("/")[2] for name, path in PUBLISHED.items()}
    for name in catalog.names():
        source = catalog.entry(name).source
        if isinstance(source, Download):
            assert [other for other, file in files.items() if fnmatch.fnmatchcase(file, source.file)] == [
                name
            ]


OLD = catalog.Entry("old", "Old OS 1", "arm64", ("pi4",), "pi", dt.date(2024, 6, 30), "", Assemble("old"))


def test_a_base_without_security_updates_is_warned_about_from_the_day_after() -> None:
    assert not catalog.warnings(OLD, dt.date(2024, 6, 30))
    (said,) = catalog.warnings(OLD, dt.date(2024, 7, 1))
    assert said.startswith("old: Old OS 1 has had no security updates since 2024-06-30")


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


def assembled(source: str, folder: Path) -> object:
    fields = "title: x, arch: arm64, boards: [pi4], user: pi, end_of_life: '2030-01-01', notes: x"
    return catalog.parse(f"bases: {{x: {{{fields}, assemble: {source}}}}}", folder)["x"].source


def test_a_flavour_of_an_assembled_base_says_its_network_and_whether_it_has_cloud_init(
    tmp_path: Path,
) -> None:
    assert assembled("{suite: trixie}", tmp_path) == Assemble("trixie", Network.NETPLAN, cloud_init=True)
    bare = assembled("{suite: trixie, network: ifupdown, cloud_init: false}", tmp_path)
    assert bare == Assemble("trixie", Network.IFUPDOWN, cloud_init=False)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{suite: trixie, network: wicked}", "'wicked' is not a valid Network"),
        ("{suite: trixie, cloud_init: no}", "x: cloud_init is true or false, not no"),
    ],
)
def test_a_flavour_that_there_is_not_is_refused(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        assembled(source, tmp_path)


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


@pytest.mark.parametrize(
    "names",
    [
        [f"ubuntu-{v}-preinstalled-server-arm64+raspi.img.xz" for v in ("24.04", "24.04.9", "24.04.10")],
        [f"raspios_lite_arm64-{d}/" for d in ("2025-10-02", "2025-12-04", "2026-06-19")],
        [f"{d}_raspi_4_bookworm.img.xz" for d in ("20220121", "20231109")],
    ],
)
def test_versions_and_dates_are_compared_by_number(names: list[str]) -> None:
    assert [max(names[: n + 1], key=vendor.version) for n in range(len(names))] == names
    assert min(names, key=vendor.version) == names[0]


KEYS = Path("/keys")
SIGNS = {"url": "https://vendor.example/", "key": "vendor.gpg", "fingerprint": "F" * 40}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"sums": "S", "signature": "S.gpg"},
            proof.SignedSums("S", "S.gpg", proof.Key(KEYS / "vendor.gpg", "F" * 40)),
        ),
        ({"clearsigned": "S.asc"}, proof.ClearsignedSums("S.asc", proof.Key(KEYS / "vendor.gpg", "F" * 40))),
        (
            {"sums": "*.sha256", "image_signature": "*.sig"},
            proof.SignedImage("*.sha256", "*.sig", proof.Key(KEYS / "vendor.gpg", "F" * 40)),
        ),
        ({"sha256": "0" * 64}, proof.Pinned("0" * 64)),
        ({"sums": "*.sha256"}, proof.Unsigned("*.sha256")),
    ],
)
def test_each_kind_of_proof_is_told_by_its_keys(fields: dict[str, str], expected: proof.Proof) -> None:
    assert proof.parse(fields, SIGNS, KEYS) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sha256": "0" * 63},
        {"signature": "S.gpg"},
        {"sums": "S", "sha256": "0" * 64},
        {"sums": "S", "signature": "S.gpg", "image_signature": "*.sig"},
        {"clearsigned": "S", "signature": "T"},
        {"sums": "S", "signatur": "T"},
    ],
)
def test_a_proof_that_is_none_is_refused_rather_than_taken_for_less(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is none of"):
        proof.parse(fields, SIGNS, KEYS)


def test_a_signature_without_a_key_in_the_catalogue_is_refused() -> None:
    with pytest.raises(KeyError):
        proof.parse({"clearsigned": "S"}, {"url": "https://vendor.example/"}, KEYS)


# As Apache, nginx and a page written by hand show a folder; every link but two leads elsewhere.
INDEX = """
<html><body><a href="?C=N;O=D">Name</a> <a href="../">Parent</a> <a href="/images/">up</a>
<a href="/images/a-2/">absolute</a> <A HREF='b%2B1.img.xz'>b</A> <a href="https://else.example/images/x.img">x</a>
<a href="c/d.img">deeper</a> <a href="..%2f..%2fe.img">climbs</a> <a name="f">no link</a> <a href="b%2B1.img.xz#top">b</a>
"""


def test_only_names_in_the_folder_itself_are_taken_from_its_index() -> None:
    assert webindex.names(INDEX, "https://vendor.example/images/") == ["a-2/", "b+1.img.xz"]
