"""`pibake secrets`: issue, list, rotate, export, encrypt and decrypt what a cluster is known by."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibake.cli.common import Duration, age_option, config_option, opened, server_option
from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from pibake.identity.summary import Row

ROTATIONS = ("tokens", "host-key", "node-password", "authorities", "service-account", "addons")


@click.group(epilog="Example: pibake secrets issue && pibake secrets list")
def secrets() -> None:
    """Issue, list, rotate and export the cluster's identities.

    They are kept in the folder `secrets` beside cluster.yaml, which only you can read. Keep a copy of it: whoever
    has it owns the cluster, and without it no card can be built that joins.
    """


@secrets.command(
    epilog="""\b
Examples:
  pibake secrets issue
  pibake secrets issue -r age1... -r "$(cat ~/.ssh/id_ed25519.pub)\""""
)
@config_option
@age_option
@click.option("-r", "--recipient", "recipients", multiple=True, metavar="KEY",
              help="Keep them encrypted to this age or SSH public key; may be given again.")  # fmt: skip
def issue(*, config: Path | None, age_identity: Path | None, recipients: tuple[str, ...]) -> None:
    """Issue what is missing. What is there is never changed, so it can be run again at any time."""
    from pibake import age
    from pibake.vault import wanted

    age.check(recipients)
    place = opened(config, age_identity, recipients)
    have = place.vault.load()
    if recipients and have is not None:
        how = "encrypted to whom recipients.txt names" if place.vault.encrypted else "in the clear"
        raise PibakeError(
            f"{place.vault.folder} is there already, {how}", "pibake secrets encrypt -r RECIPIENT"
        )
    new = place.vault.issue(wanted(place.plan))
    if new == have:
        click.echo(f"{place.vault.folder}: everything was issued already")
        return
    names = [name for name in new.nodes if have is None or name not in have.nodes]
    how = "encrypted" if place.vault.encrypted else "readable by you only"
    click.echo(f"{place.vault.folder}: issued for {new.cluster} ({how})")
    if names:
        click.echo(f"nodes: {', '.join(names)}")


@secrets.command("list", epilog="Example: pibake secrets list --json | jq -r '.[].mark'")
@config_option
@age_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for scripts.")
def list_(*, config: Path | None, age_identity: Path | None, as_json: bool) -> None:
    """Show what was issued, with fingerprints; never a value. What is wrong with it is said at the end."""
    from datetime import UTC, datetime

    from pibake import identity

    found = opened(config, age_identity).vault.existing(sound=False)
    rows = list(identity.summary.rows(found))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _table(rows)
    identity.check(found, datetime.now(UTC))


@secrets.command(
    epilog="""\b
Examples:
  pibake secrets rotate tokens --apply
  pibake secrets rotate host-key --node node3
  pibake secrets rotate addons --addon kube-prometheus-stack --apply"""
)
@config_option
@age_option
@server_option
@click.argument("what", type=click.Choice(ROTATIONS))
@click.option("--node", default="", metavar="NAME", help="With host-key or node-password: only this node's.")
@click.option("--addon", default="", metavar="NAME", help="With addons: only this one's passwords.")
@click.option("--apply", is_flag=True,
              help="With tokens of kubeadm, and with addons: tell the running cluster, with kubectl.")  # fmt: skip
@click.option("--ttl", type=Duration(), metavar="TIME",
              help="With --apply: how long nodes can join  [default: token_ttl, or 24h]")  # fmt: skip
def rotate(
    *,
    config: Path | None,
    age_identity: Path | None,
    server: str | None,
    what: str,
    node: str,
    addon: str,
    apply: bool,
    ttl: timedelta | None,
) -> None:
    """Make one kind of secrets anew, and say what has to be done for it."""
    from pibake.cli import rotating

    place = opened(config, age_identity)
    old = place.vault.existing(sound=False)
    if apply and what != "addons" and (what != "tokens" or old.distribution != "kubeadm"):
        raise PibakeError(
            f"--apply is for kubeadm's tokens and for addons; {what} cannot be changed from here",
            "on a k3s server: k3s token rotate" if old.distribution == "k3s" and what == "tokens" else "",
        )
    lasting = rotating.planned_ttl(place.plan) if ttl is None else ttl
    url = place.url(server) if apply else ""
    hostname = place.plan.node(node).hostname if node else ""
    new = place.vault.rotate(what, hostname, addon)
    if apply and what == "addons":
        rotating.apply_addons(place.plan, new, url)
        click.echo("the cluster has the new passwords")
    elif apply:
        rotating.apply(old, new, url, lasting or None)
        click.echo("the cluster takes the new token, and the old one no more")
    whose = f"of {hostname or addon} " if hostname or addon else ""
    click.echo(f"{place.vault.folder}: {what} {whose}made anew")
    for line in rotating.consequences(new, what, hostname, applied=apply):
        click.echo(line)


