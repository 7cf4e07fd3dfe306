"""Add-ons of a running cluster: whether their objects are there, and whether their charts are installed.

helm-controller says of a HelmChart that it failed in `status.conditions`, and runs a Job for it, whose label
`helmcharts.helm.cattle.io/chart` is the HelmChart's name (k3s-io/helm-controller, pkg/controllers/chart).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pibake.checkup.values import OK, WARNING, WRONG, Finding, Installed
from pibake.errors import CommandFailed
from pibake.kube import addons

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pibake.kube.addons import Manifest
    from pibake.live import Live
    from pibake.plan import Plan

    Thing = Mapping[str, Any]

CHART_LABEL = "helmcharts.helm.cattle.io/chart"
UNKNOWN_KIND = re.compile(r'no matches for kind "([^"]+)"')
SHOWN = 3


def observe(live: Live, plan: Plan) -> dict[str, Installed]:
    """Return what a cluster has of each add-on of a plan, by name.

    Raises:
        CommandFailed: its API server does not answer.
    """
    if not plan.addons:
        return {}
    manifests = addons.render(plan)
    jobs: dict[str, list[Thing]] = {}
    for job in _there(live, "jobs", "-n", addons.SYSTEM, "-l", CHART_LABEL):
        jobs.setdefault(job["metadata"]["labels"][CHART_LABEL], []).append(job)
    return {manifest.name: _installed(live, manifest, jobs) for manifest in manifests}


def _installed(live: Live, manifest: Manifest, jobs: Mapping[str, Sequence[Thing]]) -> Installed:
    # an unknown kind makes kubectl give up before it asks for any: those that are left are asked for again
    left, found = list(manifest.objects), []
    while left:
        try:
            found = _there(live, "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": left})
            break
        except CommandFailed as error:
            unknown = set(UNKNOWN_KIND.findall(str(error)))
            less = [one for one in left if one["kind"] not in unknown]
            if len(less) == len(left):
                raise
            left = less
    seen = {_key(one) for one in found}
    charts = [one for one in found if one["kind"] == "HelmChart"]
    failures = {one["metadata"]["name"]: failure for one in charts if (failure := _failure(one))}
    return Installed(
        wanted=len(manifest.objects),
        missing=tuple(
            f"{one['kind']}/{one['metadata']['name']}" for one in manifest.objects if _key(one) not in seen
        ),
        failures=failures,
        waiting=tuple(
            name
            for name in (one["metadata"]["name"] for one in charts)
            if name not in failures
            and not any(job.get("status", {}).get("succeeded") for job in jobs.get(name, ()))
        ),
    )


def _key(one: Thing) -> tuple[str, ...]:
    """Return what tells an object from others: all versions of a kind are one, and no namespace is the default one."""
    metadata, (group, _, _) = one["metadata"], one["apiVersion"].rpartition("/")
    namespace = metadata.get("namespace", "default")
    return group, one["kind"], "" if namespace == "default" else namespace, metadata["name"]


def _failure(chart: Thing) -> str:
    for condition in chart.get("status", {}).get("conditions", ()):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return condition.get("message") or condition.get("reason") or "failed"
    return ""


def _there(live: Live, *arguments: str, document: Any = None) -> list[Thing]:
    said = live.kubectl(
        "get", *arguments, "--ignore-not-found", "-o", "json", why="ask for add-ons", document=document
    )
    if not said.strip():
        return []
    value = json.loads(said)
    return value["items"] if value["kind"] == "List" else [value]


def judge(plan: Plan, installed: Mapping[str, Installed]) -> Iterator[Finding]:
    """Yield one finding for each add-on that has objects."""
    k3s = plan.kubernetes is not None and plan.kubernetes.distribution == "k3s"
    first = plan.kubernetes.servers[0].hostname if plan.kubernetes else ""
    log = f"pibake ssh {first} sudo journalctl -u {'k3s' if k3s else 'pibake-addons'}"
    for name, there in installed.items():
        yield _finding(name, there, log)


def _finding(name: str, there: Installed, log: str) -> Finding:
    if there.failures:
        chart, why = next(iter(there.failures.items()))
        remedy = f"kubectl -n {addons.SYSTEM} logs job/helm-install-{chart}"
        return Finding("add-on", name, WRONG, f"its chart is not installed: {why}", remedy)
    if there.missing:
        some = ", ".join(there.missing[:SHOWN]) + (", ..." if len(there.missing) > SHOWN else "")
        detail = f"{len(there.missing)} of {there.wanted} objects are not there: {some}"
        return Finding("add-on", name, WRONG, detail, log)
    if there.waiting:
        remedy = f"kubectl -n {addons.SYSTEM} get jobs -l {CHART_LABEL}={there.waiting[0]}"
        return Finding("add-on", name, WARNING, "its chart is being installed", remedy)
    return Finding("add-on", name, OK, f"{there.wanted} objects")
