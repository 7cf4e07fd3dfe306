"""Packages unpacked by pibake into an ext4 file system, compared with what the real dpkg makes of the same packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.tools.images import MIB, tool

from pibake.errors import PibakeError
from pibake.image import debs, dpkg, ext4
from pibake.image.ext4_tree import Files
from pibake.image.ext4_write import write

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = 1_700_000_000
DPKG = "var/lib/dpkg"


def deb(folder: Path, name: str, *, version: str = "1.0-1", arch: str = "arm64", more: str = "", **files: str) -> Path:  # fmt: skip
    """Build a package; a key of `files` is a path with `__` for `/` and `_dot_` for `.`; DEBIAN/ holds control files."""
    tree = folder / f"{name}-{version}.tree"
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: A <a@example.org>\n"
        f"Installed-Size: 3\n{more}Description: a thing\n with more lines\n .\n and one more\n"
    )
    for path, text in {"DEBIAN__control": control, **files}.items():
        target = tree / path.replace("__", "/").replace("_dot_", ".")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755 if target.name in {"postinst", "prerm", "tool"} else 0o644)
    return pack(tree, folder / f"{name}_{version}_{arch}.deb")


def pack(tree: Path, target: Path) -> Path:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else path.stat().st_mode & 0o7777)
        os.utime(path, (1_650_000_000, 1_650_000_000), follow_symlinks=False)
    tool("dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, target)
    return target


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("debs")
    tree = folder / "demo"
    for path, text in {
        "DEBIAN/control": "Package: demo\nVersion: 1:2.0-1\nArchitecture: arm64\nMaintainer: A <a@example.org>\n"
        "Depends: libdemo (>= 1)\nDescription: demo\n more\n",
        "DEBIAN/conffiles": "/etc/demo/demo.conf\n/etc/kept.conf\n",
        "DEBIAN/postinst": "#!/bin/sh\nexit 0\n",
        "DEBIAN/triggers": "activate-noawait ldconfig\n",
        "etc/demo/demo.conf": "a=1\n",
        "etc/kept.conf": "b=2\n",
        "lib/demo/part": "merged\n",
        "usr/bin/demo": "x" * 70_000,
        "usr/share/doc/demo/copyright": "free\n",
        "usr/share/doc/demo/changelog": "long\n",
        "usr/share/man/man1/demo.1": "manual\n",
        "usr/share/diverted": "demo's\n",
    }.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "usr/bin/demo2").hardlink_to(tree / "usr/bin/demo")
    (tree / "usr/bin/link").symlink_to("../bin/demo")
    (tree / "usr/bin/demo").chmod(0o4755)
    (tree / "DEBIAN/postinst").chmod(0o755)
    (tree / "var/lib/demo").mkdir(parents=True)
    lib = deb(
        folder, "libdemo", more="Multi-Arch: same\nSource: demo\n",
        usr__lib__libdemo_dot_so_dot_1="so\n", DEBIAN__shlibs="libdemo 1 libdemo\n", DEBIAN__md5sums="0123  usr/lib/x\n",
    )  # fmt: skip
    return [
        pack(tree, folder / "demo_2.0-1_arm64.deb"),
        lib,
        deb(folder, "data", arch="all", usr__share__data="d\n"),
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with merged /usr, path filters, a diversion, and older versions of packages."""
    root = tmp_path_factory.mktemp("root") / "root"
    for name in ("usr/lib", "usr/bin", "usr/share", "etc/dpkg/dpkg.cfg.d", f"{DPKG}/info", f"{DPKG}/updates"):
        (root / name).mkdir(parents=True)
    (root / f"{DPKG}/triggers").mkdir()
    (root / "lib").symlink_to("usr/lib")
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(
        "# slim\npath-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\npath-exclude /usr/share/man/*\n"
    )
    (root / "etc/kept.conf").write_text("mine\n")
    (root / "usr/share/diverted").write_text("the other's\n")
    (root / f"{DPKG}/diversions").write_text("/usr/share/diverted\n/usr/share/diverted.real\nother\n")
    (root / f"{DPKG}/arch").write_text("arm64\n")
    (root / f"{DPKG}/info/format").write_text("1\n")
    for name in ("old.list", "old.prerm", "data.list", "data.md5sums", "other.list"):
        (root / f"{DPKG}/info/{name}").write_text("/.\n" if name.endswith("list") else "")
    (root / f"{DPKG}/info/old.list").write_text("/.\n/etc\n/etc/older.conf\n/etc/gone.conf\n")
    md5 = hashlib.md5(b"mine\n").hexdigest()  # noqa: S324 - dpkg's format
    (root / f"{DPKG}/status").write_text(
        f"Package: old\nStatus: install ok installed\nMaintainer: A <a@example.org>\nArchitecture: arm64\nVersion: 1\n"
        f"Conffiles:\n /etc/older.conf {md5}\n /etc/gone.conf {md5}\nDescription: old\n\n"
        "Package: data\nStatus: install ok installed\nMaintainer: A <a@example.org>\nArchitecture: all\nVersion: 1.0-1\n"
        "Description: the same version\n\n"
        "Package: other\nStatus: install ok installed\nMaintainer: A <a@example.org>\nArchitecture: all\nVersion: 1\n"
        "Description: diverts\n"
    )
    (root / "etc/older.conf").write_text("mine\n")
    (root / "etc/gone.conf").write_text("mine\n")
    return root


