"""Bundles: a folder of the builder with everything of one Kubernetes version, for builds without any network.

bundle.yaml     kubernetes: v1.20.2
                architecture: arm64, or armhf for a 32-bit base
bin/            executables, to /usr/bin
cni/            CNI plugins, to /opt/cni/bin
debs/           *.deb, unpacked into the base
images/         *.tar, *.tar.gz, *.tar.zst: archives of container images
manifests/      *.yaml
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from pibake import arch as processor
from pibake.errors import PibakeError
from pibake.image import debs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FOLDERS = {
    "bin": ("",),
    "cni": ("",),
    "debs": (".deb",),
    "images": (".tar", ".tar.gz", ".tar.zst"),
    "manifests": (".yaml", ".yml", ".json"),
}
"""The folders of a bundle, and how the names in them end."""
IGNORED = ("README", "LICENSE", ".")
HINTS = {
    "kubernetes": "`kubernetes: {version: ...}` in the cluster.yaml and the bundle must be of one version",
    "architecture": "a bundle holds what is for the architecture of the base: `pibake base inspect NAME` shows it",
}
"""Key of bundle.yaml -> what to do when it does not say what is wanted."""


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle by folder, in sorted order; every one has been checked."""

    folder: Path
    bin: tuple[Path, ...]
    cni: tuple[Path, ...]
    debs: tuple[Path, ...]
    images: tuple[Path, ...]
    manifests: tuple[Path, ...]


def read(
    folder: Path,
    version: str,
    arch: str,
    *,
    described: bool = True,
    judge: Callable[[Path, str], None] = processor.check_images,
) -> Bundle:
    """Return what a bundle holds, after checking that all of it is for this version and this architecture.

    Args:
        folder: the bundle.
        version: the Kubernetes that the plan wants.
        arch: Debian's name of the base's architecture, "arm64" or "armhf".
        described: whether it must say itself, in bundle.yaml, what it is.
        judge: raises unless an archive of images is for an architecture.

    Raises:
        PibakeError: the first thing that is wrong, with the file it is about.
    """
    if not folder.is_dir():
        raise PibakeError(
            f"the bundle {folder} is no folder", "`kubernetes: {bundle: ...}` is relative to the cluster.yaml"
        )
    _check_names(folder)
    _check_description(folder / "bundle.yaml", version, arch, described=described)
    bundle = Bundle(folder, **{name: _files(folder / name, ends) for name, ends in FOLDERS.items()})
    for executable in (*bundle.bin, *bundle.cni):
        processor.check_executable(executable, arch)
    for deb in bundle.debs:
        debs.control(deb, arch)
    for archive in bundle.images:
        judge(archive, arch)
    return bundle


def _check_names(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        fits = path.name in FOLDERS if path.is_dir() else path.name == "bundle.yaml"
        if not fits and not path.name.startswith(IGNORED):
            raise PibakeError(
                f"the bundle {folder} holds {path.name}, which pibake does not know",
                f"a bundle holds bundle.yaml and the folders {', '.join(FOLDERS)}",
            )


def _check_description(path: Path, version: str, arch: str, *, described: bool) -> None:
    example = f"write into it:\n  kubernetes: {version}\n  architecture: {arch}"
    if not path.is_file():
        if described:
            raise PibakeError(f"the bundle has no {path}", example)
        return
    try:
        found = yaml.load(path.read_text("utf-8", "replace"), yaml.BaseLoader)  # noqa: S506 - makes strings only
    except yaml.YAMLError as error:
        raise PibakeError(f"{path} is no YAML: {error}", example) from error
    wanted = {"kubernetes": version, "architecture": arch}
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise PibakeError(f"{path} should say `kubernetes` and `architecture`, and nothing else", example)
    for key, value in wanted.items():
        if found[key] != value:
            raise PibakeError(
                f"{path} says `{key}: {found[key]}`, but {value} is wanted",
                HINTS[key],
            )


def _files(folder: Path, ends: Sequence[str]) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(IGNORED)]
    for path in found:
        if not path.is_file() or not path.name.endswith(tuple(ends)):
            raise PibakeError(
                f"{path} does not belong into a bundle",
                f"{folder.name}/ holds {' or '.join(f'*{end}' for end in ends)} files, and no folders",
            )
    return tuple(found)
