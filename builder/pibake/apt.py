"""Packages of the Kubernetes apt repository, with all they need of the base's own distribution, resolved by apt.

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
from pathlib import Path
from typing import TYPE_CHECKING

from pibake import fetch, resources
from pibake.cache import made
from pibake.errors import CommandFailed, FetchError
from pibake.fsys import delete, load, store
from pibake.image import ext4
from pibake.image.artifact import sha256
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


def obtain(
    version: str, base: Base, arch: str, cache: Cache, progress: Progress, *, policy: Policy | None = None
) -> tuple[Path, ...]:
    """Return the packages that make a base a kubeadm node of this version; those it has already are left out.

    Args:
        version: the release, such as v1.31.4.
        base: what they go into.
        arch: Debian's name of its architecture.
        cache: where they are kept.
        progress: where to show progress.
        policy: how patient to be with the network.

    Raises:
        MissingTool: there is no apt-get on this host.
        FetchError: the repositories have no such version, or could not be reached.
    """
    find("apt-get", "resolve and download the packages of Kubernetes")
    root = _Root(base, arch, version)
    folder = made(cache.root / "kubernetes") / f"apt-{root.identity()}"
    with cache.lock(folder.name, progress):
        if found := _kept(folder):
            return found
        delete(folder)
        part = made(folder.with_name(f"{folder.name}.part"))
        with (
            tempfile.TemporaryDirectory(prefix="pibake-apt-") as name,
            progress.task(f"packages of Kubernetes {version} for {base.name}", unit="%") as task,
        ):
            task.update(0, note="reading the repositories")
            config = root.write(Path(name), part, policy)
            _apt(["update", "-o", "APT::Update::Error-Mode=any"], config, root)
            task.update(0.2, note="downloading")
            # What an earlier attempt got may have been superseded meanwhile.
            _apt(["autoclean"], config, root)
            _apt(["install", "--download-only", "--yes", *root.wanted()], config, root)
        debs = {path.name: sha256(path) for path in sorted(part.glob("*.deb"))}
        delete(part / "partial")
        (part / "lock").unlink(missing_ok=True)
        store(part / "packages.json", debs)
        part.replace(folder)
        return tuple(folder / name for name in debs)


def _kept(folder: Path) -> tuple[Path, ...] | None:
    """Return the packages of an earlier run, if all of them are there and unchanged."""
    debs = load(folder / "packages.json")
    sound = all(
        (folder / name).is_file() and sha256(folder / name) == digest for name, digest in debs.items()
    )
    return tuple(folder / name for name in debs) if debs and sound else None


class _Root:
    """What apt sees as the node's root folder: the base's own files, and the Kubernetes repository."""

    def __init__(self, base: Base, arch: str, version: str) -> None:
        self.base, self.arch, self.version = base, arch, version
        minor = ".".join(version.split(".")[:2])
        address = os.environ.get("PIBAKE_KUBERNETES_URL", URL).rstrip("/")
        self.repository = f"{address}/stable:/{minor}/deb/"
        files = Files(base.image, ext4.root_partition(base.image).start)
        names = ["etc/apt/sources.list", "etc/apt/preferences", "etc/apt/trusted.gpg", STATUS]
        for folder in SETTINGS:
            names += [f"{folder}/{name}" for name in sorted(files.listing(folder))]
        self.files = {name: content for name in names if (content := files.read(name)) is not None}

    def identity(self) -> str:
        """Return what decides the outcome, as far as it is known without the network; the status file tells the architecture."""
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        whole = json.dumps([digests, self.repository, self.version], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def wanted(self) -> list[str]:
        """Return what to ask apt for; the revision after the version is the repository's own."""
        release = self.version.removeprefix("v")
        return [f"{name}={release}-*" for name in PINNED] + list(OTHERS)

    def write(self, root: Path, archives: Path, policy: Policy | None) -> Path:
        """Write the root folder, and return apt's configuration."""
        for name, content in self.files.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_with_keys_in(root, content) if "sources.list" in name else content)
        for folder in (
            "etc/apt/sources.list.d",
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt",
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (archives / "partial").mkdir(exist_ok=True)
        key = root / "kubernetes.asc"
        ours = resources.path("images", "keys", KEY)
        key.write_bytes(
            ours.read_bytes() if ours.exists() else fetch.small(f"{self.repository}Release.key", policy)
        )
        source = f"deb [signed-by={key}] {self.repository} /\n"
        (root / "etc/apt/sources.list.d/pibake-kubernetes.list").write_text(source)
        config = root / "apt.conf"
        config.write_text(CONFIG.format(root=root, archives=archives.absolute(), arch=self.arch))
        return config


def _with_keys_in(root: Path, sources: bytes) -> bytes:
    """Let the keys that sources name (sources.list(5), Signed-By) be found in the folder: apt would take this host's."""
    return re.sub(
        rb"(?im)(signed-by\s*[:=])([^\]\n]*)",
        lambda found: found[1] + re.sub(rb"(?<![^\s,])/", os.fsencode(root) + b"/", found[2]),
        sources,
    )


def _apt(arguments: list[str], config: Path, root: _Root) -> None:
    argv = ["apt-get", "--quiet", *arguments]
    env = {"APT_CONFIG": str(config), "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(argv, why="get the packages of Kubernetes", env=env)
    except CommandFailed as error:
        said = [line.removeprefix("E: ") for line in error.output.splitlines() if line.startswith("E: ")]
        raise FetchError(
            f"the packages of Kubernetes {root.version} for {root.base.name} cannot be had: "
            + ("; ".join(said) or error.message),
            f"apt looked in {root.repository} and in the base's own sources; PIBAKE_KUBERNETES_URL points at a mirror",
        ) from error
