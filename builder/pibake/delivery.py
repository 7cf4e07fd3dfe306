"""How add-ons get onto nodes: what of them goes into golden images.

The first server has every manifest: k3s applies what lies in its folder by itself, on kubeadm `pibake-addons.service` does.
With `airgap`, all members have the container images. Secrets are in none of these: they come with the first server's seed
(`pibake.kube`).

    addons/<sha256>.yaml      in the cache: a manifest, as it was rendered
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake import charts, containers, kubeyaml, payload
from pibake.cache import made
from pibake.config.userfiles import fault_of, items
from pibake.errors import PibakeError, about
from pibake.fsys import write
from pibake.image.golden import Payload, PayloadFile, PayloadFolder
from pibake.kube import addons, kubeadm, vip
from pibake.kube.k3s import MANIFESTS
from pibake.pins import FILE, Downloads, Pins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.plan import Kubernetes, Plan
    from pibake.progress import Progress
    from pibake.web import Policy

OLDEST = 18
"""The minor release from which on an API server applies objects itself (Kubernetes documentation, "Server-Side Apply": beta)."""
PRIVATE = 0o600


@dataclass(frozen=True)
class Delivery:
    """The add-ons of a plan on their way into golden images; each thing is obtained once, when it is first asked for."""

    plan: Plan
    kubernetes: Kubernetes
    cache: Cache
    progress: Progress
    policy: Policy | None = None

    def members(self, arch: str) -> Payload:
        """Return what all members have.

        Args:
            arch: Debian's name of their architecture.

        Raises:
            FetchError: an image could not be had.
            VerificationError: one is not what it should be.
        """
        if not (self.kubernetes.airgap and self.images):
            return Payload(arch=arch)
        folder = payload.K3S_IMAGES if self.kubernetes.distribution == "k3s" else payload.IMAGES
        files = [
            PayloadFile(f"{folder}/{one.file_name}", one.path, 0o644, one.sha256)
            for one in containers.obtain(self.images, arch, self._downloads)
        ]
        return Payload(tuple(files), arch=arch)

    @property
    def starts(self) -> bool:
        """Whether the first server gets anything beside what all members have."""
        return bool(self.plan.addons) or _has_manifests(self.kubernetes)

    def first(self, arch: str) -> Payload:
        """Return what the first server has beside that: manifests, and what applies them.

        Raises:
            FetchError: a chart or a manifest could not be had.
            VerificationError: one is not what it should be.
        """
        if self.kubernetes.distribution == "k3s":
            files = [
                self._file(f"{MANIFESTS}/pibake-{number:02}-{one.name}.yaml", one.dump())
                for number, one in enumerate(self.manifests)
            ]
            # as k3s makes it
            return Payload(
                tuple(files), folders=(PayloadFolder(MANIFESTS.rpartition("/")[0], 0o700),), arch=arch
            )
        if kubeadm.minor(self.kubernetes.version) < OLDEST:
            raise PibakeError(
                f"add-ons and manifests need Kubernetes 1.{OLDEST}, whose API server applies objects itself; this is {self.kubernetes.version}",
                "take a newer release, or apply them yourself",
            )
        files = [
            self._file(f"{kubeadm.ADDONS}/{number:02}-{one.name}.yaml", one.dump())
            for number, one in enumerate(self.manifests)
        ]
        files += [
            PayloadFile(f"{kubeadm.ADDONS}/00-{path.name}", path, PRIVATE, self.cache.sha256(path))
            for path in self._bundled(arch)
        ]
        own = Payload(tuple(files), folders=(PayloadFolder(kubeadm.ADDONS, 0o700),), arch=arch)
        return payload.own("addons") | own

    @functools.cached_property
    def manifests(self) -> tuple[addons.Manifest, ...]:
        """The manifests of all add-ons, with the charts that nodes cannot get themselves."""
        inline = {
            addon.name: charts.chart(addon.name, addon.chart, self._downloads)
            for addon in self.plan.addons
            if addon.chart and (addon.chart.file or self.kubernetes.airgap)
        }
        return addons.render(self.plan, inline, self._remote)

    @functools.cached_property
    def images(self) -> tuple[str, ...]:
        """The names of all container images of add-ons: those that are listed, and those in plain objects."""
        rendered = addons.render(self.plan, None, self._remote)
        plain = [name for manifest in rendered for item in manifest.objects for name in _images(item)]
        return tuple(dict.fromkeys([*self._listed, *plain]))

    @property
    def _listed(self) -> tuple[str, ...]:
        """The names of images that can be told before anything is downloaded."""
        own = (vip.IMAGE,) if self.kubernetes.vip and not self.kubernetes.bundle else ()
        return (*(name for addon in self.plan.addons for name in addon.images), *own)

    def missing(self) -> Iterator[str]:
        """Yield what a build would download for add-ons, as people read it."""
        for addon in self.plan.addons:
            chart, remote = addon.chart, addon.remote
            inline = chart and chart.repo and self.kubernetes.airgap
            if chart and inline and not charts.known(addon.name, chart, self._downloads):
                yield f"the chart {chart.name} {chart.version} from {chart.repo}"
            if remote and not charts.known(addon.name, remote, self._downloads):
                yield f"the manifest {remote.url} ({addon.name} {remote.version})"
        if self.kubernetes.airgap:
            for name in self._listed:
                if not containers.known(name, self._downloads):
                    yield f"the image {name}"

    def unlisted(self) -> tuple[str, ...]:
        """Return the names of add-ons that will ask registries although `airgap` is on: nobody says what their charts run."""
        return tuple(
            addon.name
            for addon in self.plan.addons
            if self.kubernetes.airgap and addon.chart and not addon.images
        )

    @functools.cached_property
    def _remote(self) -> Mapping[str, tuple[dict[str, Any], ...]]:
        """The objects of manifests that others publish, by add-on."""
        found = {}
        for addon in self.plan.addons:
            if addon.remote:
                data = charts.manifest(addon.name, addon.remote, self._downloads)
                with about(f"add-on {addon.name}"):
                    found[addon.name] = _objects(data, addon.remote.url)
        return found

    @functools.cached_property
    def _pins(self) -> Pins:
        assert self.plan.folder is not None  # noqa: S101 - without a cluster.yaml there are no add-ons
        return Pins(self.plan.folder / FILE, self.cache, self.progress)

    @property
    def _downloads(self) -> Downloads:
        return Downloads(self._pins, self.cache, self.progress, self.policy)

    def _bundled(self, arch: str) -> tuple[Path, ...]:
        """Return the manifests of a bundle, which must have what applies them, too."""
        folder = self.kubernetes.bundle
        if folder is None:
            return ()
        brought = payload.read_bundle(folder, self.kubernetes.version, arch, self.cache)
        if not brought.debs and "kubectl" not in {path.name for path in brought.bin}:
            raise PibakeError(
                f"the bundle {folder} has no bin/kubectl, and no packages either",
                "the first server applies add-ons and manifests with it",
            )
        return brought.manifests

    def _file(self, path: str, text: str) -> PayloadFile:
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        source = made(self.cache.root / "addons") / f"{digest}.yaml"
        write(source, data, PRIVATE)
        return PayloadFile(path, source, PRIVATE, digest)


def of(plan: Plan, cache: Cache, progress: Progress, *, policy: Policy | None = None) -> Delivery | None:
    """Return what brings a plan's add-ons; None where nothing is to be brought."""
    kubernetes = plan.kubernetes
    if kubernetes is None:
        return None
    brings = Delivery(plan, kubernetes, cache, progress, policy)
    return brings if brings.starts or kubernetes.airgap else None


