"""What a golden image holds beside the base: Kubernetes and container images, and units that a base lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pibake import apt, bundle, release, resources
from pibake.cache import made
from pibake.errors import PibakeError, about
from pibake.image.artifact import sha256
from pibake.image.golden import Payload, PayloadFile

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.progress import Progress
    from pibake.system import System
    from pibake.web import Policy

K3S_IMAGES = "var/lib/rancher/k3s/agent/images"
"""Where k3s looks for archives to import at every start."""
K3S_LINKS = {f"usr/local/bin/{name}": "k3s" for name in ("kubectl", "crictl", "ctr")}
"""Names under which k3s is another program, as its installer makes them."""
IMAGES = "var/lib/pibake/images"
MANIFESTS = "var/lib/pibake/manifests"
RELEASE = "usr/local/lib/pibake/kubernetes-release"
"""Tells `pibake-install` which release to get ready for, before the seed is there."""
IN_THE_WAY = ("regenerate_ssh_host_keys.service", "sshswitch.service")
"""Raspberry Pi OS: makes new host keys in place of the card's, and turns SSH off where nobody asked for it."""
WANTS = "etc/systemd/system/multi-user.target.wants"


class Kubernetes(Protocol):
    """What of the plan decides the payload."""

    @property
    def distribution(self) -> str:
        """Return "k3s" or "kubeadm"."""

    @property
    def version(self) -> str:
        """Return the release, with its `v`."""

    @property
    def airgap(self) -> bool:
        """Return whether k3s' own container images are baked in."""

    @property
    def bundle(self) -> Path | None:
        """Return the folder that takes the place of downloads."""


def obtain(
    kubernetes: Kubernetes,
    base: Base,
    cache: Cache,
    progress: Progress,
    *,
    arch: str = "arm64",
    policy: Policy | None = None,
) -> Payload:
    """Return the payload of the nodes of a cluster, from the cache, a bundle or the network.

    Args:
        kubernetes: which Kubernetes.
        base: what it goes into; packages are chosen to fit it.
        cache: where downloads are kept.
        progress: where to show progress.
        arch: Debian's name of the base's architecture, "arm64" or "armhf".
        policy: how patient to be with the network.

    Raises:
        FetchError: a download could not be had.
        VerificationError: a file is not what its publisher says.
        PibakeError: a bundle is of another version or processor, or holds what does not belong there.
    """
    with about(f"kubernetes {kubernetes.version}"):
        if kubernetes.distribution == "k3s":
            return _with_overlays(_k3s(kubernetes, arch, cache, progress, policy), "k3s")
        if kubernetes.distribution == "kubeadm" and kubernetes.bundle:
            brought = _kubeadm(bundle.read(kubernetes.bundle, kubernetes.version, arch), arch)
            return _with_overlays(_early(brought, kubernetes, cache), "kubeadm")
        if kubernetes.distribution == "kubeadm":
            packages = apt.obtain(kubernetes.version, base, arch, cache, progress, policy=policy)
            return _with_overlays(_early(Payload(debs=packages, arch=arch), kubernetes, cache), "kubeadm")
    raise PibakeError(f"there is no distribution {kubernetes.distribution!r}; there are k3s and kubeadm")


def with_seed_unit(payload: Payload, system: System, cache: Cache) -> Payload:
    """Add the unit that takes a seed apart on a system whose cloud-init cannot, or which has none.

    What would come between is taken out of the way: units that ask questions or make host keys of their own, and a
    machine-id that all nodes would share (systemd makes one where the file is empty: machine-id(5)).
    """
    # CentOS 7 has no Python 3: a plain machine there is told how it goes by a shell script
    names = ("seed", *(() if payload.key else ("node",)), *(() if system.python else ("shell",)))
    have = {file.path for file in _overlays(*names)}
    files = [*(file for file in payload.files if file.path not in have), *_overlays(*names)]
    files.append(PayloadFile("etc/machine-id", _empty(cache), 0o444, sha256(_empty(cache))))
    links = {
        **payload.links,
        **_enabled("pibake-join.service"),
        **_enabled("pibake-seed.service", "sysinit.target"),
        "var/lib/dbus/machine-id": "/etc/machine-id",
        **{f"etc/systemd/system/{unit}": "/dev/null" for unit in (*system.wizard, *IN_THE_WAY)},
    }
    return replace(payload, files=tuple(files), links=links)


def _with_overlays(payload: Payload, distribution: str) -> Payload:
    """Add pibake's own files that are the same on every member, with the joining unit enabled."""
    files = _overlays("node", "kubernetes", distribution)
    return replace(
        payload,
        files=(*payload.files, *files),
        links={**payload.links, **_enabled("pibake-join.service")},
    )


