"""Add-ons of the user's own: charts, manifests and kustomizations."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pibake import offers
from pibake.config import check, model_addons, names, userfiles
from pibake.config.addon import Addon, ChartRef, apart
from pibake.config.problems import Bad, Loc, nearest, show

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.config.addon_files import Finder

KINDS = ("chart", "manifests", "kustomization")
"""What an add-on of the user's is made from: one of these."""
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""What kubectl looks for in a folder."""
RESERVED = ("secrets",)
LONGEST = 40
"""Helm names releases with 53 characters at most, and charts add to that for their own objects."""


def read(finder: Finder, data: Any, name: str, written: dict[str, Any]) -> None:
    """Read one, `written` as it was typed."""
    loc: Loc = ("addons", name)
    kinds = [key for key in KINDS if key in written]
    if not kinds:
        hint = nearest(name, offers.names()) or (
            "`pibake addons list` shows the catalogue; one of your own has a chart, manifests or a kustomization"
        )
        finder.tell(loc, f"{show(name)} is no add-on of the catalogue", hint, on_key=True)
        return
    if bad := _bad_name(name):
        finder.tell(loc, bad.message, bad.hint, on_key=True)
    typed, problems = check.own_addon(data, name)
    finder.problems += problems
    for key in kinds[1:]:
        message = f"`{kinds[0]}` and `{key}` stand side by side"
        finder.tell((*loc, key), message, "give each an add-on of its own", on_key=True)
    for key in ("values", "namespace"):
        if key in written and "chart" not in written:
            finder.tell((*loc, key), f"`{key}` is for charts", "remove the line", on_key=True)
    if typed is None or len(kinds) > 1:
        return
    if typed.chart:
        _chart(finder, name, typed, loc)
    elif typed.manifests:
        _manifests(finder, name, typed.manifests, typed.images, loc)
    elif typed.kustomization and (
        folder := _kustomization(finder, (*loc, "kustomization"), typed.kustomization)
    ):
        finder.found.append(Addon(name, kustomization=folder, images=typed.images))


def _chart(finder: Finder, name: str, typed: model_addons.OwnAddon, loc: Loc) -> None:
    values = finder.values((*loc, "values"), typed.values)
    match typed.chart:
        case model_addons.RepoChart(repo=repo, name=chart, version=version, sha256=digest):
            ref = ChartRef(chart, repo, version, digest or "")
        case model_addons.FileChart(file=written):
            path = finder.files.path(written)
            if not (path.is_file() or (path / "Chart.yaml").is_file()):
                what = "holds no Chart.yaml" if path.is_dir() else "is not there"
                finder.tell(
                    (*loc, "chart", "file"),
                    f"the chart {show(written)} {what}",
                    f"it was looked for at {path}",
                )
                return
            ref = ChartRef(name, file=path)
        case _:
            return
    finder.found.append(
        Addon(
            name,
            chart=ref,
            namespace=typed.namespace or name,
            values=values[0] if values else None,
            overrides=MappingProxyType(values[1] if values else {}),
            images=typed.images,
        )
    )


def _manifests(finder: Finder, name: str, written: str, images: tuple[str, ...], loc: Loc) -> None:
    place, path = (*loc, "manifests"), finder.files.path(written)
    paths = (path,) if path.is_file() else _folder(path)
    if not paths:
        what = "holds no manifest" if path.is_dir() else "is not there"
        hint = "their names end in .yaml, .yml or .json" if path.is_dir() else f"it was looked for at {path}"
        finder.tell(place, f"{show(written)} {what}", hint)
        return
    objects: list[dict[str, Any]] = []
    for one in paths:
        if one.name in KUSTOMIZATIONS:
            finder.tell(place, f"{show(written)} is a kustomization", f"write `kustomization: {written}`")
            return
        try:
            objects += userfiles.manifests(one)
        except userfiles.Wrong as wrong:
            finder.files.elsewhere.append(str(wrong))
        except Bad as bad:
            finder.tell(place, f"cannot use {show(one.name)}: {bad.message}", bad.hint)
        else:
            finder.files.read.append(one)
    plain, secret = apart(objects)
    finder.found.append(Addon(name, manifests=paths, objects=plain, own_secrets=secret, images=images))


def _kustomization(finder: Finder, place: Loc, written: str) -> Path | None:
    folder = finder.files.path(written)
    if any((folder / name).is_file() for name in KUSTOMIZATIONS):
        return folder
    what = "has no kustomization.yaml" if folder.is_dir() else "is no folder"
    finder.tell(place, f"{show(written)} {what}", f"it was looked for at {folder}")
    return None


def _folder(path: Path) -> tuple[Path, ...]:
    return tuple(sorted(one for one in path.rglob("*") if one.suffix in userfiles.SUFFIXES and one.is_file()))


def _bad_name(name: str) -> Bad | None:
    try:
        names.label(name)
    except Bad as bad:
        return bad
    if name in RESERVED:
        return Bad(f"{name} is what pibake calls its own manifest of secrets", "give the add-on another name")
    if len(name) > LONGEST:
        return Bad(f"{show(name)} has more than {LONGEST} characters", "shorten it")
    return None
