"""Add-ons of a cluster.yaml: what is read, and what it changes in the plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from pibake import config, offers
from pibake.config import options, rules_pools
from pibake.config.problems import Bad
from pibake.errors import ConfigError
from pibake.offers import Option
from pibake.plan import Plan, plan

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"
CLUSTER = f"""\
cluster: lab
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1}}
users: [{{name: ops, ssh_keys: ["{KEY}"]}}]
nodes:
  - {{hostname: node1, address: 192.168.10.11, role: server, packages: [htop, nfs-common]}}
  - {{hostname: node2, address: 192.168.10.12}}
"""
K3S = "kubernetes: {distribution: k3s, version: v1.36.1+k3s1}\n"
KUBEADM = "kubernetes: {distribution: kubeadm, version: v1.36.1}\n"


def planned(folder: Path, addons: str, kubernetes: str = K3S) -> Plan:
    path = folder / "cluster.yaml"
    path.write_text(f"{CLUSTER}{kubernetes}{addons}", "utf-8")
    return plan(config.load(path, bases=("debian-13",)))


def names(decided: Plan) -> list[str]:
    return [addon.name for addon in decided.addons]


def test_an_add_on_without_a_value_has_its_defaults(tmp_path: Path) -> None:
    empty = planned(tmp_path, "addons:\n  traefik:\n").addons[0]
    assert empty == planned(tmp_path, "addons: {traefik: {}}\n").addons[0]
    assert empty.options["replicas"] == 1
    assert empty.options["address"] is None


def test_no_add_ons_are_none(tmp_path: Path) -> None:
    assert planned(tmp_path, "").addons == planned(tmp_path, "addons: {}\n").addons == ()


def test_what_k3s_brings_is_left_with_its_settings(tmp_path: Path) -> None:
    addons = "addons: {traefik: {replicas: 2}}\n"
    brought = planned(tmp_path, addons).addons[0]
    assert (brought.chart, brought.namespace, brought.images) == (None, "", ())
    assert brought.options["replicas"] == 2
    left_out = "kubernetes: {distribution: k3s, version: v1.36.1+k3s1, disable: [traefik]}\n"
    assert planned(tmp_path, addons, left_out).addons[0].chart
    assert planned(tmp_path, addons, KUBEADM).addons[-1].chart


def test_on_kubeadm_the_controller_comes_first_then_the_network_then_what_is_needed(tmp_path: Path) -> None:
    addons = """\
addons:
  rancher: {hostname: rancher.example.org}
  cilium:
  cert-manager: {email: me@example.org}
