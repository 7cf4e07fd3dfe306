"""What a golden image holds beside the base: packages, Kubernetes and container images, and units that a base lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pibake import apt, bundle, release, resources
from pibake import arch as processor
from pibake.cache import made
from pibake.errors import PibakeError, about
from pibake.image.artifact import sha256
from pibake.image.debs import Deb
from pibake.image.golden import Payload, PayloadFile

if TYPE_CHECKING:
    from collections.abc import Mapping
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
        """Return whether container images are baked in: of k3s here, of add-ons by `pibake.delivery`."""

    @property
    def bundle(self) -> Path | None:
        """Return the folder that takes the place of downloads."""


def obtain(
    kubernetes: Kubernetes | None,
    base: Base,
    cache: Cache,
    progress: Progress,
    *,
    arch: str = "arm64",
    packages: apt.Wanted = apt.Wanted(),  # noqa: B008 - immutable
    policy: Policy | None = None,
) -> Payload:
    """Return packages and Kubernetes for nodes, from the cache, a bundle or the network.

    Args:
        kubernetes: which Kubernetes, if any.
        base: what it goes into; packages are chosen to fit it.
        cache: where downloads are kept.
        progress: where to show progress.
        arch: Debian's name of the base's architecture, "arm64" or "armhf".
        packages: further packages.
        policy: how patient to be with the network.

    Raises:
        FetchError: a download could not be had.
        VerificationError: a file is not what its publisher says.
        PibakeError: a bundle is of another version or processor, or holds what does not belong there.
    """
    found, units = Payload(arch=arch), []
    if kubernetes:
        with about(f"kubernetes {kubernetes.version}"):
            found |= _of(kubernetes, arch, cache, progress, policy)
        found |= own("node", "kubernetes", kubernetes.distribution)
        units.append("pibake-join.service")
        if kubernetes.distribution == "kubeadm" and not kubernetes.bundle:
            packages = replace(packages, release=kubernetes.version)
    if packages.arguments:
        found |= Payload(debs=apt.obtain(packages, base, arch, cache, progress, policy=policy))
    if packages.arguments or (kubernetes and kubernetes.distribution == "kubeadm"):
        # also where the base has all of them: seeds go by what is asked for; what is not configured yet is configured
        # from early in the boot on, while cloud-init does its part
        found |= own("node", "packages")
        units += ["pibake-join.service", "pibake-install.service"]
    return found | Payload(links={path: to for unit in units for path, to in _enabled(unit).items()})


def _of(
    kubernetes: Kubernetes, arch: str, cache: Cache, progress: Progress, policy: Policy | None
) -> Payload:
    """Return Kubernetes itself, without packages of any repository."""
    if kubernetes.distribution == "k3s":
        return _k3s(kubernetes, arch, cache, progress, policy)
    if kubernetes.distribution != "kubeadm":
        raise PibakeError(f"there is no distribution {kubernetes.distribution!r}; there are k3s and kubeadm")
    brought = Payload()
    if kubernetes.bundle:
        brought = _kubeadm(read_bundle(kubernetes.bundle, kubernetes.version, arch, cache), arch, cache)
    release = made(cache.root / "kubernetes") / f"release-{kubernetes.version}"
    release.write_text(f"{kubernetes.version}\n")
    return brought | Payload((PayloadFile(RELEASE, release, 0o644, sha256(release)),))


def with_seed_unit(payload: Payload, system: System, cache: Cache) -> Payload:
    """Add the unit that takes a seed apart on a system whose cloud-init cannot, or which has none.

    What would come between is taken out of the way: units that ask questions or make host keys of their own, and a
    machine-id that all nodes would share (systemd makes one where the file is empty: machine-id(5)).
    """
    # CentOS 7 has no Python 3: a plain machine there is told how it goes by a shell script
    found = payload | own("node", "seed", *(() if system.python else ("shell",)))
    empty = PayloadFile("etc/machine-id", _empty(cache), 0o444, sha256(_empty(cache)))
    links = {
        **_enabled("pibake-join.service"),
        **_enabled("pibake-seed.service", "sysinit.target"),
        "var/lib/dbus/machine-id": "/etc/machine-id",
        **{f"etc/systemd/system/{unit}": "/dev/null" for unit in (*system.wizard, *IN_THE_WAY)},
    }
    return found | Payload((empty,), links=links)


def with_part(payload: Payload, part: str) -> Payload:
    """Add one of `PARTS`: its files, and its units enabled."""
    names, units = PARTS[part]
    return payload | own(*names) | Payload(links=dict(units))


def own(*names: str) -> Payload:
    """Return the files of pibake's own overlays; a later one's take the place of an earlier one's."""
    files = {
        path.relative_to(root): PayloadFile(
            path.relative_to(root).as_posix(),
            path,
            0o755 if path.stat().st_mode & 0o100 else 0o644,
            sha256(path),
        )
        for root in (resources.path("overlays", name) for name in names)
        for path in resources.below(root)
        if path.is_file()
    }
    return Payload(tuple(files.values()))


