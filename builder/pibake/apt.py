"""Debian packages with all they need, resolved by apt against a base and its own sources, and the Kubernetes repository.

apt-get runs here as the node would run it, but before there is one: with the base's status file, sources, keys and
preferences in a folder of its own, for its architecture, and without any setting of this host (apt.conf(5), apt-get(8)).
It checks the signatures and digests itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pibake import fetch, resources, space
from pibake.cache import made
from pibake.errors import CommandFailed, FetchError, PibakeError
from pibake.fsys import delete, load, store
from pibake.image import ext4
from pibake.image.debs import Deb
from pibake.image.ext4_tree import Files
from pibake.run import find, run

if TYPE_CHECKING:
    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.progress import Progress
    from pibake.web import Policy

URL = "https://pkgs.k8s.io/core:"
"""The community's repositories, one for each minor version."""
KEY = "kubernetes-apt.asc"
"""Its signing key, if pibake brings it."""
PINNED = ("kubeadm", "kubelet", "kubectl")
OTHERS = ("kubernetes-cni", "cri-tools", "containerd")
SETTINGS = ("etc/apt/sources.list.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "etc/apt/keyrings",
            "usr/share/keyrings")  # fmt: skip
STATUS = "var/lib/dpkg/status"
CONFIG = """
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
Dir::Cache::archives "{archives}";
Dir::Etc::main "-";
Dir::Etc::parts "-";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
"""
"""Read before the host's files, and so in place of them. Without its own user, apt would need folders open to that."""


@dataclass(frozen=True)
class Wanted:
    """What to ask apt for.

    Attributes:
        names: packages of the base's own sources, with all they need.
        files: packages that are here already; without any names, what they need has to be among them or in the base.
        release: a release of Kubernetes, such as v1.31.4, that makes the base a kubeadm node; none if empty.
    """

    names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    release: str = ""

    @property
    def title(self) -> str:
        """What to call it in messages."""
        listed = (*self.names, *(path.name for path in self.files))
        some = ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
        kubernetes = f"packages of Kubernetes {self.release}" if self.release else ""
        return " and ".join(part for part in (kubernetes, f"packages {some}" if some else "") if part)

    @property
    def arguments(self) -> list[str]:
        """What apt-get is to install; the revision after a release of Kubernetes is the repository's own."""
        release = self.release.removeprefix("v")
        kubernetes = [*(f"{name}={release}-*" for name in PINNED), *OTHERS] if release else []
        return [*kubernetes, *self.names, *(str(path.absolute()) for path in self.files)]


def obtain(
    wanted: Wanted, base: Base, arch: str, cache: Cache, progress: Progress, *, policy: Policy | None = None
) -> tuple[Deb, ...]:
    """Return the packages that are wanted and all they need; those that the base has already are left out.

    Args:
        wanted: what to ask apt for.
        base: what they go into.
        arch: Debian's name of its architecture.
        cache: where they are kept.
        progress: where to show progress.
        policy: how patient to be with the network.

    Raises:
        MissingTool: there is no apt-get on this host.
        FetchError: there are no such packages, or they could not be reached.
        PibakeError: the base is none of packages.
    """
    find("apt-get", "resolve and download packages")
    files = [Deb(path, cache.sha256(path)) for path in wanted.files]
    asked = [
        base.sha256,
        arch,
        wanted.names,
        [file.sha256 for file in files],
        _repository(wanted.release),
        wanted.release,
        _mirror(),
    ]
    identity = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    folder = made(cache.root / "packages") / f"apt-{identity}"
    with cache.lock(folder.name, progress):
        if (found := _kept(folder, cache)) is not None:
            return (*found, *files)
        delete(folder)
        part = made(folder.with_name(f"{folder.name}.part"))
        with (
            tempfile.TemporaryDirectory(prefix="pibake-apt-") as name,
            progress.task(f"{wanted.title} for {base.name}", unit="%") as task,
            space.room(part / "packages", "keep packages"),
        ):
            task.update(0, note="reading the repositories")
            root = _Root(base, arch, wanted)
            config = root.write(Path(name), part, policy)
            if wanted.names or wanted.release:
                _apt(["update", "-o", "APT::Update::Error-Mode=any"], config, root)
            task.update(0.2, note="downloading")
            # What an earlier attempt got may have been superseded meanwhile.
            _apt(["autoclean"], config, root)
            _apt(["install", "--download-only", "--yes", *wanted.arguments], config, root)
        debs = {path.name: cache.sha256(path) for path in sorted(part.glob("*.deb"))}
        delete(part / "partial")
        (part / "lock").unlink(missing_ok=True)
        store(part / "packages.json", {"debs": debs})
        part.replace(folder)
        return (*(Deb(folder / name, digest) for name, digest in debs.items()), *files)