def unpacked_by_pibake(root: Path, packages: list[Path], folder: Path) -> Path:
    part = folder / "root.ext4"
    part.touch()
    os.truncate(part, 64 * MIB)
    tool("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "root_owner=0:0", "-d", root, part)
    files = Files(part)
    write(files, debs.unpack(packages, files, folder / "work", "arm64"), epoch=EPOCH)
    ext4.finish(part, epoch=EPOCH)
    return part


def unpacked_by_dpkg(root: Path, packages: list[Path], folder: Path) -> Path:
    """Copy the root and let dpkg unpack into it, as root or as root of a user namespace."""
    copy = folder / "by-dpkg"
    shutil.copytree(root, copy, symlinks=True)
    rules = (root / "etc/dpkg/dpkg.cfg.d/slim").read_text().replace(" /", "=/").splitlines()[1:]
    argv: list[str | Path] = ["dpkg", f"--root={copy}", "--force-architecture", "--force-depends", "--force-script-chrootless",
            *(f"--{rule}" for rule in rules), "--unpack", *packages]  # fmt: skip
    tool(*([] if os.getuid() == 0 else ["unshare", "--map-root-user"]), *argv)
    return copy


def mounted(part: Path, folder: Path, how: str = "ro,noload") -> Path:
    folder.mkdir()
    argv: list[str | Path] = ["mount", "-o", f"loop,{how}", part, folder]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this host mounts nothing for us: {done.stderr.strip()}")
    return folder


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    """Return type, mode, content and time of everything but dpkg's own records, which have tests of their own."""
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name.startswith((DPKG, "lost+found", "var")):
            continue
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        if path.is_symlink():
            found[name] = (kind, path.readlink())
        elif path.is_dir():
            found[name] = (kind, status.st_mode)
        else:
            found[name] = (kind, status.st_mode, status.st_nlink, int(status.st_mtime), path.read_bytes())
    return found


def test_the_tree_is_the_one_dpkg_makes(root: Path, packages: list[Path], tmp_path: Path) -> None:
    expected = unpacked_by_dpkg(root, packages[:2], tmp_path)
    part = unpacked_by_pibake(root, packages, tmp_path)
    folder = mounted(part, tmp_path / "mnt")
    try:
        assert contents(folder) == contents(expected)
        assert (folder / "etc/demo/demo.conf.dpkg-new").read_text() == "a=1\n"
        assert (folder / "usr/share/diverted").read_text() == "the other's\n"
    finally:
        tool("umount", folder)


def test_the_records_are_those_dpkg_makes(root: Path, packages: list[Path], tmp_path: Path) -> None:
    expected = unpacked_by_dpkg(root, packages[:2], tmp_path)
    files = Files(unpacked_by_pibake(root, packages, tmp_path))
    ours = {dpkg.identity(stanza): stanza for stanza in dpkg.parse((files.read(dpkg.STATUS) or b"").decode())}
    theirs = {dpkg.identity(s): s for s in dpkg.parse((expected / dpkg.STATUS).read_text())}
    assert ours == theirs
    assert ours["demo", ""]["Status"] == "install ok unpacked"
    assert ours["demo", ""]["Conffiles"] == "\n /etc/demo/demo.conf newconffile\n /etc/kept.conf newconffile"
    info = {path.name: path.read_bytes() for path in (expected / dpkg.INFO).iterdir()}
    assert {name: files.read(f"{dpkg.INFO}/{name}") for name in files.listing(dpkg.INFO)} == info
    assert "libdemo:arm64.list" in info


def test_an_older_version_is_replaced_with_its_scripts_and_conffiles_known(
    root: Path, tmp_path: Path
) -> None:
    new = deb(tmp_path, "old", version="2", DEBIAN__conffiles="/etc/older.conf\n", etc__older_dot_conf="new\n", usr__bin__tool="t")  # fmt: skip
    expected = unpacked_by_dpkg(root, [new], tmp_path)
    files = Files(unpacked_by_pibake(root, [new], tmp_path))
    assert f"{DPKG}/info/old.prerm" not in files.listing(dpkg.INFO)
    stanza = next(s for s in dpkg.parse((files.read(dpkg.STATUS) or b"").decode()) if s["Package"] == "old")
    theirs = next(s for s in dpkg.parse((expected / dpkg.STATUS).read_text()) if s["Package"] == "old")
    assert stanza == theirs
    assert stanza["Config-Version"] == "1"
    assert files.read("etc/older.conf") == b"mine\n"
    assert files.read("etc/older.conf.dpkg-new") == b"new\n"


def test_the_same_version_is_passed_over(root: Path, packages: list[Path], tmp_path: Path) -> None:
    files = Files(unpacked_by_pibake(root, [packages[2]], tmp_path))
    assert files.read("usr/share/data") is None
    assert debs.unpack([], files, tmp_path / "none", "arm64") == []


@pytest.mark.parametrize(("arch", "wanted"), [("amd64", "arm64"), ("armhf", "arm64"), ("arm64", "armhf")])
def test_a_package_for_another_processor_is_refused_by_name(arch: str, wanted: str, tmp_path: Path) -> None:
    message = rf"odd_1\.0-1_{arch}\.deb is a package for {arch}; the base needs {wanted} \(or all\)"
    with pytest.raises(PibakeError, match=message) as caught:
        debs.control(deb(tmp_path, "odd", arch=arch), wanted)
    assert f"`apt-get download odd:{wanted}`" in caught.value.hint


def test_a_32_bit_base_takes_packages_for_it_and_for_all(tmp_path: Path) -> None:
    packages = [deb(tmp_path, "fitting", arch="armhf"), deb(tmp_path, "data", arch="all")]
    assert [debs.control(path, "armhf")["Package"] for path in packages] == ["fitting", "data"]


def test_something_else_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"!<arch>\nnonsense")
    with pytest.raises(PibakeError, match=r"x\.deb is no Debian package"):
        debs.control(tmp_path / "x.deb", "arm64")


