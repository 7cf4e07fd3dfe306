"""What add-ons come to: charts for helm-controller, plain objects, and Secrets apart."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.test_addons import K3S, KUBEADM, planned

from pibake import kubeyaml, offers
from pibake.config.addons import plain
from pibake.errors import PibakeError
from pibake.kube import addons
from pibake.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.plan import Plan

LEAST = "summary: X.\ngroup: network\nhomepage: https://example.org\n"
METALLB = "addons: {metallb: {pools: [192.168.10.240-192.168.10.250]}}\n"


def objects(decided: Plan, name: str, **given: Any) -> dict[str, dict[str, Any]]:
    found = {manifest.name: manifest for manifest in addons.render(decided, **given)}[name]
    return {item["kind"]: item for item in found.objects}


def with_entry(decided: Plan, text: str, **changes: Any) -> Plan:
    addon = replace(plain("x", offers.parse(LEAST + text, "x.yaml")), **changes)
    return replace(decided, addons=(addon,))


def values(item: dict[str, Any]) -> Any:
    ((found, _),) = kubeyaml.load_all(item["spec"]["valuesContent"])
    return found


@pytest.mark.parametrize("kubernetes", [K3S, KUBEADM])
def test_an_add_on_is_its_namespace_its_chart_and_its_objects(tmp_path: Path, kubernetes: str) -> None:
    found = objects(planned(tmp_path, METALLB, kubernetes), "metallb")
    assert list(found) == ["Namespace", "HelmChart", "IPAddressPool", "L2Advertisement"]
    assert found["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert found["IPAddressPool"]["spec"]["addresses"] == ["192.168.10.240-192.168.10.250"]
    chart = found["HelmChart"]
    assert chart["metadata"] == {"name": "metallb", "namespace": "kube-system"}
    assert chart["spec"]["repo"] == "https://metallb.github.io/metallb"
    assert chart["spec"]["chart"] == "metallb"
    assert chart["spec"]["version"] == offers.entry("metallb").chart.version  # type: ignore[union-attr]
    assert chart["spec"]["targetNamespace"] == "metallb-system"
    assert chart["spec"]["createNamespace"] is False


def test_a_chart_that_brings_the_network_is_installed_without_one(tmp_path: Path) -> None:
    decided = planned(tmp_path, "addons: {cilium: {}}\n")
    assert objects(decided, "cilium")["HelmChart"]["spec"]["bootstrap"] is True


def test_a_chart_of_a_registry_is_named_by_its_whole_reference(tmp_path: Path) -> None:
    decided = planned(
        tmp_path, "addons: {mine: {chart: {repo: oci://c.example/charts/, name: x, version: 1.2.3}}}\n"
    )
    spec = objects(decided, "mine")["HelmChart"]["spec"]
    assert spec["chart"] == "oci://c.example/charts/x"
    assert "repo" not in spec
    assert "valuesContent" not in spec


def test_a_chart_that_is_given_is_carried_inline(tmp_path: Path) -> None:
    spec = objects(planned(tmp_path, METALLB), "metallb", charts={"metallb": b"\x1f\x8b"})["HelmChart"][
        "spec"
    ]
    assert base64.b64decode(spec["chartContent"]) == b"\x1f\x8b"
    assert not {"repo", "chart", "version"} & set(spec)


def test_the_users_values_win_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(
        "speaker: {frr: {enabled: true}, extra: 0644}\nmore: [a]\ncontroller: null\n"
    )
    decided = planned(tmp_path, METALLB.replace("}}", ", values: v.yaml}}"))
    found = values(objects(decided, "metallb")["HelmChart"])
    assert found["speaker"]["frr"] == {"enabled": True}
    assert found["speaker"]["extra"] == 420
    assert found["speaker"]["resources"]
    assert found["more"] == ["a"]
    assert found["controller"] is None  # Helm takes a key away that is null


def test_what_k3s_brings_gets_a_config_for_its_chart(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("logs: {level: DEBUG}\n")
    decided = planned(tmp_path, "addons: {traefik: {values: v.yaml}}\n")
    found = objects(decided, "traefik")
    assert list(found) == ["HelmChartConfig"]
    assert found["HelmChartConfig"]["metadata"] == {"name": "traefik", "namespace": "kube-system"}
    assert values(found["HelmChartConfig"])["logs"] == {"level": "DEBUG"}
    assert addons.render(planned(tmp_path, "addons: {metrics-server: {}}\n")) == ()


def test_a_namespace_comes_once_with_the_first_that_lives_there(tmp_path: Path) -> None:
    one = "chart: {repo: https://c.example, name: x, version: 1.2.3}, namespace: apps"
    decided = planned(
        tmp_path, f"addons: {{a: {{{one}}}, b: {{{one}}}, c: {{{one.replace('apps', 'kube-system')}}}}}\n"
    )
    assert [[item["kind"] for item in one.objects] for one in addons.render(decided)] == [
        ["Namespace", "HelmChart"], ["HelmChart"], ["HelmChart"],
    ]  # fmt: skip


def test_a_published_manifest_comes_before_what_uses_it(tmp_path: Path) -> None:
    remote: Any = {"gateway-api": ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},)}
    decided = planned(tmp_path, "addons: {gateway-api: {}}\n", KUBEADM)
    assert list(objects(decided, "gateway-api", remote=remote)) == ["ConfigMap"]
    assert addons.render(planned(tmp_path, "addons: {gateway-api: {}}\n"), remote=remote) == ()


def test_secrets_are_in_the_manifest_of_secrets_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    (tmp_path / "m.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: own}\nstringData: {a: hunter3}\n"
    )
    decided = planned(
        tmp_path,
        "addons:\n  cert-manager: {email: me@example.org, cloudflare_token: token}\n"
        "  kube-prometheus-stack: {}\n  mine: {manifests: m.yaml}\n",
    )
    given = {
        "cert-manager": {"cloudflare_token": Secret("hunter2\n")},
        "kube-prometheus-stack": {"admin_password": Secret("made up")},
    }
    found = addons.secret_manifest(decided, given)
    assert found
    assert found.name == addons.SECRETS
    # in `data` only: a server makes a new version of an object with `stringData` whenever it is applied
    texts = {
        item["metadata"]["name"]: {key: base64.b64decode(text).decode() for key, text in item["data"].items()}
        for item in found.objects
    }
    assert texts["cloudflare"] == {"token": "hunter2"}  # the file's last newline is no part of it
    assert "made up" in texts["grafana-admin"].values()
    assert texts["own"] == {"a": "hunter3"}
    others = "".join(manifest.dump() for manifest in addons.render(decided))
    assert "hunter" not in others
    assert "kind: Secret\n" not in others


def test_a_masked_manifest_shows_keys_and_no_value(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: own}\ndata: {a: aHVudGVyMg==}\n"
    )
    decided = planned(tmp_path, "addons: {mine: {manifests: m.yaml}, kube-prometheus-stack: {}}\n")
    found = addons.secret_manifest(decided, addons.unread(decided))
    assert found
    shown = addons.masked(found).dump()
    assert "aHVudGVyMg" not in shown
    assert 'a: "***"' in shown


def test_without_secrets_there_is_no_manifest_of_them(tmp_path: Path) -> None:
    assert addons.secret_manifest(planned(tmp_path, METALLB), {}) is None


def test_templates_see_the_cluster_and_options_that_are_not_set_are_none(tmp_path: Path) -> None:
    text = """\