def _enabled(unit: str, target: str = "multi-user.target") -> dict[str, str]:
    """Return the link that `systemctl enable` would make."""
    return {f"etc/systemd/system/{target}.wants/{unit}": f"/etc/systemd/system/{unit}"}


PARTS: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "disks": (("node", "disks"), {**_enabled("pibake-join.service"), **_enabled("pibake-disks.service")}),
    # the firewall is there before any port is up
    "head": (
        ("head",),
        {**_enabled("pibake-firewall.service", "sysinit.target"), **_enabled("pibake-dnsmasq.service")},
    ),
    # avahi's unit is its package's, which starts nothing while a node boots
    "mdns": (
        ("mdns",),
        {f"{WANTS}/avahi-daemon.service": "/lib/systemd/system/avahi-daemon.service"},
    ),
}
"""What single nodes get of pibake's own: overlays, and the links that enable units."""


def _k3s(
    kubernetes: Kubernetes, arch: str, cache: Cache, progress: Progress, policy: Policy | None
) -> Payload:
    files = []
    if kubernetes.bundle:
        brought = read_bundle(kubernetes.bundle, kubernetes.version, arch, cache, described=False)
        misplaced = [*brought.cni, *brought.debs, *brought.manifests]
        misplaced += [path for path in brought.bin if path.name != "k3s"]
        if misplaced:
            raise PibakeError(
                f"{misplaced[0]} is of no use for k3s", "a bundle for k3s holds bin/k3s and images/ only"
            )
        files = [_file("usr/local/bin", path, cache, 0o755) for path in brought.bin]
        files += [_file(K3S_IMAGES, path, cache) for path in brought.images]
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


def read_bundle(
    folder: Path, version: str, arch: str, cache: Cache, *, described: bool = True
) -> bundle.Bundle:
    """Return what a bundle holds, as `bundle.read` does; archives of images, which are large, are looked into only if they were touched."""

    def fit(path: Path) -> str:
        processor.check_images(path, arch)
        return "fit"

    def judge(path: Path, arch: str) -> None:
        cache.known(path, f"images for {arch}", fit)

    return bundle.read(folder, version, arch, described=described, judge=judge)


def _kubeadm(brought: bundle.Bundle, arch: str, cache: Cache) -> Payload:
    names = {path.name for path in brought.bin}
    missing = {"kubeadm", "kubelet"} - names
    if missing and not brought.debs:
        raise PibakeError(
            f"the bundle {brought.folder} has no bin/{min(missing)}, and no packages either",
            "a node needs kubeadm and kubelet, from bin/ or from debs/",
        )
    files = [_file("usr/bin", path, cache, 0o755) for path in brought.bin]
    files += [_file("opt/cni/bin", path, cache, 0o755) for path in brought.cni]
    files += [_file(IMAGES, path, cache) for path in brought.images]
    links = {}
    if "kubelet" in names:
        unit = resources.path("overlays", "kubelet", "usr/lib/systemd/system/kubelet.service")
        files.append(_file("usr/lib/systemd/system", unit, cache))
        links[f"{WANTS}/kubelet.service"] = "/usr/lib/systemd/system/kubelet.service"
    debs = tuple(Deb(path, cache.sha256(path)) for path in brought.debs)
    return Payload(tuple(files), debs, links, arch)


def _file(folder: str, source: Path, cache: Cache, mode: int = 0o644) -> PayloadFile:
    return PayloadFile(f"{folder}/{source.name}", source, mode, cache.sha256(source))
