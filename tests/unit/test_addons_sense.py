"""What single add-ons come to: the choices that their templates make, and what they have to agree on with each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests import offers as samples

from pibake import config, kubeyaml, offers, resources
from pibake.kube import addons, review
from pibake.plan import plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PINNED = re.compile(r"[a-z0-9.-]+\.[a-z]+/[a-z0-9./-]+:[A-Za-z0-9][\w.-]*")
POOL = {"pools": ["192.168.10.240-192.168.10.250"]}
TOKEN = "cloudflare.token"


def rendered(
    folder: Path, chosen: dict[str, Any], distribution: str = "k3s", release: str = "v1.34.1"
) -> Any:
    """Return what add-ons come to, as the objects of each."""
    (folder / TOKEN).write_text("hunter2\n")
    made = samples.made(samples.decided(folder, chosen, distribution, release))
    return {manifest.name: manifest.objects for manifest in made.manifests}


def values(things: tuple[dict[str, Any], ...]) -> Any:
    """Return the values of the one chart among some objects."""
    (text,) = (thing["spec"]["valuesContent"] for thing in things if thing["kind"].startswith("HelmChart"))
    ((found, _),) = kubeyaml.load_all(text)
    return found


def images(thing: Any) -> Iterator[str]:
    return (value for path, value in samples.values(thing) if path and path[-1] == "image")


@pytest.mark.parametrize("name", offers.names())
def test_images_are_named_whole_and_by_their_version(name: str) -> None:
    for image in offers.entry(name).images:
        assert PINNED.fullmatch(image), image
        assert not image.endswith(":latest")


@pytest.mark.parametrize("distribution", samples.DISTRIBUTIONS)
@pytest.mark.parametrize("name", offers.names())
def test_every_image_of_an_add_ons_own_objects_is_among_those_for_clusters_without_a_way_out(
    tmp_path: Path, name: str, distribution: str
) -> None:
    chosen = samples.options(samples.with_needs(name), tmp_path, "all")
    found = rendered(tmp_path, chosen, distribution).get(name, ())
    # a Plan's image is of the release that it upgrades to, which is no part of this one
    used = {image for thing in found if thing["kind"] != "Plan" for image in images(thing)}
    assert used <= set(offers.entry(name).images)


@pytest.mark.parametrize("name", [n for n, e in offers.catalogue().items() if e.provides == "cni"])
def test_a_network_plugin_needs_no_network_to_be_installed_and_finds_none_of_k3s(name: str) -> None:
    entry = offers.entry(name)
    assert entry.bootstrap
    assert entry.k3s.bundled or entry.k3s.config["flannel-backend"] == "none"


def test_kubeadm_gets_the_kinds_of_charts_with_every_field_that_is_written(tmp_path: Path) -> None:
    ours = yaml.safe_load_all(resources.text("addons", "crds", "helm.yaml"))
    got = {
        thing["metadata"]["name"]: thing
        for thing in rendered(tmp_path, {"metallb": POOL}, "kubeadm")["helm-controller"]
        if thing["kind"] == "CustomResourceDefinition"
    }
    for definition in ours:
        (mine,), (theirs,) = (
            definition["spec"]["versions"],
            got[definition["metadata"]["name"]]["spec"]["versions"],
        )
        mine, theirs = (
            v["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] for v in (mine, theirs)
        )
        assert mine.keys() <= theirs.keys()


def test_jobs_that_bring_the_network_find_the_first_server_by_its_label(tmp_path: Path) -> None:
    found = rendered(tmp_path, {"calico": {}}, "kubeadm")
    (node,) = (thing for thing in found["helm-controller"] if thing["kind"] == "Node")
    assert node["metadata"] == {"name": "n0", "labels": {"node-role.kubernetes.io/control-plane": "true"}}


@pytest.mark.parametrize("name", ["traefik", "ingress-nginx"])
def test_where_nothing_hands_out_addresses_an_ingress_controller_answers_on_every_node(
    tmp_path: Path, name: str
) -> None:
    bare = values(rendered(tmp_path, {name: {}}, "kubeadm")[name])
    balanced = values(rendered(tmp_path, {name: {}, "metallb": POOL}, "kubeadm")[name])
    kind = bare["deployment" if name == "traefik" else "controller"]["kind"]
    assert kind == "DaemonSet"
    assert "DaemonSet" not in str(balanced)
    assert "hostPort" in str(bare)
    assert "hostPort" not in str(balanced)


@pytest.mark.parametrize(
    ("options", "solvers"),
    [
        ({}, ["http01"]),
        ({"cloudflare_token": TOKEN}, ["dns01"]),
        ({"cloudflare_token": TOKEN, "zones": ["example.org"]}, ["dns01", "http01"]),
        ({"cloudflare_token": TOKEN, "challenge": "http-01"}, ["http01"]),
    ],
)
def test_names_are_proven_by_a_record_where_there_is_a_token(
    tmp_path: Path, options: dict[str, Any], solvers: list[str]
) -> None:
    found = rendered(tmp_path, {"cert-manager": {"email": "me@example.org", **options}})["cert-manager"]
    issuers = [thing for thing in found if thing["kind"] == "ClusterIssuer"]
    assert [thing["metadata"]["name"] for thing in issuers] == [
        "letsencrypt-staging",
        "letsencrypt-production",
    ]
    for issuer in issuers:
        listed = issuer["spec"]["acme"]["solvers"]
        assert [next(key for key in solver if key != "selector") for solver in listed] == solvers
        zones = [solver["selector"]["dnsZones"] for solver in listed if "selector" in solver]
        assert zones == ([options["zones"]] if "zones" in options else [])


@pytest.mark.parametrize(("nodes_class", "chosen"), [("nginx", "ingress-nginx"), ("traefik", "traefik")])
def test_http_01_goes_through_the_ingress_controller_there_is(
    tmp_path: Path, nodes_class: str, chosen: str
) -> None:
    found = rendered(tmp_path, {"cert-manager": {"email": "me@example.org"}, chosen: {}})["cert-manager"]
    issuer = next(thing for thing in found if thing["kind"] == "ClusterIssuer")
    assert issuer["spec"]["acme"]["solvers"] == [{"http01": {"ingress": {"ingressClassName": nodes_class}}}]


def test_exporters_of_the_hosts_are_one_service_of_all_nodes_and_take_the_place_of_pods(
    tmp_path: Path,
) -> None:
    found = rendered(tmp_path, {"node-exporter": {}, "kube-prometheus-stack": {}})
    by_kind = {thing["kind"]: thing for thing in found["node-exporter"]}
    addresses = [one["addresses"] for one in by_kind["EndpointSlice"]["endpoints"]]
    assert addresses == [[f"192.168.10.1{number}"] for number in range(6)]
    assert "selector" not in by_kind["Service"]["spec"]
    assert by_kind["ServiceMonitor"]["spec"]["serviceDiscoveryRole"] == "EndpointSlice"
    assert values(found["kube-prometheus-stack"])["nodeExporter"]["enabled"] is False


def test_without_prometheus_nothing_asks_for_its_kinds(tmp_path: Path) -> None:
    assert "ServiceMonitor" not in str(rendered(tmp_path, {"node-exporter": {}}))


def test_grafana_has_a_source_of_logs_only_where_there_are_logs(tmp_path: Path) -> None:
    both = rendered(tmp_path, {"kube-prometheus-stack": {}, "loki": {}})["kube-prometheus-stack"]
    alone = rendered(tmp_path, {"kube-prometheus-stack": {}})["kube-prometheus-stack"]
    (source,) = values(both)["grafana"]["additionalDataSources"]
    assert source["url"] == "http://loki.loki:3100"
    assert "additionalDataSources" not in values(alone)["grafana"]


def test_the_probe_reports_last_and_its_url_is_in_no_argument(tmp_path: Path) -> None:
    (tmp_path / "uptime.url").write_text("https://monitor.example/ping/secret-word\n")
    targets = ["http://192.168.10.1", "https://shop.example.org"]
    found = rendered(tmp_path, {"uptime-probe": {"url": "uptime.url", "targets": targets}})["uptime-probe"]
    (job,) = (thing for thing in found if thing["kind"] == "CronJob")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [container["args"][-1] for container in pod["initContainers"]] == targets
    (report,) = pod["containers"]
    assert report["args"][-2:] == ["--config", "/secret/curl.conf"]
    assert "secret-word" not in str(found)


def test_upgrades_are_planned_for_servers_first_and_for_agents_where_there_are_any(tmp_path: Path) -> None:
    chosen = {"system-upgrade-controller": {"channel": "v1.34"}}
    plans = [
        thing for thing in rendered(tmp_path, chosen)["system-upgrade-controller"] if thing["kind"] == "Plan"
    ]
    assert [thing["metadata"]["name"] for thing in plans] == ["server", "agent"]
    assert plans[1]["spec"]["prepare"]["args"] == ["prepare", "server"]
    assert "Plan" not in str(rendered(tmp_path, chosen, "kubeadm")["system-upgrade-controller"])


@pytest.mark.parametrize(
    ("name", "key", "count"), [("longhorn", "defaultClassReplicaCount", 3), ("rook", "size", 3)]
)
def test_storage_keeps_as_many_copies_as_there_are_nodes_but_no_more_than_three(
    tmp_path: Path, name: str, key: str, count: int
) -> None:
    chosen = samples.options([name], tmp_path)
    found = rendered(tmp_path, chosen)[name]
    every = [*found, values(found)]
    assert {value for thing in every for path, value in samples.values(thing) if path[-1:] == (key,)} == {
        count
    }


def test_behind_a_head_add_ons_keep_to_the_nodes_own_network(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        """\
cluster: lab
kubernetes: {distribution: kubeadm, version: v1.34.1}
network: {subnet: 10.0.0.0/24}
head: {node: node1, upstream: {port: "00:e0:4c:68:00:01"}, dhcp: 10.0.0.100-10.0.0.199}
users: [{name: ops, ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"]}]
addons: {flannel: , metallb: {pools: [10.0.0.240-10.0.0.250]}}
nodes:
  - {hostname: node1, address: 10.0.0.1, role: server}
  - {hostname: node2, address: 10.0.0.11}
"""
    )
    decided = plan(config.load(tmp_path / "cluster.yaml", bases=("debian-13",)))
    manifests = addons.render(decided)
    assert review.check(decided, manifests) == ()
    found = {manifest.name: manifest.objects for manifest in manifests}
    (told,) = [word for word in values(found["flannel"])["flannel"]["args"] if "iface" in word]
    pattern = re.compile(told.partition("=")[2])
    assert pattern.search("10.0.0.1")
    assert pattern.search("10.0.0.11")
    assert not pattern.search("10.0.0.111")
    assert not pattern.search("10.0.0")
    (announced,) = (thing for thing in found["metallb"] if thing["kind"] == "L2Advertisement")
    (chosen,) = announced["spec"]["nodeSelectors"][0]["matchExpressions"]
    assert (chosen["operator"], chosen["values"]) == ("NotIn", ["node1"])
