"""The shape of add-ons of one's own in a cluster.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from pibake.config import leaves
from pibake.config.shapes import Strict


class RepoChart(Strict):
    """A Helm chart of a repository."""

    repo: leaves.ChartRepo = Field(
        description="The chart repository, or the folder of an OCI registry that the chart is in.",
        examples=["https://charts.example.org", "oci://ghcr.io/example/charts"],
    )
    name: leaves.ChartName = Field(description="Name of the chart.", examples=["my-app"])
    version: leaves.ChartVersion = Field(description="Version of the chart.", examples=["1.2.3"])
    sha256: leaves.Sha256 | None = Field(
        default=None,
        description="SHA-256 digest of the chart's .tgz; pinned at the first download unless set.",
        examples=["9f86d081...0f00a08"],
    )


class FileChart(Strict):
    """A Helm chart beside cluster.yaml."""

    file: leaves.FilePath = Field(
        description="A chart's .tgz, or its folder.", examples=["charts/my-app-1.2.3.tgz"]
    )


Chart = Annotated[
    Annotated[RepoChart, Tag("<repo>")] | Annotated[FileChart, Tag("<file>")],
    Discriminator(leaves.chart_branch),
]


class OwnAddon(Strict):
    """An add-on of the user's: a chart, manifests, or a kustomization."""

    chart: Chart | None = Field(
        default=None,
        description="A Helm chart.",
        examples=[{"repo": "https://charts.example.org", "name": "my-app", "version": "1.2.3"}],
    )
    manifests: leaves.FilePath | None = Field(
        default=None,
        description="A file of manifests, or a folder of such files, applied as they are.",
        examples=["manifests/"],
    )
    kustomization: leaves.FilePath | None = Field(
        default=None,
        description="A folder with a kustomization.yaml, which `kubectl kustomize` builds.",
        examples=["deploy/"],
    )
    namespace: leaves.Namespace | None = Field(
        default=None,
        description="Where a chart is installed; the add-on's own name unless set.",
        examples=["apps"],
    )
    values: leaves.FilePath | None = Field(
        default=None, description="A chart's values, a YAML file.", examples=["my-app.yaml"]
    )
    images: tuple[leaves.ImageName, ...] = Field(
        default=(),
        description="With `airgap`: the container images that it runs.",
        examples=[["docker.io/library/nginx:1.29"]],
    )
