"""Where charts come from: chart repositories and OCI registries."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import yaml

from pibake import fetch
from pibake.crew import Crew
from pibake.errors import FetchError, VerificationError
from pibake.progress import Meter
from pibake.share.artifact import Blob
from pibake.share.reference import Reference

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.charts import Arriving
    from pibake.plan import ChartRef

INDEX = 64 << 20
"""Bytes of an index.yaml at most: the largest public ones have some twenty million."""
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
"""The layer with a chart (Helm documentation, "Use OCI-based registries")."""
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""libyaml's where there is one: an index of twenty megabytes takes PyYAML's own minutes."""


def from_repository(ref: ChartRef, file: Arriving) -> Path:
    """Download a chart from where the index.yaml of its repository says it is."""
    downloads, url = file.downloads, f"{ref.repo.rstrip('/')}/index.yaml"
    with downloads.progress.task(f"look up {ref.name} {ref.version}", unit="%") as task:
        task.update(0, note=url)
        text = fetch.small(url, downloads.policy, INDEX, only_https=not file.sha256)
        place = _place(text, ref, url)
    return file.download(urljoin(url, place))


def _place(index: bytes, ref: ChartRef, url: str) -> str:
    """Return where an index says a chart is (Helm documentation, "The Chart Repository Guide: The index file")."""
    try:
        entries = yaml.load(index, _Loader)["entries"]  # noqa: S506 - makes strings only
        versions = {str(one["version"]): one for one in entries.get(ref.name) or ()}
        known = (
            versions.get(ref.version)
            or versions.get(f"v{ref.version}")
            or versions.get(ref.version.removeprefix("v"))
        )
        if known:
            return str(known["urls"][0])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise FetchError(
            f"{url} is no index of charts: {type(error).__name__}", "is `repo` the right address?"
        ) from error
    if not versions:
        close = difflib.get_close_matches(ref.name, entries, n=1) or sorted(entries)[:8]
        raise FetchError(f"{url} has no chart {ref.name}", f"it has {', '.join(map(str, close))}")
    raise FetchError(
        f"{url} has no version {ref.version} of {ref.name}", f"it has {', '.join(list(versions)[:8])}"
    )


def from_registry(ref: ChartRef, file: Arriving) -> Path:
    """Download a chart from an OCI registry, where its tag is its version with `_` for `+`."""
    from pibake.share.registry import Repository  # noqa: PLC0415 - two tenths of a second that only a registry should cost

    downloads = file.downloads
    name = f"{ref.repo.removeprefix('oci://').rstrip('/')}/{ref.name}:{ref.version.replace('+', '_')}"
    repository = Repository(Reference.parse(name), Crew(), downloads.policy, ours=False)
    layer = _layer(repository.manifest(), name)
    if file.sha256 and layer.sha256 != file.sha256:
        raise VerificationError(
            f"the sha256 of {name}", expected=file.sha256, got=layer.sha256, source=f"the add-on {file.addon}",
            hint="the registry has another chart under this version than the one that is meant",
        )  # fmt: skip
    with (
        downloads.progress.task(f"download {name}", total=layer.size) as task,
        file.part.open("w+b") as target,
    ):
        repository.get(layer, target, f"the chart {name}", Meter(task).add)
    return file.keep(layer.sha256, f"oci://{name}")


def _layer(manifest: bytes, name: str) -> Blob:
    """Return the blob with the chart."""
    try:
        layers = [layer for layer in json.loads(manifest)["layers"] if layer["mediaType"] == CONTENT]
        kind, _, digest = layers[0]["digest"].partition(":")
        if kind == "sha256" and re.fullmatch(r"[0-9a-f]{64}", digest):
            return Blob(digest, int(layers[0]["size"]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise FetchError(
            f"{name} holds no chart", "is `repo` the right address? The chart's name is added to it"
        ) from error
    raise FetchError(
        f"{name} names its chart by {kind}, which pibake does not know", "another version may do better"
    )
