"""`pibake doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pibake.cli.common import show_findings
from pibake.doctor import JOBS


@click.command(
    epilog="""\b
Examples:
  pibake doctor
  pibake doctor build boot
  pibake doctor --json | jq -r '.[] | select(.status == "missing") | .remedy'"""
)
@click.argument("jobs", nargs=-1, type=click.Choice(list(JOBS)))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(*, jobs: tuple[str, ...], as_json: bool) -> None:
    """Say what this host lacks for JOBS (all of them by default), and how to install it.

    The exit status is 3 if something is missing. Things are tried, not looked up: a KVM guest is really started,
    with a time limit.
    """
    from pibake.cache import Cache
    from pibake.doctor import examine

    findings = examine(jobs or tuple(JOBS), Cache().root)
    missing = [finding for finding in findings if finding.status == "missing"]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        rows = [(one.status, one.job, one.name, one.detail, one.remedy) for one in findings]
        show_findings("for", "what", rows)
    if missing:
        raise click.exceptions.Exit(3)
