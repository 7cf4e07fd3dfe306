"""`pibake addons`: what the catalogue has, and what a cluster's add-ons come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pibake import config as configuration
from pibake import offers
from pibake.cli.common import Known, config_option
from pibake.cli.config import locate
from pibake.errors import PibakeError
from pibake.offers import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.kube.addons import Manifest
    from pibake.offers import Entry


@click.group(epilog="Example: pibake addons list && pibake addons show metallb")
def addons() -> None:
    """List the catalogue of add-ons, explain one, and show what a cluster's come to.

    An add-on is a line in `addons:` of cluster.yaml, and there when the cluster comes up.
    """


@addons.command(
    "list",
    epilog="""\b
Examples:
  pibake addons list
  pibake addons list --json | jq -r '.[] | select(.group == "storage").name'""",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for scripts.")
def list_(*, as_json: bool) -> None:
    """Show the add-ons of the catalogue."""
    if as_json:
        click.echo(json.dumps([_json(name, entry) for name, entry in offers.catalogue().items()], indent=2))
        return
    rows = [
        (name, entry.group, words.version(entry), f"{entry.summary}{_state(entry)}")
        for name, entry in offers.catalogue().items()
    ]
    _table(("Add-on", "Group", "Version", "What it is for"), rows)


@addons.command(epilog="Example: pibake addons show cert-manager")
@click.argument("name", type=Known(offers.names))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for scripts.")
def show(*, name: str, as_json: bool) -> None:
    """Explain one add-on: its options, what it needs, and what it does not go with."""
    entry = offers.entry(name)
    if as_json:
        click.echo(json.dumps(_json(name, entry), indent=2))
        return
    version = words.version(entry)
    click.echo(f"{name}{f' {version}' if version else ''}: {entry.summary}")
    for label, text in words.facts(entry):
        click.echo(f"{label}: {text}")
    click.echo()
    rows = [(row.name, row.kind, row.default, row.what) for row in words.rows(entry)]
    if rows:
        _table(("Option", "Kind", "Unless set", "What it is"), rows)
    else:
        click.echo("It takes no options.")
    click.echo(f"\nIn cluster.yaml:\n\n{words.example(name, entry)}")


@addons.command(
    epilog="""\b
Examples:
  pibake addons render
  pibake addons render metallb | kubectl diff -f -
  pibake addons render -o manifests"""
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@config_option
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write a file for each add-on into this folder.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of the objects, for scripts.")
def render(*, names: tuple[str, ...], config: Path | None, out: Path | None, as_json: bool) -> None:
    """Print the Kubernetes objects that a cluster's add-ons come to, as YAML; of all of them if no NAME is given.

    They are what the first server gets. Of Secrets, the keys are shown and not the values.
    """
    manifests = _manifests(config, names)
    if as_json:
        click.echo(
            json.dumps([item for one in manifests for item in one.objects], indent=2, ensure_ascii=False)
        )
    elif out:
        out.mkdir(parents=True, exist_ok=True)
        for index, manifest in enumerate(manifests):
            path = out / f"{index:02}-{manifest.name}.yaml"
            path.write_text(manifest.dump(), "utf-8")
            click.echo(path)
    else:
        click.echo("---\n".join(manifest.dump() for manifest in manifests), nl=False)


def _manifests(config: Path | None, names: tuple[str, ...]) -> list[Manifest]:
    """Return what add-ons come to; Secrets, masked, last where all are asked for."""
    from pibake import catalog
    from pibake.kube import addons as rendering
    from pibake.kube import review
    from pibake.plan import plan

    decided = plan(configuration.load(locate(config), bases=catalog.names()))
    if not decided.addons:
        raise PibakeError("this cluster has no add-ons", "`pibake addons list` shows what there is")
    found = list(rendering.render(decided))
    for doubt in review.check(decided, found):
        click.echo(f"{click.style('warning:', fg='yellow')} {doubt}", err=True)
    if secrets := rendering.secret_manifest(decided, rendering.unread(decided)):
        found.append(rendering.masked(secrets))
    known = [addon.name for addon in decided.addons]
    if stray := next((name for name in names if name not in {*known, rendering.SECRETS}), None):
        raise PibakeError(f"this cluster has no add-on {stray}", f"it has {', '.join(known)}")
    return [manifest for manifest in found if not names or manifest.name in names]


def _state(entry: Entry) -> str:
    """Return the word that its status begins with, such as "retired"."""
    return f" ({entry.status.split()[0].rstrip(':,;')})" if entry.status else ""


def _json(name: str, entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON values, without its templates."""
    left_out = {"values", "objects", "secret_objects"}
    found = entry.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=left_out)
    return {"name": name, "version": words.version(entry), **found}


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1])
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 300  # a pipe has no edge to wrap at
    console.print(table)