def _kept(folder: Path, cache: Cache) -> tuple[Deb, ...] | None:
    """Return the packages of an earlier run, if all of them are there and unchanged."""
    debs = load(folder / "packages.json").get("debs")
    if debs is None:
        return None
    sound = all(
        (folder / name).is_file() and cache.sha256(folder / name) == digest for name, digest in debs.items()
    )
    return tuple(Deb(folder / name, digest) for name, digest in debs.items()) if sound else None


def _repository(release: str) -> str:
    """Return the address of the repository with a release of Kubernetes."""
    minor = ".".join(release.split(".")[:2])
    address = os.environ.get("PIBAKE_KUBERNETES_URL", URL).rstrip("/")
    return f"{address}/stable:/{minor}/deb/"


def _mirror() -> str:
    """Return what takes the place of the scheme and host of every address in the base's own sources, if anything."""
    return os.environ.get("PIBAKE_APT_URL", "").rstrip("/")


class _Root:
    """What apt sees as the node's root folder: the base's own files, and the Kubernetes repository where it is wanted."""

    def __init__(self, base: Base, arch: str, wanted: Wanted) -> None:
        self.base, self.arch, self.wanted = base, arch, wanted
        self.repository = _repository(wanted.release) if wanted.release else ""
        files = Files(base.image, ext4.root_partition(base.image).start)
        names = ["etc/apt/sources.list", "etc/apt/preferences", "etc/apt/trusted.gpg", STATUS]
        for folder in SETTINGS:
            names += [f"{folder}/{name}" for name in sorted(files.listing(folder))]
        self.files = files.contents(names)
        if STATUS not in self.files:
            raise PibakeError(
                f"{base.name} is not made of Debian packages, so that none can be put into it",
                "leave `packages` out for nodes with this base, or give them a Debian or Ubuntu base",
            )

    def write(self, root: Path, archives: Path, policy: Policy | None) -> Path:
        """Write the root folder, and return apt's configuration."""
        for name, content in self.files.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_from_here(root, content) if "sources.list" in name else content)
        for folder in (
            "etc/apt/sources.list.d",
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt",
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (archives / "partial").mkdir(exist_ok=True)
        if self.repository:
            self._add_kubernetes(root, policy)
        config = root / "apt.conf"
        config.write_text(CONFIG.format(root=root, archives=archives.absolute(), arch=self.arch))
        return config

    def _add_kubernetes(self, root: Path, policy: Policy | None) -> None:
        key = root / "kubernetes.asc"
        ours = resources.path("images", "keys", KEY)
        key.write_bytes(
            ours.read_bytes() if ours.exists() else fetch.small(f"{self.repository}Release.key", policy)
        )
        source = f"deb [signed-by={key}] {self.repository} /\n"
        (root / "etc/apt/sources.list.d/pibake-kubernetes.list").write_text(source)


def _from_here(root: Path, sources: bytes) -> bytes:
    """Let the keys that sources name (sources.list(5), Signed-By) be found in the folder: apt would take this host's.

    A mirror takes the place of the sources' own hosts.
    """
    if mirror := _mirror():
        sources = re.sub(rb"https?://[^/\s]+", mirror.encode(), sources)
    return re.sub(
        rb"(?im)(signed-by\s*[:=])([^\]\n]*)",
        lambda found: found[1] + re.sub(rb"(?<![^\s,])/", os.fsencode(root) + b"/", found[2]),
        sources,
    )


def _apt(arguments: list[str], config: Path, root: _Root) -> None:
    argv = ["apt-get", "--quiet", *arguments]
    env = {"APT_CONFIG": str(config), "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(argv, why="get packages", env=env)
    except CommandFailed as error:
        said = [line.removeprefix("E: ") for line in error.output.splitlines() if line.startswith("E: ")]
        raise FetchError(
            f"the {root.wanted.title} for {root.base.name} cannot be had: "
            + ("; ".join(said) or error.message),
            _hint(root),
        ) from error


def _hint(root: _Root) -> str:
    if not root.wanted.names and not root.wanted.release:
        return "what the files need has to be among them or in the base, unless the list names packages, too"
    named = f"{root.repository} (PIBAKE_KUBERNETES_URL names a mirror) and in " if root.repository else ""
    return f"apt looked in {named}the base's own sources; PIBAKE_APT_URL points at a mirror of those"
