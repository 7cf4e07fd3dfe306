"""Whether mistakes in Kubernetes objects are found: a word mistyped, a wrong type, what is missing, who has it twice."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from pibake.kube import schemas, validation
from pibake.kube.schemas import Kind

DEPLOYMENT = yaml.safe_load("""
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: web, labels: {app.kubernetes.io/name: shop}}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - name: shop
          image: registry.example.com/shop:1
          env: [{name: PORT, value: "8080"}]
          ports: [{name: http, containerPort: 8080}]
          resources: {requests: {cpu: 0.5, memory: 64Mi}, limits: {memory: 128Mi}}
          livenessProbe: {httpGet: {path: /, port: http}}
      volumes: [{name: data, emptyDir: {}}]
""")
DEFINITION = yaml.safe_load("""
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
          type: object
          required: [spec]
          properties:
            spec:
              type: object
              required: [flow]
              properties:
                flow: {type: integer, maximum: 100}
                mode: {type: string, enum: [drip, spray]}
                depth: {type: integer, nullable: true}
                port: {x-kubernetes-int-or-string: true}
                hose: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {long: {type: boolean}}}
                beds: {type: array, items: {type: object, properties: {name: {type: string}}}}
                names: {type: object, additionalProperties: {type: string}}
                pod: {type: object, x-kubernetes-embedded-resource: true}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
""")
PUMP = yaml.safe_load("""
apiVersion: garden.example.com/v1
kind: Pump
metadata: {name: roses, namespace: garden}
spec: {flow: 3, mode: drip, depth: null, port: http, hose: {long: true, colour: green}, beds: [{name: a}], names: {a: b}, pod: {kind: Pod, metadata: {name: a}}}
status: {wet: true}
""")


def said(*objects: Any, version: str = "v1.34.1", strict: bool = False) -> list[str]:
    return [str(problem) for problem in validation.validate(objects, version, strict=strict)]


def changed(thing: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return an object in which one field is another, or is gone (`...`)."""
    made = copy.deepcopy(thing)
    place: Any = made
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return made