@secrets.command(epilog="Example: pibake secrets show addon/kube-prometheus-stack/admin_password")
@config_option
@age_option
@click.argument("name", metavar="addon/ADDON/OPTION")
def show(*, config: Path | None, age_identity: Path | None, name: str) -> None:
    """Print a password that was made up for an add-on, for you to log in with.

    `pibake secrets list` names them; what else there is, no person has to type: `pibake secrets export` writes it to files.
    """
    import difflib

    vault = opened(config, age_identity).vault
    found = {
        f"addon/{addon}/{option}": password
        for addon, options in vault.existing(sound=False).addons.items()
        for option, password in options.items()
    }
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(found) or 'none'}"
        raise PibakeError(f"no password called {name} was made up", hint)
    click.echo(found[name].reveal())


@secrets.command(
    epilog="""\b
Examples:
  pibake secrets export pki --pki
  pibake secrets export /media/node3 --node node3"""
)
@config_option
@age_option
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--node", metavar="NAME", help="One node's files, by their path on the node.")
@click.option("--pki", is_flag=True, help="The CAs and keys of servers, as their distribution lays them out.")
@click.option("--all", "everything", is_flag=True, help="Both, with a folder per node.")
def export(
    *,
    config: Path | None,
    age_identity: Path | None,
    folder: Path,
    node: str | None,
    pki: bool,
    everything: bool,
) -> None:
    """Write secrets as files into FOLDER, in the clear, where k3s and kubeadm look for them."""
    from pibake import identity

    if (node is not None) + pki + everything != 1:
        raise click.UsageError("give one of --node, --pki and --all")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise PibakeError(f"{folder} is there and not an empty folder", "name a new one")
    place = opened(config, age_identity)
    found = place.vault.existing()
    if node is not None:
        tree = identity.layout.node(found, place.plan.node(node).hostname)
    else:
        tree = identity.layout.pki(found) if pki else identity.layout.everything(found)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # made beside it, where only its owner can look in, and renamed: there is no moment of half a folder
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        tree.write(Path(work, "new"))
        Path(work, "new").chmod(0o700)
        Path(work, "new").replace(folder)
    for path, file in tree:
        click.echo(f"{file.mode:04o}  {folder / path}")


@secrets.command(epilog='Example: pibake secrets encrypt -r "$(age-keygen -y ~/.config/age/key.txt)"')
@config_option
@age_option
@click.option("-r", "--recipient", "recipients", multiple=True, required=True, metavar="KEY",
              help="An age or SSH public key that can decrypt them; may be given again.")  # fmt: skip
def encrypt(*, config: Path | None, age_identity: Path | None, recipients: tuple[str, ...]) -> None:
    """Keep the secrets encrypted with age from now on, or for other recipients.

    Every command that needs them takes --age-identity or PIBAKE_AGE_IDENTITY then. Given here, it is tried before
    the file in the clear is removed.
    """
    vault = opened(config, age_identity).vault
    vault.encrypt(recipients)
    click.echo(
        f"{vault.folder}: encrypted to {len(recipients)} recipient{'s' if len(recipients) > 1 else ''}"
    )
    if vault.identity_file is None:
        click.echo("it was not tried to decrypt them: PIBAKE_AGE_IDENTITY names no key", err=True)


@secrets.command(epilog="Example: pibake secrets decrypt --age-identity ~/.config/age/key.txt")
@config_option
@age_option
def decrypt(*, config: Path | None, age_identity: Path | None) -> None:
    """Keep the secrets in the clear from now on, readable by you only."""
    vault = opened(config, age_identity).vault
    vault.decrypt()
    click.echo(f"{vault.folder}: decrypted")


def _table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("What", "For", "Expires", "Fingerprint or pin"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(row.what, row.owner, row.expires, row.mark)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a pipe has no edge to wrap at
    console.print(table)
