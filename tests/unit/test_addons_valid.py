"""Every add-on of the catalogue, on both distributions and several releases: what is rendered is what Kubernetes takes.

`tests/cluster/test_addons.py` has a real API server say so, too.
"""

from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests import offers as samples

from pibake import kubeyaml, offers, resources
from pibake.kube import addons, schemas, validation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELEASES = ("v1.28.15", "v1.32.9", "v1.34.1", "v1.37.0")
CHARTS = ("HelmChart", "HelmChartConfig")
REFERENCES = ("secretKeyRef", "secretRef", "apiTokenSecretRef", "nodeStageSecretRef")
ISSUER = "cert-manager.io/cluster-issuer"
MADE_LATER = ("rook-csi-",)
"""Secrets that a controller makes: Rook's, of the Ceph that it has set up."""
NAMES = (
    "existingSecret",
    "secretName",
    "csi.storage.k8s.io/node-stage-secret-name",
    "csi.storage.k8s.io/provisioner-secret-name",
)
"""Fields that name a Secret: as an object of name and namespace, and as a word."""
CASES = [
    (name, distribution, options)
    for name in offers.names()
    for distribution in samples.DISTRIBUTIONS
    for options in samples.OPTIONS
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> samples.Made:
    name, distribution, options = request.param
    folder = tmp_path_factory.mktemp(name)
    chosen = samples.options(samples.with_needs(name), folder, options)
    return samples.made(samples.decided(folder, chosen, distribution))


def releases(name: str) -> list[str]:
    """Return the releases that an add-on and those it needs work on."""
    lowest = max(
        int((offers.entry(n).needs.kubernetes or "1.0").split(".")[1]) for n in samples.with_needs(name)
    )
    return [release for release in RELEASES if int(release.split(".")[1]) >= lowest]


@pytest.mark.parametrize(("name", "distribution", "options"), CASES)
def test_every_add_on_is_what_every_release_takes_that_it_works_on(
    tmp_path: Path, name: str, distribution: str, options: str
) -> None:
    chosen = samples.options(samples.with_needs(name), tmp_path, options)
    assert releases(name)
    for release in releases(name):
        made = samples.made(samples.decided(tmp_path, chosen, distribution, release))
        objects = [thing for _, thing in made.objects]
        assert objects or offers.entry(name).k3s.bundled
        problems = validation.validate(objects, release, strict=True)
        assert [str(problem) for problem in problems] == []


def test_every_namespace_is_made_or_given(case: samples.Made) -> None:
    made = {thing["metadata"]["name"] for _, thing in case.objects if thing["kind"] == "Namespace"}
    used = {thing["metadata"].get("namespace", "") for _, thing in case.objects}
    used |= {thing["spec"].get("targetNamespace", "") for _, thing in case.objects if thing["kind"] in CHARTS}
    assert used <= made | {*addons.GIVEN}


def test_values_of_charts_are_a_mapping_and_no_chart_is_without_its_version(case: samples.Made) -> None:
    for _, thing in case.objects:
        if thing["kind"] not in CHARTS:
            continue
        text = thing["spec"].get("valuesContent", "{}")
        ((found, _),) = kubeyaml.load_all(text) or (({}, 0),)
        assert isinstance(found, dict)
        if thing["kind"] == "HelmChart":
            spec = thing["spec"]
            assert thing["metadata"]["namespace"] == "kube-system"
            assert spec.get("chartContent") or (spec["chart"] and spec["version"])
            assert spec["targetNamespace"]


def test_no_secret_stands_outside_the_manifest_of_secrets(case: samples.Made) -> None:
    assert {thing["kind"] for manifest in case.manifests for thing in manifest.objects}.isdisjoint({"Secret"})
    public = "".join(manifest.dump() for manifest in case.manifests)
    for form in (samples.WORD, base64.b64encode(samples.WORD.encode()).decode()[:12]):
        assert form not in public
        assert form not in json.dumps(case.plan.to_json())


def test_every_secret_that_is_set_is_used(case: samples.Made) -> None:
    known = samples.words(case.plan)
    wanted = {secret.reveal() for secrets in known.values() for secret in secrets.values()}
    objects = case.secrets.objects if case.secrets else ()
    assert all(thing["kind"] == "Secret" for thing in objects)
    texts = "".join(
        text
        for thing in objects
        for text in (
            *thing.get("stringData", {}).values(),
            *(base64.b64decode(value).decode() for value in thing.get("data", {}).values()),
        )
    )
    assert [word for word in wanted if word not in texts] == []


def referred(thing: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the Secrets that an object reads, as namespace and name, also those named in a chart's values.

    "" is the namespace of an object that is in none: the program that reads it knows which one it means.
    """
    if thing["kind"] in CHARTS:
        home = thing["spec"].get("targetNamespace") or thing["metadata"]["namespace"]
        yield from _references(yaml.safe_load(thing["spec"].get("valuesContent", "{}")), home)
    else:
        yield from _references(thing, thing["metadata"].get("namespace", ""))


def _references(value: Any, home: str, *, issued: bool = False) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for one in value:
            yield from _references(one, home, issued=issued)
    if not isinstance(value, dict):
        return
    # cert-manager writes the certificates of an Ingress that names an issuer
    named = {**value.get("metadata", {}).get("annotations", {}), **(value.get("annotations") or {})}
    issued = issued or ISSUER in named
    for key, one in value.items():
        if key in REFERENCES and isinstance(one, dict) and one.get("name") and not one.get("optional"):
            yield one.get("namespace", home), one["name"]
        elif key in NAMES and isinstance(one, str) and one:
            yield home, one
        elif key == "imagePullSecrets":
            yield from ((home, ref["name"]) for ref in one)
        elif not (issued and key == "tls"):
            yield from _references(one, home, issued=issued)


def test_every_secret_that_is_read_is_there(case: samples.Made) -> None:
    there = {
        (thing["metadata"]["namespace"], thing["metadata"]["name"])
        for thing in (case.secrets.objects if case.secrets else ())
    }
    # cert-manager writes what a Certificate names
    there |= {
        (thing["metadata"]["namespace"], thing["spec"]["secretName"])
        for _, thing in case.objects
        if thing["kind"] == "Certificate"
    }
    there |= {("", name) for _, name in there}
    read = {ref for _, thing in case.objects for ref in referred(thing)}
    assert {(home, name) for home, name in read - there if not name.startswith(MADE_LATER)} == set()


@pytest.mark.parametrize("options", samples.OPTIONS)
@pytest.mark.parametrize("distribution", samples.DISTRIBUTIONS)
def test_all_add_ons_that_can_stand_together_are_what_kubernetes_takes(
    tmp_path: Path, distribution: str, options: str
) -> None:
    decided = samples.together(tmp_path, distribution, options)
    objects = [thing for _, thing in samples.made(decided).objects]
    assert decided.kubernetes
    problems = validation.validate(objects, decided.kubernetes.version, strict=True)
    assert [str(problem) for problem in problems] == []


def test_our_definitions_are_what_kubernetes_takes_and_are_named_after_what_they_define() -> None:
    files = sorted(resources.path("addons", "crds").glob("*.yaml"))
    found = [thing for path in files for thing, _ in kubeyaml.load_all(path.read_text("utf-8"))]
    assert [str(problem) for problem in validation.validate(found, samples.RELEASE, strict=True)] == []
    for thing in found:
        spec = thing["spec"]
        assert thing["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
        assert [version["storage"] for version in spec["versions"]].count(True) == 1


def test_no_definition_is_there_for_nothing(tmp_path: Path) -> None:
    plans = [samples.together(tmp_path, distribution, "all") for distribution in samples.DISTRIBUTIONS]
    for name, distribution, options in CASES:
        chosen = samples.options(samples.with_needs(name), tmp_path, options)
        plans.append(samples.decided(tmp_path, chosen, distribution))
    used = {schemas.kind_of(thing) for what in plans for _, thing in samples.made(what).objects}
    assert schemas.own().keys() - used == set()


def typed_wrong(thing: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return an object as often as it has fields, each time with one of them mistyped: a letter too many."""
    fields = [("spec", key) for key in thing.get("spec", {})]
    for path in [*fields, *((key,) for key in thing.keys() - {"apiVersion", "kind", "metadata"})]:
        broken = copy.deepcopy(thing)
        place = broken["spec"] if len(path) == 2 else broken
        place[f"{path[-1]}z"] = place.pop(path[-1])
        yield f"{thing['kind']}: {'.'.join(path)}", broken


def test_a_mistyped_field_of_any_add_on_would_be_found(case: samples.Made) -> None:
    assert case.plan.kubernetes
    version = case.plan.kubernetes.version
    unseen = [
        where
        for _, thing in case.objects
        for where, broken in typed_wrong(thing)
        if not any("no such field" in str(p) for p in validation.validate([broken], version, strict=True))
    ]
    assert unseen == []