def _overlays(*names: str) -> list[PayloadFile]:
    """Return the files of pibake's own overlays; a later one's take the place of an earlier one's."""
    files = {
        path.relative_to(root): _file(
            path.parent.relative_to(root).as_posix(), path, 0o755 if path.stat().st_mode & 0o100 else 0o644
        )
        for root in (resources.path("overlays", name) for name in names)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    return list(files.values())


def _enabled(unit: str, target: str = "multi-user.target") -> dict[str, str]:
    """Return the link that `systemctl enable` would make."""
    return {f"etc/systemd/system/{target}.wants/{unit}": f"/etc/systemd/system/{unit}"}


def _k3s(
    kubernetes: Kubernetes, arch: str, cache: Cache, progress: Progress, policy: Policy | None
) -> Payload:
    files = []
    if kubernetes.bundle:
        brought = bundle.read(kubernetes.bundle, kubernetes.version, arch, described=False)
        misplaced = [*brought.cni, *brought.debs, *brought.manifests]
        misplaced += [path for path in brought.bin if path.name != "k3s"]
        if misplaced:
            raise PibakeError(
                f"{misplaced[0]} is of no use for k3s", "a bundle for k3s holds bin/k3s and images/ only"
            )
        files = [_file("usr/local/bin", path, 0o755) for path in brought.bin]
        files += [_file(K3S_IMAGES, path) for path in brought.images]
    have = {file.path for file in files}
    names, wanted = release.NAMES[arch], []
    if "usr/local/bin/k3s" not in have:
        wanted.append(names.binary)
    if kubernetes.airgap and not any(path.startswith(K3S_IMAGES) for path in have):
        wanted.append(names.images)
    assets = (
        release.k3s(kubernetes.version, tuple(wanted), arch, cache, progress, policy=policy) if wanted else ()
    )
    for asset in assets:
        binary = asset.path.name == names.binary
        path = "usr/local/bin/k3s" if binary else f"{K3S_IMAGES}/{asset.path.name}"
        files.append(PayloadFile(path, asset.path, 0o755 if binary else 0o644, asset.sha256))
    if any(file.path.startswith(K3S_IMAGES) for file in files):
        files.append(_import_once(cache))
    return Payload(tuple(files), (), K3S_LINKS, arch)


def _import_once(cache: Cache) -> PayloadFile:
    """Return the marker that makes k3s remember which archives it has imported, instead of doing it at every start."""
    return PayloadFile(f"{K3S_IMAGES}/.cache.json", _empty(cache), 0o644, sha256(_empty(cache)))


def _empty(cache: Cache) -> Path:
    path = made(cache.root / "kubernetes") / "empty"
    path.touch()
    return path


def _early(payload: Payload, kubernetes: Kubernetes, cache: Cache) -> Payload:
    """Let what is not configured yet be configured from early in the boot on, while cloud-init does its part."""
    release = made(cache.root / "kubernetes") / f"release-{kubernetes.version}"
    release.write_text(f"{kubernetes.version}\n")
    files = (*payload.files, PayloadFile(RELEASE, release, 0o644, sha256(release)))
    return replace(payload, files=files, links={**payload.links, **_enabled("pibake-install.service")})


def _kubeadm(brought: bundle.Bundle, arch: str) -> Payload:
    names = {path.name for path in brought.bin}
    missing = {"kubeadm", "kubelet"} - names
    if missing and not brought.debs:
        raise PibakeError(
            f"the bundle {brought.folder} has no bin/{min(missing)}, and no packages either",
            "a node needs kubeadm and kubelet, from bin/ or from debs/",
        )
    files = [_file("usr/bin", path, 0o755) for path in brought.bin]
    files += [_file("opt/cni/bin", path, 0o755) for path in brought.cni]
    files += [_file(IMAGES, path) for path in brought.images]
    files += [_file(MANIFESTS, path) for path in brought.manifests]
    links = {}
    if "kubelet" in names:
        unit = resources.path("overlays", "kubelet", "usr/lib/systemd/system/kubelet.service")
        files.append(_file("usr/lib/systemd/system", unit))
        links[f"{WANTS}/kubelet.service"] = "/usr/lib/systemd/system/kubelet.service"
    return Payload(tuple(files), brought.debs, links, arch)


def _file(folder: str, source: Path, mode: int = 0o644) -> PayloadFile:
    return PayloadFile(f"{folder}/{source.name}", source, mode, sha256(source))
