"""`pibake import`: a cluster.yaml from what people flashed their boards with before."""

from __future__ import annotations

import os
import secrets as randomness
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake import config as configuration
from pibake import fsys
from pibake.errors import ConfigError, PibakeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pibake.imported import Imported, Note

out_option = click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write a whole cluster.yaml, and the files of write_files to overlays/ beside it  [default: standard output]",
)  # fmt: skip


@click.group(
    epilog="""\b
Examples:
  pibake import hypriot user-data.yml -o cluster.yaml
  pibake import imager /media/me/bootfs"""
)
def import_() -> None:
    """Turn user-data of HypriotOS or Raspberry Pi Imager into a cluster.yaml.

    It says, key by key, what is carried over and what is not, and why. Where this or a parent folder has a
    cluster.yaml already, an entry for its nodes is printed. Password hashes and Wi-Fi keys go into -o's file only.
    """


@import_.command(
    epilog="""\b
Examples:
  pibake import hypriot user-data.yml
  pibake import hypriot user-data.yml -o cluster.yaml
  pibake import hypriot node4.yml >> cluster.yaml"""
)
@out_option
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="FILE|FOLDER")
def hypriot(*, source: Path, out: Path | None) -> None:
    """Import FILE, the user-data that `flash -u` was given, or FOLDER, the boot partition of a card."""
    _import(source, out)


@import_.command(
    epilog="""\b
Examples:
  pibake import imager /media/me/bootfs
  pibake import imager /media/me/bootfs -o cluster.yaml"""
)
@out_option
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="FOLDER|FILE")
def imager(*, source: Path, out: Path | None) -> None:
    """Import FOLDER, the boot partition of a card that Raspberry Pi Imager wrote, or one FILE of it.

    user-data, network-config and meta-data are read, else rpi-preseed.toml, custom.toml or firstrun.sh. Nothing is run.
    """
    _import(source, out)


def _import(source: Path, out: Path | None) -> None:
    from pibake import imported

    made = imported.read(_files(source), str(source))
    if out:
        name = _write(made, source, out)
        _report(made, err=False)
        click.echo(f"\nwrote {out}{', readable by you alone: it holds secrets' if made.has_secrets else ''}")
        if name:
            files = "1 file" if len(made.overlay) == 1 else f"{len(made.overlay)} files"
            click.echo(f"wrote {out.parent / 'overlays' / name}, {files}")
        click.echo(f"next: {'add what is missing, then ' if made.missing else ''}`pibake plan -c {out}`")
        return
    there = _existing()
    if there:
        click.echo(_entry(made, there), nl=False)
    else:
        click.echo(imported.cluster_yaml(made, str(source), secrets=False, overlay=False), nl=False)
    _report(made, err=True)
    if made.has_secrets or len(made.overlay):
        click.echo("\nsecrets and files are not printed; -o FILE writes them", err=True)
    if there:
        click.echo(
            f"\nthis is an entry for `nodes` in {there}; -o FILE writes a whole new cluster.yaml", err=True
        )


def _files(source: Path) -> dict[str, tuple[str, bytes]]:
    """Return what is to be read: the known files of a folder, or one file under the name of what it is."""
    from pibake.imported import FILES

    if source.is_dir():
        found = {name: source / name for name in FILES if (source / name).is_file()}
        if not found:
            raise PibakeError(
                f"{source} has none of {', '.join(FILES)}", "give the boot partition of a card, which is FAT"
            )
    else:
        found = {source.name if source.name in FILES else "user-data": source}
    return {name: (str(path), _bytes(path)) for name, path in found.items()}


def _bytes(path: Path) -> bytes:
    from pibake.imported.document import LARGEST

    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ConfigError([f"{path}: the file is larger than {LARGEST >> 20} MiB, which no user-data is"])
    return raw


