"""Mistakes in the user's own manifests are told with their file, line and document, before anything is built."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests import offers as samples

from pibake.errors import ConfigError
from pibake.kube import addons, review

if TYPE_CHECKING:
    from pathlib import Path

DEPLOYMENT = """\
# the shop
---
apiVersion: v1
kind: Namespace
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  namespace: web
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - name: shop
          image: registry.example.com/shop:1
"""
DEFINITION = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pumps.garden.example.com}
spec:
  group: garden.example.com
  names: {kind: Pump, plural: pumps}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          {type: object, properties: {spec: {type: object, properties: {flow: {type: integer}}}}}
"""
PUMP = """\
apiVersion: garden.example.com/v1
kind: Pump
metadata: {name: roses}
spec: {flow: 3}
"""


def told(folder: Path, release: str = samples.RELEASE, **files: str) -> tuple[str, ...]:
    """Return what is said of an add-on for each file, NAME of which is `NAME.yaml`."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    os.chdir(folder)
    chosen = {name: {"manifests": f"{name}.yaml"} for name in files}
    decided = samples.decided(folder, chosen, "k3s", release)
    return review.check(decided, addons.render(decided))


def refused(folder: Path, release: str = samples.RELEASE, **files: str) -> str:
    with pytest.raises(ConfigError) as caught:
        told(folder, release, **files)
    return "\n".join(caught.value.problems)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_manifests_without_a_mistake_are_passed_over_in_silence(tmp_path: Path) -> None:
    assert told(tmp_path, shop=DEPLOYMENT) == ()


def test_a_mistake_is_shown_where_it_stands_with_what_was_meant(tmp_path: Path) -> None:
    assert refused(tmp_path, shop=DEPLOYMENT.replace("image:", "imagee:")) == (
        "shop.yaml:19:11: document 2, Deployment web/shop: spec.template.spec.containers[0].imagee: "
        "there is no such field in Kubernetes 1.34\n"
        "   19 |           imagee: registry.example.com/shop:1\n"
        "      |           ^^^^^^\n"
        "   hint: did you mean `image`?"
    )


def test_lists_of_one_kind_are_taken_apart_as_kubectl_does(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: y}}\n"
    assert told(tmp_path, shop=text) == ()
    assert "items[0].dat: there is no such field" in refused(tmp_path, shop=text.replace(", data:", ", dat:"))


def test_what_is_missing_is_shown_where_it_would_stand(tmp_path: Path) -> None:
    said = refused(tmp_path, shop=DEPLOYMENT.replace("  selector: {matchLabels: {app: shop}}\n", ""))
    assert said.startswith("shop.yaml:12:1: document 2, Deployment web/shop: spec.selector: is missing\n")


def test_the_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        a=DEPLOYMENT.replace("image:", "imagee:"),
        b="apiVersion: v1\nkind: Namespac\nmetadata: {name: net}\n",
    )
    assert said.startswith("a.yaml:19:11: document 2")
    assert "\nb.yaml:2:1: document 1, Namespac net: kind: Kubernetes 1.34 has no Namespac in v1\n" in said
    assert said.endswith("   hint: Namespace is in v1")


def test_an_object_in_two_add_ons_is_told(tmp_path: Path) -> None:
    assert "Deployment web/shop: is there twice" in refused(tmp_path, a=DEPLOYMENT, b=DEPLOYMENT)


def test_a_secrets_values_are_not_shown(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: door}\ndata: {key: correct-horse}\n"
    said = refused(tmp_path, a=secret)
    assert said.startswith("a.yaml:4:8: document 1, Secret door: data.key: is not in base64")
    assert "correct" not in said


def test_a_kind_nobody_knows_is_in_doubt_only(tmp_path: Path) -> None:
    (doubt,) = told(tmp_path, a=PUMP)
    assert doubt.startswith(
        "a.yaml:1:1: document 1, Pump roses: apiVersion: Pump of garden.example.com/v1 is no kind"
    )


def test_a_kind_that_another_add_on_defines_is_held_against_that(tmp_path: Path) -> None:
    assert told(tmp_path, a=PUMP, b=DEFINITION) == ()
    said = refused(tmp_path, a=PUMP.replace("flow: 3", "flow: much"), b=DEFINITION)
    assert said.startswith(
        "a.yaml:4:8: document 1, Pump roses: spec.flow: is text, and has to be a whole number"
    )


def test_a_field_that_the_catalogues_own_kinds_lack_is_in_doubt_only(tmp_path: Path) -> None:
    chart = """\
apiVersion: helm.cattle.io/v1
kind: HelmChart
metadata: {name: shop, namespace: kube-system}
spec: {chart: shop, brandNewField: 1}
"""
    (doubt,) = told(tmp_path, a=chart)
    assert "spec.brandNewField: there is no such field in what pibake knows of it" in doubt


def test_for_a_release_that_is_not_at_hand_the_nearest_is_named(tmp_path: Path) -> None:
    doubt, note = told(
        tmp_path, "v1.99.0", shop=DEPLOYMENT.replace("image:", "brandNew: 1\n          image:")
    )
    assert "there is no such field in Kubernetes 1.37" in doubt
    assert note == "Kubernetes 1.99 was not at hand: objects were compared with what 1.37 takes"


def test_a_list_and_a_file_of_json_are_looked_into(tmp_path: Path) -> None:
    listed = '{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": 1}}]}'
    said = refused(tmp_path, a=listed)
    assert said.startswith(
        "a.yaml:1:126: document 1, ConfigMap a: items[0].data.x: is a number, and has to be text"
    )
