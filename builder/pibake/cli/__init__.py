"""The command line: the only place that prints or exits.

Each command lives in a module of its own, imported when it is asked for, so that `pibake --help` stays fast.
"""

from __future__ import annotations

import errno
import importlib
import keyword
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from pibake import __version__, progress
from pibake.errors import ConfigError, PibakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "init": ("pibake.cli.config", "Write a commented cluster.yaml to start from."),
    "import": (
        "pibake.cli.importing",
        "Make a cluster.yaml of user-data of HypriotOS or Imager.",
    ),
    "plan": ("pibake.cli.config", "Show what a build would do, and do nothing."),
    "addons": ("pibake.cli.addons", "List add-ons, explain one, and show what they come to."),
    "schema": ("pibake.cli.config", "Print the JSON Schema of cluster.yaml, for editors."),
    "build": ("pibake.cli.build", "Bake flash-ready card images."),
    "compose": ("pibake.cli.compose", "Make the images of delta files."),
    "boot": ("pibake.cli.boot", "Boot a card's image in QEMU and report its health."),
    "probe": ("pibake.cli.probe", "Play a board on this network, and say what it lacks."),
    "flash": ("pibake.cli.flash", "Write a node's image onto a card, and read it back."),
    "card": ("pibake.cli.card", "Say what a card in the reader holds, or an image."),
    "reseed": ("pibake.cli.reseed", "Give a card another seed: address, users, keys, tokens."),
    "serve": ("pibake.cli.serve", "Boot the cluster's boards from the wire."),
    "boards": ("pibake.cli.boards", "Show which boards have asked to boot, and as what."),
    "adopt": ("pibake.cli.adopt", "Make a board the node that it is to be."),
    "status": ("pibake.cli.status", "Show how far each node has come, and why one hangs."),
    "eeprom-card": (
        "pibake.cli.eeprom_card",
        "Make a card that lets boards boot from the network.",
    ),
    "base": ("pibake.cli.base", "List, get, check and remove base images."),
    "push": ("pibake.cli.share", "Push what nodes are made from to an OCI registry."),
    "pull": ("pibake.cli.share", "Pull what another station has pushed."),
    "secrets": ("pibake.cli.secrets", "Issue, list, rotate and export the cluster's identities."),
    "kubeconfig": ("pibake.cli.access", "Write a kubeconfig, before the cluster has power or after."),
    "known-hosts": ("pibake.cli.access", "Write the known_hosts lines of all nodes."),
    "ssh": ("pibake.cli.access", "Log in to a node, sure of its host key from the first time on."),
    "check": ("pibake.cli.check", "Look a running cluster over from outside."),
    "forget": ("pibake.cli.forget", "Take a node out of the cluster and remove what was made for it."),
    "doctor": ("pibake.cli.doctor", "Say what this host lacks, and how to install it."),
}
"""Command -> module that defines it (under the same name, with _ for -, and after a keyword of Python's) and its
line in `pibake --help`."""


class Commands(click.Group):
    """A group whose commands are imported on use; `table` maps each to its module and summary."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order of a first session."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_") + "_" * keyword.iskeyword(cmd_name)
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: pibake init --yes && pibake build --hostname node1 && pibake boot node1",
)
@click.version_option(__version__, prog_name="pibake")
@click.option("-v", "--verbose", is_flag=True, help="Show the commands that are run; a traceback on errors.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def group(ctx: click.Context, *, verbose: bool, quiet: bool) -> None:
    """Turn a pile of Raspberry Pi boards into a Kubernetes cluster."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(message)s",
        stream=sys.stderr,
        force=True,
    )
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("pibake").setLevel(logging.DEBUG if verbose else logging.WARNING)
    ctx.obj = progress.for_stream(sys.stderr, quiet=quiet)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: the one boundary between errors and people."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        # no command returns anything; click returns the status of one that ended by `Exit`
        status = group.main(argv, prog_name="pibake", standalone_mode=False)
        if status:
            sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing half-made was left behind", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except PibakeError as error:
        if {"-v", "--verbose"} & set(argv):
            logging.getLogger("pibake").debug("", exc_info=True)
        _show(error)
        sys.exit(error.exit_code)
    except OSError as error:
        logging.getLogger("pibake").debug("", exc_info=True)
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _show(PibakeError(what, "free some space" if error.errno == errno.ENOSPC else ""))
        sys.exit(1)


def _terminated(number: int, _: object) -> NoReturn:
    """Leave through every `finally` and context manager, as Ctrl-C does."""
    sys.exit(128 + number)


def _show(error: PibakeError) -> None:
    if isinstance(error, ConfigError):
        for problem in error.problems:
            click.echo(f"{problem}\n", err=True)
        count = len(error.problems)
        click.secho(f"error: {count} problem{'s' if count > 1 else ''} found", fg="red", err=True)
    else:
        click.echo(f"{click.style('error:', fg='red')} {error}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)