def _existing() -> Path | None:
    """Return the cluster.yaml of this or a parent folder; an empty one is what `>` of a shell has just made."""
    there = configuration.find(Path.cwd())
    if there is None or not there.stat().st_size:
        return None
    return Path(os.path.relpath(there))


def _entry(made: Imported, there: Path) -> str:
    """Return the node's entry, indented as the nodes of a cluster.yaml are, and note what that file lacks for it."""
    from pibake import catalog
    from pibake.config import marks
    from pibake.imported import node_entry

    document = marks.parse(there.read_bytes(), str(there))
    listed = document.data.get("nodes") if isinstance(document.data, dict) else None
    names = [node.get("hostname") for node in listed or [] if isinstance(node, dict)]
    if made.hostname and made.hostname in {str(name).partition(".")[0] for name in names}:
        raise PibakeError(f"{there} has a node {made.hostname} already", "-o FILE writes a new cluster.yaml")
    for line in _differences(made, configuration.load(there, bases=catalog.names())):
        click.echo(line, err=True)
    column = document.span(("nodes", 0)).column if listed else 4
    return node_entry(made, indent=" " * max(column - 2, 0))


def _differences(made: Imported, cluster: configuration.Cluster) -> Iterable[str]:
    """Yield what an existing cluster.yaml says otherwise, or does not have."""
    network, users = cluster.file.network, {user.name for user in cluster.file.users}
    if made.subnet and made.subnet != str(network.subnet):
        yield f"note: the cluster's subnet is {network.subnet}, and this node was on {made.subnet}"
    if made.gateway and network.gateway and made.gateway != str(network.gateway):
        yield f"note: the cluster's gateway is {network.gateway}, and this node's was {made.gateway}"
    for user in made.users:
        if user.name not in users:
            yield f"note: the cluster has no user {user.name}; its users are the same on every node"


def _write(made: Imported, source: Path, out: Path) -> str:
    """Write the file, and its overlay before it; return the overlay's name. Both appear whole, or neither does."""
    from pibake.imported import cluster_yaml

    name = made.hostname if len(made.overlay) else ""
    folder = out.parent / "overlays" / name
    for path in (out, *([folder] if name else [])):
        if os.path.lexists(path):
            raise PibakeError(f"{path} is already there", "-o writes to another file; nothing is overwritten")
    text = cluster_yaml(made, str(source), secrets=True, overlay=bool(name))
    tag = randomness.token_hex(4)
    part, scratch = out.with_name(f".{out.name}.{tag}.part"), folder.with_name(f".{folder.name}.{tag}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    placed = done = False
    try:
        mode = 0o600 if made.has_secrets else 0o644
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if name:
            made.overlay.write(scratch)
            scratch.rename(folder)
            placed = True
        # `link`, unlike `rename`, fails where a file of that name came in between
        os.link(part, out)
        done = True
    except FileExistsError:
        raise PibakeError(f"{out} is already there", "-o writes to another file") from None
    finally:
        part.unlink(missing_ok=True)
        if placed and not done:
            fsys.delete(folder)
        elif name and not done:
            fsys.delete(scratch)
    return name


def _report(made: Imported, *, err: bool) -> None:
    """Say what became of every key."""
    for title, colour, notes in (
        ("carried over", "green", [note for note in made.notes if note.carried]),
        ("not carried over", "yellow", [note for note in made.notes if not note.carried]),
    ):
        if notes:
            click.secho(f"\n{title}", fg=colour, err=err)
            for line in _lines(notes):
                click.echo(line, err=err)
    if made.missing:
        click.secho("\nstill missing, and a comment in the file", fg="red", err=err)
        for key, why in made.missing.items():
            click.echo(f"  {key}: {why}", err=err)


def _lines(notes: list[Note]) -> Iterable[str]:
    for note in sorted(notes, key=_place):
        key = "".join(c if c.isprintable() else "?" for c in note.key)
        yield f"  {note.place}: {key}: {note.text}"


def _place(note: Note) -> tuple[str, int]:
    file, _, line = note.place.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (note.place, 0)