"""
    assert names(planned(tmp_path, addons, KUBEADM)) == [
        "helm-controller",
        "cilium",
        "cert-manager",
        "rancher",
    ]
    assert names(planned(tmp_path, addons)) == ["cilium", "cert-manager", "rancher"]
    assert names(planned(tmp_path, "addons: {node-exporter: {}}\n", KUBEADM)) == ["node-exporter"]


def test_servicelb_makes_room_for_metallb_on_k3s_only(tmp_path: Path) -> None:
    addons = "addons: {metallb: {pools: [192.168.10.240-192.168.10.250]}}\n"
    k3s, kubeadm = planned(tmp_path, addons).kubernetes, planned(tmp_path, addons, KUBEADM).kubernetes
    assert k3s
    assert kubeadm
    assert k3s.disable == ("servicelb",)
    assert kubeadm.disable == ()


def test_a_network_plugin_turns_off_the_distributions_own(tmp_path: Path) -> None:
    k3s = planned(tmp_path, "addons: {cilium: {}}\n").kubernetes
    kubeadm = planned(tmp_path, "addons: {cilium: {}}\n", KUBEADM).kubernetes
    assert k3s
    assert kubeadm
    off = ("disable-network-policy", "disable-kube-proxy")
    assert dict(k3s.k3s) == {"flannel-backend": "none", **dict.fromkeys(off, True)}
    assert dict(kubeadm.k3s) == {}
    assert kubeadm.cni == "none"
    # its chart is installed before there is a network, by a pod that asks the API server on its own host
    assert "127.0.0.1" in kubeadm.sans
    assert "127.0.0.1" not in k3s.sans


def test_settings_of_k3s_follow_from_options_and_what_is_not_set_is_left_out(tmp_path: Path) -> None:
    changed = planned(
        tmp_path, "addons: {flannel: {backend: wireguard}, local-path: {path: /srv/v}}\n"
    ).kubernetes
    usual = planned(tmp_path, "addons: {local-path: {}}\n").kubernetes
    assert changed
    assert usual
    assert changed.k3s["flannel-backend"] == "wireguard-native"
    assert changed.k3s["default-local-storage-path"] == "/srv/v"
    assert dict(usual.k3s) == {}


def test_packages_that_add_ons_need_are_baked_into_every_member_once(tmp_path: Path) -> None:
    decided = planned(tmp_path, "addons: {longhorn: {}, node-exporter: {}}\n")
    wanted = ("open-iscsi", "nfs-common", "cryptsetup-bin", "dmsetup", "prometheus-node-exporter")
    assert decided.nodes[1].packages == wanted
    assert decided.nodes[0].packages == (
        "htop",
        "nfs-common",
        *(name for name in wanted if name != "nfs-common"),
    )


def test_a_secret_is_a_path_and_a_password_that_nobody_sets_is_made_up(tmp_path: Path) -> None:
    (tmp_path / "grafana.password").write_text("hunter2\n")
    own, made = (
        planned(tmp_path, f"addons: {{kube-prometheus-stack: {{{text}}}}}\n").addons[0]
        for text in ("admin_password: grafana.password", "")
    )
    assert dict(own.secrets) == {"admin_password": tmp_path / "grafana.password"}
    assert dict(own.generated) == {}
    assert dict(made.secrets) == {}
    assert dict(made.generated) == {"admin_password": 24}
    assert own.options["admin_password"] is made.options["admin_password"] is True


def test_the_plan_as_json_has_paths_of_secrets_and_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "cloudflare.token").write_text("hunter2\n")
    (tmp_path / "m.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: hunter2}\n"
    )
    (tmp_path / "v.yaml").write_text("a: hunter2\n")
    decided = planned(
        tmp_path,
        "addons:\n"
        "  cert-manager: {email: me@example.org, cloudflare_token: cloudflare.token, values: v.yaml}\n"
        "  mine: {manifests: m.yaml}\n",
    )
    shown = json.dumps(decided.to_json()["addons"])
    assert str(tmp_path / "cloudflare.token") in shown
    assert str(tmp_path / "v.yaml") in shown
    assert "hunter2" not in shown
    assert "hunter2" not in repr(decided.addons[1])
    assert decided.addons[1].objects == ()


def test_manifests_of_a_folder_come_in_the_order_of_their_names_with_lists_taken_apart(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "manifests"
    (folder / "z").mkdir(parents=True)
    for path, name in (("b.yaml", "two"), ("a.json", "one"), ("z/c.yml", "five")):
        body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
        (folder / path).write_text(body)
    (folder / "README.md").write_text("not read\n")
    items = "[{apiVersion: v1, kind: Pod, metadata: {name: three}}, {apiVersion: v1, kind: Pod, metadata: {name: four}}]"
    (folder / "c.yaml").write_text(f"apiVersion: v1\nkind: List\nitems: {items}\n")
    addon = planned(tmp_path, "addons: {mine: {manifests: manifests/}}\n").addons[0]
    assert [item["metadata"]["name"] for item in addon.objects] == ["one", "two", "three", "four", "five"]


def test_a_chart_is_of_a_repository_a_registry_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x-1.2.3.tgz").write_bytes(b"")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/Chart.yaml").write_text("name: x\n")
    decided = planned(
        tmp_path,
        f"addons:\n  a: {{chart: {{repo: https://c.example, name: x, version: 1.2.3, sha256: {'A' * 64}}}}}\n"
        "  b: {chart: {repo: oci://c.example/charts, name: x, version: v1.2.3}, namespace: apps}\n"
        "  c: {chart: {file: x-1.2.3.tgz}}\n  d: {chart: {file: x}}\n",
    )
    a, b, c, d = (addon.chart for addon in decided.addons)
    assert a
    assert b
    assert c
    assert d
    assert (a.repo, a.name, a.version, a.sha256) == ("https://c.example", "x", "1.2.3", "a" * 64)
    assert (b.repo, b.sha256) == ("oci://c.example/charts", "")
    assert (c.file, d.file) == (tmp_path / "x-1.2.3.tgz", tmp_path / "x")
    assert [addon.namespace for addon in decided.addons] == ["a", "apps", "c", "d"]


@pytest.mark.parametrize(
    ("schema", "raw", "typed"),
    [
        ({"type": "string"}, "010", "010"),
        ({"type": "integer", "minimum": 1}, "3", 3),
        ({"type": "number"}, "0.5", 0.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "string", "format": "ip-range"}, "10.0.0.1 - 10.0.0.9", "10.0.0.1-10.0.0.9"),
        ({"type": "string", "format": "ip-range"}, "fd00::/120", "fd00::/120"),
        ({"type": "string", "format": "quantity"}, "500m", "500m"),
        ({"type": "string", "format": "host-port"}, "[fd00::2]:9100", "[fd00::2]:9100"),
        ({"type": "array", "items": {"type": "integer"}}, ["1", "2"], [1, 2]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "1"}, {"a": 1}),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "integer", "default": 5}, "b": {"type": "string"}},
            },
            {},
            {"a": 5, "b": None},
        ),
    ],
)
def test_an_option_is_typed_by_its_schema(schema: dict[str, Any], raw: Any, typed: Any) -> None:
    reader = options.Reader()
    option = Option.model_validate_json(json.dumps(schema))
    assert reader.value(option, raw, ("x",)) == typed
    assert reader.problems == []


@pytest.mark.parametrize(
    ("schema", "raw"),
    [
        ({"type": "integer"}, "1.5"),
        ({"type": "integer"}, "010"),
        ({"type": "integer", "minimum": 1}, "0"),
        ({"type": "integer", "maximum": 9}, "10"),
        ({"type": "number"}, "1e3"),
        ({"type": "boolean"}, "yes"),
        ({"type": "string", "enum": ["a", "b"]}, "c"),
        ({"type": "string", "pattern": "^/"}, "a"),
        ({"type": "string", "format": "ip-range"}, "10.0.0.1-fd00::2"),
        ({"type": "string", "format": "host-port"}, "nas:0"),
        ({"type": "string", "format": "host-port"}, "10.0.0.300:80"),
        ({"type": "string", "format": "quantity"}, "ten"),
        ({"type": "string", "format": "duration"}, "1 day"),
        ({"type": "string", "format": "email"}, "me@example"),
        ({"type": "string", "format": "url"}, "ftp://example.org"),
    ],
)
def test_a_value_of_another_kind_is_refused(schema: dict[str, Any], raw: str) -> None:
    with pytest.raises(Bad):
        options.scalar(Option.model_validate_json(json.dumps(schema)), raw)


def test_a_pool_that_the_heads_dhcp_gives_away_is_refused() -> None:
    data = {
        "head": {"dhcp": "192.168.10.200-192.168.10.245"},
        "addons": {"metallb": {"pools": ["192.168.10.240-192.168.10.250", "192.168.10.251-192.168.10.252"]}},
    }
    (problem,) = rules_pools.check(data)
    assert problem.loc == ("addons", "metallb", "pools", 0)
    assert problem.first == ("head", "dhcp")


def test_rules_bear_whatever_stands_in_their_way() -> None:
    written: list[Any] = [
        None,
        "x",
        ["x"],
        {"metallb": "x"},
        {"metallb": {"pools": "x"}},
        {"metallb": {"pools": [None, {}]}},
    ]
    for addons in written:
        assert list(rules_pools.check({"addons": addons})) == []


@pytest.mark.parametrize("kubernetes", [K3S, KUBEADM])
def test_a_secret_written_into_cluster_yaml_is_shown_nowhere(tmp_path: Path, kubernetes: str) -> None:
    for name, entry in offers.catalogue().items():
        for key, option in entry.options.items():
            if option.format != "secret-file":
                continue
            for secret in ("hunter2", "hunter2/hunter2", '"-----BEGIN\\nhunter2"', f"hunter2{'x' * 300}"):
                with pytest.raises(ConfigError) as caught:
                    planned(tmp_path, f"addons:\n  {name}: {{{key}: {secret}}}\n", kubernetes)
                assert "hunter2" not in str(caught.value)
                assert key in str(caught.value)


def test_editors_know_every_add_on_with_its_options_and_ones_own() -> None:
    judge = jsonschema.Draft202012Validator(config.json_schema())
    good = """
      metallb: {pools: [192.168.10.240-192.168.10.250], values: v.yaml}
      traefik:
      kube-prometheus-stack: {storage: 10Gi}
      mine: {chart: {repo: https://c.example, name: x, version: 1.2.3}, namespace: apps}
      yours: {manifests: m/}
    """
    rest = yaml.safe_load(CLUSTER)
    assert judge.is_valid({**rest, "addons": yaml.safe_load(good)})
    for bad in (
        "metallb: {pool: []}", "metallb:", "metallb: {pools: []}", "metallb: {pools: [x]}", "metalb: {}", "traefik: {replicas: two}",
        "mine: {manifests: m/, kustomization: k/}", "mine: {chart: {name: x}}", "mine: {chart: {file: x, repo: 'https://y'}}",
    ):  # fmt: skip
        assert not judge.is_valid({**rest, "addons": yaml.safe_load(bad)}), bad


def test_a_second_default_storage_class_beside_k3s_own_is_warned_of(tmp_path: Path) -> None:
    both = "addons: {longhorn: {}}\n"
    alone = "kubernetes: {distribution: k3s, version: v1.36.1+k3s1, disable: [local-storage]}\n"
    assert "local-path of k3s are both the default" in planned(tmp_path, both).addons[0].warning
    assert not planned(tmp_path, "addons: {longhorn: {default: false}}\n").addons[0].warning
    assert not planned(tmp_path, both, alone).addons[0].warning
    assert not planned(tmp_path, both, KUBEADM).addons[-1].warning