def test_the_same_package_twice_is_an_error(root: Path, tmp_path: Path) -> None:
    twice = [deb(tmp_path, "two", version=version) for version in ("1", "2")]
    with pytest.raises(PibakeError, match=r"two_2_arm64\.deb and .*two_1_arm64\.deb are both package two"):
        unpacked_by_pibake(root, twice, tmp_path)


def test_a_root_without_dpkg_cannot_take_packages(packages: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bare/etc").mkdir(parents=True)
    with pytest.raises(PibakeError, match="no /var/lib/dpkg/status"):
        unpacked_by_pibake(tmp_path / "bare", packages, tmp_path)


def test_a_real_status_file_is_written_back_as_it_was(debian_13: Path) -> None:
    text = ext4.read_file(debian_13, ext4.root_partition(debian_13).start, dpkg.STATUS)
    assert text
    assert dpkg.render(dpkg.parse(text.decode())) == text.decode()


def test_the_real_arm64_dpkg_configures_what_was_unpacked(debian_13: Path, tmp_path: Path) -> None:
    new = deb(
        tmp_path, "freshly-baked", DEBIAN__conffiles="/etc/fresh.conf\n", etc__fresh_dot_conf="a=1\n",
        DEBIAN__postinst='#!/bin/sh\nset -e\necho "$1" > /var/lib/fresh\n', usr__share__fresh="f\n",
    )  # fmt: skip
    part = tmp_path / "root.ext4"
    start = ext4.root_partition(debian_13).start
    tool("dd", f"if={debian_13}", f"of={part}", "bs=1M", f"skip={start // MIB}", "conv=sparse")
    files = Files(part)
    write(files, debs.unpack([new], files, tmp_path / "work", "arm64"), epoch=EPOCH)
    ext4.finish(part, epoch=EPOCH)
    root = mounted(part, tmp_path / "mnt", "rw")
    try:
        if subprocess.run(["chroot", root, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this host runs no arm64 programs")
        audit = tool("chroot", root, "dpkg", "--audit").decode()
        assert "unpacked but not yet configured" in audit
        assert "freshly-baked" in audit
        tool("chroot", root, "dpkg", "--configure", "-a")
        assert not tool("chroot", root, "dpkg", "--audit")
        assert (root / "var/lib/fresh").read_text() == "configure\n"
        assert (root / "etc/fresh.conf").read_text() == "a=1\n"
        assert not (root / "etc/fresh.conf.dpkg-new").exists()
        shown = tool("chroot", root, "dpkg-query", "-W", "-f=${Status}${Conffiles}", "freshly-baked").decode()
        md5 = hashlib.md5(b"a=1\n").hexdigest()  # noqa: S324 - dpkg's format
        assert shown.split() == ["install", "ok", "installed", "/etc/fresh.conf", md5]
        assert not tool("chroot", root, "dpkg", "--verify", "freshly-baked")
    finally:
        tool("umount", root)
