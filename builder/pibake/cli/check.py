"""`pibake check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pibake.cli.common import age_option, config_option, opened, server_option, show_findings

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.checkup.values import Finding

WRONG_STATUS = 5


@click.command(
    epilog="""\b
Examples:
  pibake check
  pibake check --all
  pibake check --json | jq -r '.[] | select(.status == "wrong") | .subject'
  */5 * * * *  cd /srv/lab && pibake check > /tmp/check.txt || mail -s lab ops < /tmp/check.txt"""
)
@config_option
@age_option
@server_option
@click.option("--all", "everything", is_flag=True, help="Show what is well, too.")
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
def check(
    *, config: Path | None, age_identity: Path | None, server: str | None, everything: bool, as_json: bool
) -> None:
    """Look a running cluster over from outside, and compare it with cluster.yaml.

    Nodes expected and seen, their versions, addresses, clocks and disks, certificates' ends, and what runs on the cluster.
    The exit status is 5 if something is wrong, 1 if the API server does not answer.
    """
    from pibake import checkup, identity, live

    place = opened(config, age_identity)
    secrets = place.vault.existing()
    url = place.url(server)
    with live.connected(secrets, url) as cluster:
        facts = checkup.observe(cluster, url, place.plan)
    findings = checkup.judge(place.plan, identity.summary.ends(secrets), facts)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings, everything=everything)
    if any(finding.status == "wrong" for finding in findings):
        raise click.exceptions.Exit(WRONG_STATUS)


def _show(findings: list[Finding], *, everything: bool) -> None:
    shown = [finding for finding in findings if everything or finding.status != "ok"]
    if shown:
        rows = [(one.status, one.what, one.subject, one.detail, one.remedy) for one in shown]
        show_findings("what", "of", rows)
    count = sum(finding.status == "ok" for finding in findings)
    click.echo(f"{count} of {len(findings)} are well")