def _has_manifests(kubernetes: Kubernetes) -> bool:
    """Tell whether a bundle has manifests to apply, which k3s' have not."""
    folder = kubernetes.bundle if kubernetes.distribution == "kubeadm" else None
    return folder is not None and any((folder / "manifests").glob("*"))


def _objects(data: bytes, url: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of a manifest that somebody publishes."""
    try:
        documents = [document for document, _ in kubeyaml.load_all(data.decode())]
    except (kubeyaml.NotYAML, UnicodeDecodeError) as error:
        raise PibakeError(f"{url} is no YAML: {error}", "is it the right address?") from error
    found = tuple(item for document in documents for _, item in items(document))
    for item in found:
        if fault := fault_of(item):
            raise PibakeError(f"{url} holds something that is no object: {fault}", "is it the right address?")
    return found


def _images(item: Any) -> Iterator[str]:
    """Yield the images of containers anywhere in an object (Kubernetes API, PodSpec)."""
    if isinstance(item, list):
        for one in item:
            yield from _images(one)
    elif isinstance(item, dict):
        for key, value in item.items():
            if key in {"containers", "initContainers"} and isinstance(value, list):
                yield from (
                    one["image"]
                    for one in value
                    if isinstance(one, dict) and isinstance(one.get("image"), str)
                )
            else:
                yield from _images(value)
