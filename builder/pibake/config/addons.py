"""`addons:` of a cluster.yaml: each add-on's options, typed by the catalogue, and the files that they name."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pibake import offers
from pibake.config import own_addons, userfiles
from pibake.config.addon import Addon, ChartRef
from pibake.config.addon_files import Finder
from pibake.config.check import value
from pibake.config.options import Reader, default
from pibake.config.problems import Bad, Loc, show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.config.files import Files
    from pibake.offers import Entry


def secret_places(data: Any) -> Iterator[Loc]:
    """Yield the places of options that name a secret's file: somebody may have put the secret itself there.

    A misspelled option of an add-on that has such options may be meant for one.
    """
    for name, written in _written(data):
        entry = offers.catalogue().get(name)
        if entry is None or not isinstance(written, dict):
            continue
        secret = {key for key, option in entry.options.items() if option.format == "secret-file"}
        for key in written if secret else ():
            if key in secret or key not in {*entry.options, "values"}:
                yield "addons", name, key


def read(data: Any, files: Files) -> Finder:
    """Read every add-on of a file, and the files that they name."""
    finder = Finder(files)
    for name, written in _written(data):
        entry = offers.catalogue().get(name)
        if written is not None and not isinstance(written, dict):
            got = "a list" if isinstance(written, list) else "a single value"
            hint = f"`pibake addons show {name}` lists them" if entry else ""
            finder.tell(("addons", name), f"`{name}` is a mapping of options to values, not {got}", hint)
        elif entry:
            _offered(finder, name, entry, written or {})
        else:
            own_addons.read(finder, data, name, written or {})
    return finder


def _offered(finder: Finder, name: str, entry: Entry, written: dict[str, Any]) -> None:
    loc: Loc = ("addons", name)
    reader = Reader()
    chosen = {key: item for key, item in written.items() if key != "values" or not entry.chart}
    for key in [key for key in own_addons.KINDS if key in chosen and key not in entry.options]:
        hint = f"{name} is an add-on of the catalogue; give yours another name"
        finder.tell((*loc, key), f"`{key}` is for add-ons of your own", hint, on_key=True)
        del chosen[key]
    options = reader.mapping(entry.options, _required(entry), chosen, loc, name)
    finder.problems += reader.problems
    files, secrets = _named(finder, entry, options, loc)
    overrides = finder.values((*loc, "values"), written.get("values")) if entry.chart else None
    finder.found.append(
        replace(
            plain(name, entry),
            options=MappingProxyType(options),
            files=MappingProxyType(files),
            secrets=MappingProxyType(secrets),
            generated=MappingProxyType({k: n for k, n in entry.generated.items() if k not in secrets}),
            values=overrides[0] if overrides else None,
            overrides=MappingProxyType(overrides[1] if overrides else {}),
        )
    )


def plain(name: str, entry: Entry) -> Addon:
    """Return an add-on of the catalogue with nothing but defaults."""
    return Addon(
        name=name,
        entry=entry,
        chart=ChartRef(**entry.chart.model_dump()) if entry.chart else None,
        remote=entry.manifest,
        namespace=entry.namespace,
        options=MappingProxyType({key: default(option) for key, option in entry.options.items()}),
        generated=MappingProxyType(entry.generated),
        packages=entry.needs.packages,
        images=entry.images,
        warning=_warning(name, entry),
    )


def _named(
    finder: Finder, entry: Entry, options: dict[str, Any], loc: Loc
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Look for the files that options name; put into `options` what templates see of them."""
    files: dict[str, Path] = {}
    secrets: dict[str, Path] = {}
    for key, option in entry.options.items():
        if option.format not in {"file", "secret-file"}:
            continue
        written, options[key] = options[key], None
        if option.format == "secret-file":
            if written is not None and (path := finder.secret((*loc, key), written)):
                secrets[key] = path
            options[key] = written is not None or key in entry.generated
        elif written is not None and (path := finder.file((*loc, key), written)):
            files[key] = path
            try:
                options[key] = userfiles.text(path)
            except Bad as bad:
                finder.tell((*loc, key), f"cannot use {show(written)}: {bad.message}", bad.hint)
    return files, secrets


def _written(data: Any) -> list[tuple[str, Any]]:
    found = value(data, ("addons",))
    return list(found.items()) if isinstance(found, dict) else []


def _required(entry: Entry) -> tuple[str, ...]:
    return tuple(key for key in entry.required if key not in entry.generated)


def _warning(name: str, entry: Entry) -> str:
    if not entry.status:
        return ""
    told = not entry.instead or entry.instead in entry.status
    instead = "" if told else f"; take {entry.instead} instead"
    return f"{name}: {entry.status.rstrip('.')}{instead}"
