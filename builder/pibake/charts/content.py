"""What is in a chart: a .tgz with one folder, whose Chart.yaml says which chart it is (Helm documentation, "Charts")."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import yaml

from pibake.errors import PibakeError
from pibake.seed.archive import tar
from pibake.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 1 << 20
"""Bytes of a Chart.yaml that are read."""
NO_CHART = "`helm package FOLDER` makes one"
LEFT_OUT = (".git", ".helmignore", ".DS_Store")


def packed(path: Path) -> bytes:
    """Return a chart of the user's: a .tgz as it is, a folder packed so that the same files give the same bytes.

    Raises:
        PibakeError: it is no chart, or lacks charts that it depends on.
    """
    if not path.is_dir():
        data = path.read_bytes()
        described(data, str(path))
        return data
    description = path / "Chart.yaml"
    facts = _facts(description.read_bytes() if description.is_file() else b"", str(path))
    inside = {name: file for name, file in Tree.read(path) if not set(name.split("/")) & set(LEFT_OUT)}
    brought = {name.split("/")[1] for name in inside if name.startswith("charts/")}
    for needed in facts.get("dependencies") or ():
        name = needed["name"]
        if not any(one == name or one.startswith(f"{name}-") for one in brought):
            raise PibakeError(
                f"{path} needs the chart {name}, which is not in its charts/", f"helm dependency build {path}"
            )
    return gzip.compress(
        tar(Tree({f"{facts['name']}/{name}": file for name, file in inside.items()})), mtime=0
    )


def described(data: bytes, source: str) -> dict[str, Any]:
    """Return what the Chart.yaml in a .tgz says (Helm documentation, "Charts: The Chart.yaml File").

    Raises:
        PibakeError: `source` is no chart.
    """
    text = None
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in archive:  # to the end, which one that was cut short does not have
                if member.isfile() and member.name.removeprefix("./").split("/")[1:] == ["Chart.yaml"]:
                    reader = archive.extractfile(member)
                    text = reader.read(SMALL) if reader else None
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PibakeError(f"{source} is no chart: {error}", NO_CHART) from error
    if text is None:
        raise PibakeError(f"{source} is no chart: no NAME/Chart.yaml is in it", NO_CHART)
    return _facts(text, source)


def _facts(text: bytes, source: str) -> dict[str, Any]:
    """Return a Chart.yaml as it is typed."""
    try:
        facts = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes strings only
        names = [facts["name"], facts["version"], *(one["name"] for one in facts.get("dependencies") or ())]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise PibakeError(
            f"{source} is no chart: its Chart.yaml names no name and version", NO_CHART
        ) from error
    if not all(isinstance(name, str) and re.fullmatch(r"[\w.+-]+", name) for name in names):
        raise PibakeError(f"{source} is no chart: {names[0]!r} {names[1]!r} is no name and version", NO_CHART)
    return dict(facts)
