"""Add-ons on the command line, and kustomizations that the real kubectl builds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.tools.command import run

from pibake import offers

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"
CLUSTER = f"""\
cluster: lab
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1}}
users: [{{name: ops, ssh_keys: ["{KEY}"]}}]
nodes: [{{hostname: node1, address: 192.168.10.11, role: server}}]
kubernetes: {{distribution: k3s, version: v1.36.1+k3s1}}
"""
KUSTOMIZATION = """\
resources: [web.yaml]
namePrefix: my-
commonAnnotations: {from: here}
secretGenerator:
  - {name: web, literals: [password=hunter2]}
"""
WEB = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {mode: '0644'}\n"


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/kustomization.yaml").write_text(KUSTOMIZATION)
    (tmp_path / "deploy/web.yaml").write_text(WEB)
    addons = "addons:\n  metallb: {pools: [192.168.10.240-192.168.10.250]}\n  mine: {kustomization: deploy}\n"
    (tmp_path / "cluster.yaml").write_text(CLUSTER + addons)
    return tmp_path


def test_secrets_of_a_kustomization_can_be_asked_for_and_are_masked(cluster: Path) -> None:
    done = run("addons", "render", "secrets", "--json", cwd=cluster)
    assert done.returncode == 0, done.stderr
    (secret,) = json.loads(done.stdout)
    assert secret["data"] == {"password": "***"}


def test_all_objects_are_one_stream_of_yaml_with_secrets_last(cluster: Path) -> None:
    done = run("addons", "render", cwd=cluster)
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    kinds = [item["kind"] for item in found]
    assert kinds == ["Namespace", "HelmChart", "IPAddressPool", "L2Advertisement", "ConfigMap", "Secret"]
    assert found[4]["metadata"] == {"name": "my-web", "annotations": {"from": "here"}}
    assert found[4]["data"] == {"mode": "0644"}
    assert found[5]["data"] == {"password": "***"}


def test_a_folder_gets_a_file_for_each_add_on(cluster: Path) -> None:
    done = run("addons", "render", "-o", "out", cwd=cluster)
    assert done.returncode == 0, done.stderr
    names = ["00-metallb.yaml", "01-mine.yaml", "02-secrets.yaml"]
    assert done.stdout.split() == [f"out/{name}" for name in names]
    assert sorted(path.name for path in (cluster / "out").iterdir()) == names


def test_a_kustomization_that_kubectl_refuses_is_told_in_its_words(cluster: Path) -> None:
    (cluster / "deploy/kustomization.yaml").write_text("resources: [missing.yaml]\n")
    done = run("plan", cwd=cluster)
    assert done.returncode == 1
    assert "the add-on mine" in done.stderr
    assert "missing.yaml" in done.stderr


def test_a_name_that_the_cluster_does_not_have_is_refused(cluster: Path) -> None:
    done = run("addons", "render", "traefik", cwd=cluster)
    assert done.returncode == 1
    assert "this cluster has no add-on traefik" in done.stderr
    assert "it has metallb, mine" in done.stderr


def test_a_cluster_without_add_ons_says_so(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    done = run("addons", "render", cwd=tmp_path)
    assert done.returncode == 1
    assert "no add-ons" in done.stderr


def test_the_list_is_the_catalogue() -> None:
    rows = run("addons", "list").stdout.splitlines()
    assert [row.split()[0] for row in rows[1:]] == list(offers.names())
    listed = json.loads(run("addons", "list", "--json").stdout)
    assert [item["name"] for item in listed] == list(offers.names())
    assert not {"values", "objects", "secret_objects"} & {key for item in listed for key in item}


@pytest.mark.parametrize("name", offers.names())
def test_each_can_be_shown(name: str) -> None:
    done = run("addons", "show", name)
    assert done.returncode == 0
    assert done.stdout.startswith(name)
    for key in offers.entry(name).options:
        assert f"\n{key} " in done.stdout
    assert json.loads(run("addons", "show", name, "--json").stdout)["name"] == name


def test_the_plan_lists_add_ons_and_warns_of_retired_ones(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        f"{CLUSTER}addons: {{ingress-nginx: {{}}, kubernetes-dashboard: {{}}}}\n"
    )
    done = run("plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "add-on ingress-nginx 4." in done.stdout
    assert "warning: ingress-nginx: retired" in done.stderr
    assert "take headlamp instead" in done.stderr
    shown = json.loads(run("plan", "--json", cwd=tmp_path).stdout)["addons"]
    assert [item["name"] for item in shown] == ["ingress-nginx", "kubernetes-dashboard"]