options: {a: {type: string}, b: {type: object, properties: {c: {type: integer, default: 3}}}}
objects: |
  apiVersion: v1
  kind: ConfigMap
  metadata: {name: {{ cluster.name }}}
  data:
    seen: {{ [options.a, options.b.c, cluster.minor, cluster.airgap, cluster.subnet, nodes[0].server, nodes[1].address, addons, k3s, bundled] | tojson | tojson }}
"""
    decided = with_entry(planned(tmp_path, ""), text)
    assert objects(decided, "x")["ConfigMap"]["data"]["seen"] == (
        '[null, 3, 36, false, "192.168.10.0/24", true, "192.168.10.12", ["x"], true, false]'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("objects: '{{ options.a }}'\n", "line 1: .*no attribute 'a'"),
        ("objects: '{% if %}'\n", "objects cannot be rendered"),
        ("objects: 'a: [hunter2'\n", "line 2 of what it came to"),
        ("objects: 'a: hunter2'\n", "no object: `apiVersion` is missing"),
        (
            "chart: {repo: https://c.example, name: x, version: 1.2.3}\nvalues: '- hunter2'\n",
            "not one mapping",
        ),
        (
            'chart: {repo: https://c.example, name: x, version: 1.2.3}\nvalues: "a: 1\\n---\\nb: 1"\n',
            "not one mapping",
        ),
    ],
)
def test_a_fault_of_an_entry_is_told_about_it_without_what_stands_there(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(PibakeError, match=f"the add-on x: .*{said}") as caught:
        addons.render(with_entry(planned(tmp_path, ""), text))
    assert "hunter2" not in str(caught.value)


def test_a_fault_of_a_secrets_template_does_not_repeat_the_secret(tmp_path: Path) -> None:
    text = "options: {a: {type: string, format: secret-file}}\nsecret_objects: 'a: [{{ secrets.a }}'\n"
    decided = with_entry(planned(tmp_path, ""), text, options=MappingProxyType({"a": True}))
    with pytest.raises(PibakeError) as caught:
        addons.secret_manifest(decided, {"x": {"a": Secret("hunter2")}})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__)