@pytest.mark.parametrize("version", ["v1.25.0", "v1.34.1+k3s1", "v1.37.2"])
def test_what_kubernetes_takes_has_no_problems(version: str) -> None:
    assert said(DEPLOYMENT, DEFINITION, PUMP, version=version, strict=True) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec/replica", 2, "spec.replica: there is no such field in Kubernetes 1.34 (did you mean `replicas`?)"),
        ("spec/template/spec/containers/0/imagepullpolicy", "Always", "spec.template.spec.containers[0].imagepullpolicy: there is no such field in Kubernetes 1.34 (did you mean `imagePullPolicy`?)"),
        ("spec/replicas", "2", "spec.replicas: is text, and has to be a whole number"),
        ("spec/replicas", True, "spec.replicas: is true or false, and has to be a whole number"),
        ("spec/template/spec/containers/0/env/0/value", 8080, "spec.template.spec.containers[0].env[0].value: is a number, and has to be text"),
        ("spec/template/spec/containers/0/resources/limits/memory", ["1Gi"], "spec.template.spec.containers[0].resources.limits.memory: is a list, and has to be text or a number"),
        ("spec/template/spec/containers", {}, "spec.template.spec.containers: is a mapping, and has to be a list"),
        ("spec/template/spec/containers/0/ports/0/containerPort", ..., "spec.template.spec.containers[0].ports[0].containerPort: is missing"),
        ("spec/selector", ..., "spec.selector: is missing"),
        ("metadata/name", ..., "metadata: there is no name"),
        ("metadata/labels/a.b", 1, 'metadata.labels["a.b"]: is a number, and has to be text'),
        ("kind", "Deploymnet", "kind: Kubernetes 1.34 has no Deploymnet in apps/v1 (Deployment is in apps/v1)"),
        ("apiVersion", "extensions/v1beta1", "apiVersion: Kubernetes 1.34 has no Deployment in extensions/v1beta1 (Deployment is in apps/v1)"),
        ("apiVersion", ..., "does not say its apiVersion"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_and_told_with_what_is_allowed(path: str, value: Any, message: str) -> None:
    (found,) = said(changed(DEPLOYMENT, path, value))
    assert found.startswith("Deploy")
    assert found.endswith(f": {message}")


def leaves(thing: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values that are neither lists nor mappings."""
    if isinstance(thing, dict):
        return [leaf for key, value in thing.items() for leaf in leaves(value, (*path, key))]
    if isinstance(thing, list):
        return [leaf for number, value in enumerate(thing) for leaf in leaves(value, (*path, number))]
    return [path]


@pytest.mark.parametrize("path", leaves(DEPLOYMENT), ids=validation.dotted)
def test_every_value_of_a_wrong_type_is_found(path: tuple[Any, ...]) -> None:
    made = copy.deepcopy(DEPLOYMENT)
    place: Any = made
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = [[]]
    assert said(made)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec/flows", 3, "spec.flows: there is no such field in what pibake knows of it (did you mean `flow`?)"),
        ("spec/flow", ..., "spec.flow: is missing"),
        ("spec/flow", 101, "spec.flow: breaks the rule `maximum: 100`"),
        ("spec/mode", "flood", "spec.mode: is none of the words that are allowed (drip, spray)"),
        ("spec/port", [80], "spec.port: is a list, and has to be a whole number or text"),
        ("spec/hose/long", "yes", "spec.hose.long: is text, and has to be true or false"),
        ("spec/beds/0/nam", "b", "spec.beds[0].nam: there is no such field in what pibake knows of it (did you mean `name`?)"),
        ("spec/names/a", 1, "spec.names.a: is a number, and has to be text"),
        ("spec/pod/size", 1, "spec.pod.size: there is no such field in what pibake knows of it (there are apiVersion, kind, metadata)"),
        ("metadata/lables", {}, "metadata.lables: there is no such field in what pibake knows of it (did you mean `labels`?)"),
        ("spec", ..., "spec: is missing"),
    ],
)  # fmt: skip
def test_a_custom_object_is_held_against_its_definition(path: str, value: Any, message: str) -> None:
    assert said(DEFINITION, changed(PUMP, path, value)) == [f"Pump garden/roses: {message}"]


def test_a_custom_kind_without_a_definition_is_in_doubt_and_of_the_catalogues_wrong() -> None:
    (lenient,) = validation.validate([PUMP], "v1.34.1")
    (strict,) = validation.validate([PUMP], "v1.34.1", strict=True)
    assert lenient.warning
    assert not strict.warning
    assert lenient.message == "Pump of garden.example.com/v1 is no kind that pibake knows"


def test_a_group_with_a_domain_of_its_own_is_not_kubernetes() -> None:
    (found,) = validation.validate([changed(DEPLOYMENT, "apiVersion", "apps.example.com/v1")], "v1.34.1")
    assert found.warning


def test_a_definition_that_is_no_definition_is_told_and_defines_nothing() -> None:
    broken = changed(DEFINITION, "spec/versions/0/schema/openAPIV3Schema/properties/spec", "free")
    found = said(broken, PUMP)
    assert any("openAPIV3Schema.properties.spec: is text" in text for text in found)


@pytest.mark.parametrize(("version", "release"), [("v1.20.2", "1.25"), ("v1.99.0", "1.37")])
def test_of_another_release_the_nearest_one_is_taken_and_what_it_lacks_is_in_doubt(
    version: str, release: str
) -> None:
    assert schemas.nearest(version) == release
    assert release in schemas.told(version)
    unknown, typed, kind = validation.validate(
        [
            changed(DEPLOYMENT, "spec/replica", 2),
            changed(DEPLOYMENT, "spec/replicas", "2") | {"metadata": {"name": "b"}},
            DEPLOYMENT | {"apiVersion": "extensions/v1beta1", "metadata": {"name": "c"}},
        ],
        version,
    )
    assert unknown.warning
    assert kind.warning
    assert not typed.warning


def test_a_release_that_is_known_needs_no_word() -> None:
    assert schemas.told("v1.34.1+k3s1") == ""


def test_values_of_secrets_are_checked_and_never_repeated() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "door"},
        "data": {"key": "hunter-2!"},
    }
    assert said(secret) == ["Secret door: data.key: is not in base64 (plain text goes into `stringData`)"]
    assert said(secret | {"data": {"key": "aHVudGVyLTI="}}) == []
    assert "4711" not in str(said(secret | {"data": {}, "stringData": {"key": 4711}}))


def test_an_object_that_stands_twice_is_found_across_lists() -> None:
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [one | {"data": {"a": 1}}]}
    assert said(one, listed, one | {"metadata": {"name": "a", "namespace": "b"}}) == [
        "ConfigMap a: items[0].data.a: is a number, and has to be text",
        "ConfigMap a: items[0]: is there twice: document 1 is the same one",
    ]


@pytest.mark.parametrize("thing", [[], "text", 1, True])
def test_what_is_no_mapping_is_no_object(thing: Any) -> None:
    assert said(thing)[0].endswith("no object of Kubernetes (an object is a mapping)")


def test_all_kinds_of_a_release_are_known_by_group_version_and_kind() -> None:
    kinds = schemas.built_in("1.34")
    assert Kind("", "v1", "Pod") in kinds
    assert Kind("networking.k8s.io", "v1", "Ingress") in kinds
    assert Kind("gateway.networking.k8s.io", "v1", "Gateway") not in kinds
    assert Kind("batch", "v1beta1", "CronJob") not in kinds
