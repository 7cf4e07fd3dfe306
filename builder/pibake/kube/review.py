"""What add-ons make of themselves, before anything is built: the catalogue's, and the user's own manifests.

A mistake in a file of the user's is told with its line, like one in the cluster.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pibake import kubeyaml
from pibake.config.problems import Span, display, render
from pibake.errors import ConfigError
from pibake.kube import schemas, validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pibake.kube.addons import Manifest
    from pibake.kube.validation import Problem
    from pibake.plan import Plan

NOWHERE = Span(0, 0, 0, 0)


@dataclass(frozen=True)
class _Document:
    """Where an object of the user's stands: its file, and which of the documents there it is, from 0."""

    file: Path
    number: int


def check(plan: Plan, manifests: Sequence[Manifest]) -> tuple[str, ...]:
    """Return what is in doubt with the objects of add-ons, as sentences.

    Args:
        plan: the whole cluster, with Kubernetes.
        manifests: what `pibake.kube.addons.render` made for it.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    if not plan.kubernetes:
        return ()
    version = plan.kubernetes.version
    found = list(_objects(plan, manifests))
    wrong: list[str] = []
    doubt: list[str] = []
    # all at once: what one of them defines, another may have
    for problem in validation.validate([thing for _, thing in found], version):
        source = found[problem.index][0]
        said = _say(problem, source) if isinstance(source, _Document) else f"{source}: {problem}"
        (doubt if problem.warning else wrong).append(said)
    note = schemas.told(version)
    if wrong:
        raise ConfigError(wrong, note)
    return (*doubt, note) if note and doubt else tuple(doubt)


def _objects(plan: Plan, manifests: Sequence[Manifest]) -> Iterator[tuple[_Document | str, Any]]:
    """Return all objects, each with where it comes from: the user's file, or an add-on that made it.

    A file is read once more, as its Secrets are in no plan and no manifest.
    """
    files = {addon.name: addon.manifests for addon in plan.addons if addon.manifests}
    for path in (path for paths in files.values() for path in paths):
        for number, (thing, _) in enumerate(kubeyaml.load_all(path.read_text("utf-8"))):
            yield _Document(path, number), thing
    for manifest in manifests:
        if manifest.name not in files:
            yield from ((f"add-on {manifest.name}", thing) for thing in manifest.objects)


def _say(problem: Problem, place: _Document) -> str:
    hidden = problem.subject.split(" ")[0] == "Secret"
    text = place.file.read_text("utf-8")
    span = locate(text, place.number, problem.path)
    where = f"{validation.dotted(problem.path)}: " if problem.path else ""
    return render(
        display(place.file),
        () if hidden else text.split("\n"),
        span,
        f"document {place.number + 1}, {problem.subject}: {where}{problem.message}",
        hint=problem.hint,
        secrets=(),
    )


def locate(text: str, number: int, path: validation.Path) -> Span:
    """Return where a field stands in a text of YAML: its key, or what it would stand in.

    Args:
        text: documents that can be read.
        number: which of those that hold anything, from 0.
        path: keys and positions from the top of the document.
    """
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    nodes = [node for node in yaml.compose_all(text, loader) if not _empty(node)]
    if number >= len(nodes):
        return NOWHERE
    node: Any = nodes[number]
    mark = node
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            mark, node = pairs.get(part, (mark, None))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            mark = node = node.value[part]
        else:
            break
    start, end = mark.start_mark, mark.end_mark
    return Span(start.line, start.column, end.line, end.column)


def _empty(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
