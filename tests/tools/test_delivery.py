"""Add-ons through the real `pibake build`: on whose image what of them is, and where no secret of theirs ever shows."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.tools.images import tool
from tests.tools.test_charts import Shop, certificate, pack, sha256, shop
from tests.tools.test_containers import Store
from tests.tools.test_members import Cluster
from tests.tools.test_payload import docker
from tests.tools.test_release import elf

from pibake import bases, config, delivery, resources
from pibake.cache import Cache
from pibake.errors import PibakeError
from pibake.image import ext4
from pibake.image.golden import golden
from pibake.pins import FILE
from pibake.plan import BaseRef, plan
from pibake.progress import Silent
from pibake.web import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tools.registryd import Registry

__all__ = ["certificate", "shop"]
TOKEN = "s3cr3t-of-cloudflare"
OWN = "s3cr3t-of-my-own-manifest"
ADDONS = """
addons:
  metallb: {pools: [192.168.10.240-192.168.10.250]}
  cert-manager: {email: me@example.org, cloudflare_token: cloudflare.token}
  kube-prometheus-stack: {}
  my-app: {chart: {file: my-app}, namespace: apps}
  my-objects: {manifests: objects.yaml}
"""
OBJECTS = f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: mine, namespace: default}}
data: {{say: hello}}
---
apiVersion: v1
kind: Secret
metadata: {{name: mine, namespace: default}}
stringData: {{password: {OWN}}}
"""
PLACES = {
    "k3s": ("var/lib/rancher/k3s/server/manifests", "pibake-", "pibake-secrets.yaml"),
    "kubeadm": ("etc/pibake/addons", "", "secrets.yaml"),
}
"""Distribution -> folder of manifests, what their names begin with, and the file with Secrets."""


def equip(cluster: Cluster, addons: str = ADDONS) -> None:
    """Let a cluster have add-ons, and its bundle what kubeadm applies them with."""
    folder = cluster.folder
    programs = {path.name for path in (folder / "bundle/bin").iterdir()}
    if "kubeadm" in programs and "kubectl" not in programs:
        (folder / "bundle/bin/kubectl").write_bytes(elf())
    (folder / "my-app/templates").mkdir(parents=True, exist_ok=True)
    (folder / "my-app/Chart.yaml").write_text("apiVersion: v2\nname: my-app\nversion: 1.2.3\n")
    (folder / "cloudflare.token").write_text(TOKEN + "\n")
    (folder / "cloudflare.token").chmod(0o600)
    (folder / "objects.yaml").write_text(OBJECTS)
    text = (folder / "cluster.yaml").read_text().partition("\naddons:")[0]
    (folder / "cluster.yaml").write_text(text + addons)


KUBERNETES = {
    "k3s": "distribution: k3s, version: v1.31.4+k3s1",
    "kubeadm": "distribution: kubeadm, version: v1.31.4",
}


@pytest.fixture(scope="module", params=["k3s", "kubeadm"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small_base: Path
) -> Cluster:
    made = Cluster(tmp_path_factory.mktemp(request.param), small_base, KUBERNETES[request.param])
    equip(made)
    made.pibake("build", "--all", "--json")
    return made


def distribution(cluster: Cluster) -> str:
    return cluster.secrets().distribution


def listing(cluster: Cluster, node: str, folder: str) -> dict[str, int]:
    """Return the files in a folder of a node's root file system, with their modes."""
    image = cluster.folder / f"images/out/{node}.img"
    offset = ext4.root_partition(image).start
    said = tool("debugfs", "-R", f"ls -p /{folder}", f"{image}?offset={offset}").decode()
    rows = [line.split("/") for line in said.splitlines() if line.startswith("/")]
    return {row[5]: int(row[2], 8) for row in rows if row[5] not in {".", ".."} and int(row[2], 8) & 0o100000}


def content(cluster: Cluster, node: str, path: str) -> str:
    image = cluster.folder / f"images/out/{node}.img"
    return (ext4.read_file(image, ext4.root_partition(image).start, path) or b"").decode()


def objects(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one]


def inside(text: str) -> set[str]:
    """Return what the Secrets of a manifest hold."""
    return {base64.b64decode(value).decode() for one in objects(text) for value in one["data"].values()}


def test_the_first_server_has_every_manifest_and_nobody_else_has_one(cluster: Cluster) -> None:
    folder, begin, secrets = PLACES[distribution(cluster)]
    found = listing(cluster, "s1", folder)
    names = ["metallb", "cert-manager", "kube-prometheus-stack", "my-app", "my-objects"]
    if distribution(cluster) == "kubeadm":
        names.insert(0, "helm-controller")
    assert sorted(found) == [f"{begin}{number:02}-{name}.yaml" for number, name in enumerate(names)]
    assert {mode & 0o777 for mode in found.values()} == {0o600}
    assert secrets not in found
    for node in ("s2", "s3", "a1", "a2"):
        assert listing(cluster, node, folder) == {}


def test_nodes_that_are_not_the_first_server_share_their_golden_image(cluster: Cluster) -> None:
    [record] = [
        json.loads(path.read_text()) for path in (cluster.folder / "cache/pibake/uses").glob("*.json")
    ]
    keys = record["nodes"]
    assert len({keys[name] for name in ("s2", "s3", "a1", "a2")}) == 1
    assert keys["s1"] != keys["s2"]


def test_a_chart_of_the_users_own_is_in_the_manifest(cluster: Cluster) -> None:
    folder, _, _ = PLACES[distribution(cluster)]
    [name] = [name for name in listing(cluster, "s1", folder) if name.endswith("my-app.yaml")]
    [chart] = [
        one for one in objects(content(cluster, "s1", f"{folder}/{name}")) if one["kind"] == "HelmChart"
    ]
    assert base64.b64decode(chart["spec"]["chartContent"])[:2] == b"\x1f\x8b"
    assert "chart" not in chart["spec"]
    [name] = [name for name in listing(cluster, "s1", folder) if name.endswith("metallb.yaml")]
    [chart] = [
        one for one in objects(content(cluster, "s1", f"{folder}/{name}")) if one["kind"] == "HelmChart"
    ]
    assert chart["spec"]["repo"].startswith("https://")
    assert "chartContent" not in chart["spec"]


def test_secrets_are_in_the_first_servers_archive_and_nowhere_else(cluster: Cluster) -> None:
    folder, _, name = PLACES[distribution(cluster)]
    made_up = cluster.secrets().addons["kube-prometheus-stack"]["admin_password"].reveal()
    text, mode = cluster.archive("s1")[f"{folder}/{name}"]
    assert mode == 0o600
    assert {TOKEN, OWN, made_up} <= inside(text)
    assert {one["kind"] for one in objects(text)} == {"Secret"}
    values = [
        coded
        for value in (TOKEN, OWN, made_up)
        for coded in (value, base64.b64encode(value.encode()).decode())
    ]
    for node in ("s2", "s3", "a1", "a2"):
        everything = "".join(file for file, _ in cluster.archive(node).values()) + cluster.open_files(node)
        assert not [value for value in values if value in everything]
        assert f"{folder}/{name}" not in cluster.archive(node)
    cluster.pibake("plan", "--json")
    cluster.pibake("secrets", "list", "--json")
    shown = cluster.said + "".join(
        path.read_text() for path in (cluster.folder / "images/out").glob("*.json")
    )
    shown += cluster.open_files("s1")
    cached = [
        path
        for path in (cluster.folder / "cache/pibake").rglob("*")
        if path.is_file() and path.suffix != ".img"
    ]
    shown += "".join(path.read_bytes().decode("latin-1") for path in cached)
    assert not [value for value in values if value in shown]
    golden = set((cluster.folder / "cache/pibake/images/sha256").glob("*.img"))
    assert len(golden) >= 3  # the base, and two golden images
    for path in golden:
        said = subprocess.run(
            ["grep", "-c", "-a", "-F", *(f"-e{value}" for value in values), path],
            capture_output=True,
            check=False,
        )
        assert said.stdout.strip() == b"0", path


def test_only_kubeadms_first_server_has_what_applies_them(cluster: Cluster) -> None:
    for node in ("s1", "s2", "a1"):
        there = "pibake-addons.service" in listing(cluster, node, "etc/systemd/system")
        assert there == (distribution(cluster) == "kubeadm" and node == "s1")


def test_a_password_is_made_up_once_shown_on_demand_only_and_made_anew_on_demand(
    cluster: Cluster, tmp_path: Path
) -> None:
    name = "addon/kube-prometheus-stack/admin_password"
    first = cluster.secrets().addons["kube-prometheus-stack"]["admin_password"].reveal()
    assert re.fullmatch(r"[A-Za-z0-9]{20,}", first)
    quiet = cluster.said
    assert cluster.pibake("secrets", "show", name) == f"{first}\n"
    cluster.said = quiet
    listed = json.loads(cluster.pibake("secrets", "list", "--json"))
    assert {"what": "add-on password", "owner": name, "mark": "", "expires": ""} in listed
    cluster.pibake("build", "--hostname", "s1")
    assert cluster.secrets().addons["kube-prometheus-stack"]["admin_password"].reveal() == first
    cluster.pibake("secrets", "export", str(tmp_path / "all"), "--all")
    assert (tmp_path / "all/addons/kube-prometheus-stack/admin_password").read_text() == f"{first}\n"
    said = cluster.pibake("secrets", "rotate", "addons", "--addon", "kube-prometheus-stack")
    second = cluster.secrets().addons["kube-prometheus-stack"]["admin_password"].reveal()
    assert second != first
    assert len(second) == len(first)
    assert "pibake secrets rotate addons --apply" in said
    assert second not in said
    cluster.pibake("build", "--hostname", "s1")
    folder, _, file = PLACES[distribution(cluster)]
    assert second in inside(cluster.archive("s1")[f"{folder}/{file}"][0])
    cluster.pibake("secrets", "show", "addon/kube-prometheus-stack/admin", status=1)
    assert f"did you mean {name}?" in cluster.said
    cluster.pibake("secrets", "rotate", "addons", "--addon", "metallb", status=1)
    assert "no password was made up for the add-on metallb" in cluster.said


def test_changing_an_add_on_makes_another_golden_image_of_the_first_server_that_says_so(
    cluster: Cluster,
) -> None:
    folder, begin, _ = PLACES[distribution(cluster)]
    before = cluster.said
    equip(cluster, ADDONS.replace("192.168.10.250", "192.168.10.245"))
    cluster.said = ""
    cluster.pibake("build", "--hostname", "s1", "--hostname", "a1")
    number = 1 if distribution(cluster) == "kubeadm" else 0
    path = f"{folder}/{begin}{number:02}-metallb.yaml"
    assert f"golden image of small.img: made anew, because {path} changed" in cluster.said
    assert cluster.said.count("made anew") == 1
    assert "192.168.10.245" in content(cluster, "s1", path)
    cluster.said = before + cluster.said
    equip(cluster)


# what is downloaded


def with_images(cluster: Cluster, store: Store, chart: str) -> None:
    """Let a cluster have an add-on with a chart, unless there is none, and a Job; both run images of a registry."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "x", "image": f"{store.image}:v2"}]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x", "namespace": "default"},
           "spec": {"template": {"spec": pod}}}  # fmt: skip
    equip(cluster, f"""
addons:
  jobs: {{manifests: job.yaml, images: ["{store.image}:v1"]}}
{chart}
""")  # fmt: skip
    (cluster.folder / "job.yaml").write_text(json.dumps(job))


@pytest.mark.parametrize("kind", ["k3s", "kubeadm"])
def test_with_airgap_every_member_has_the_images_and_a_second_run_needs_no_network(
    kind: str, registry: Registry, small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pibake.share.registry.PATIENCE", Policy(attempts=2, backoff=0.01))
    store = Store(registry)
    store.many("v1")
    store.one("linux/arm64", tag="v2")
    (tmp_path / "lab").mkdir()
    cluster = Cluster(tmp_path / "lab", small_base, f"{KUBERNETES[kind]}, airgap: true")
    (cluster.folder / "bundle/images").mkdir()
    (cluster.folder / "bundle/images/own.tar").write_bytes(docker("arm64"))
    with_images(cluster, store, "")
    assert f"the image {store.image}:v1" in cluster.pibake("plan")
    cluster.pibake("build", "--all")
    place = {"k3s": "var/lib/rancher/k3s/agent/images", "kubeadm": "var/lib/pibake/images"}[kind]
    for node in ("s1", "s2", "a1"):
        found = listing(cluster, node, place)
        files = {f"{store.image.replace(':', '_').replace('/', '_')}_{tag}.tar" for tag in ("v1", "v2")}
        assert found.keys() - {".cache.json"} == files | {"own.tar"}
    pinned = (cluster.folder / FILE).read_text()
    assert len([line for line in pinned.splitlines() if line.startswith(store.image)]) == 2
    registry.stop()
    assert "to download" not in cluster.pibake("plan")
    cluster.pibake("build", "--hostname", "s1")
    shutil.rmtree(cluster.folder / "cache/pibake/containers")
    cluster.pibake("build", "--hostname", "s1", status=1)
    assert f"image {store.image}:v1: " in cluster.said


def test_with_airgap_a_chart_travels_in_the_manifest_and_what_is_not_listed_is_said(
    shop: Shop, registry: Registry, small_base: Path, tmp_path: Path
) -> None:
    store = Store(registry)
    for tag in ("v1", "v2"):
        store.one("linux/arm64", tag=tag)
    data = pack("app", "1.0.0")
    shop.put(data, name="app", version="1.0.0")
    (tmp_path / "lab").mkdir()
    cluster = Cluster(tmp_path / "lab", small_base, f"{KUBERNETES['k3s']}, airgap: true")
    (cluster.folder / "bundle/images").mkdir()
    (cluster.folder / "bundle/images/own.tar").write_bytes(docker("arm64"))
    with_images(
        cluster,
        store,
        f'  app: {{chart: {{repo: "{shop.url}", name: app, version: 1.0.0}}, namespace: apps}}',
    )
    assert f"the chart app 1.0.0 from {shop.url}" in cluster.pibake("plan")
    cluster.pibake("build", "--hostname", "s1")
    assert "nodes still ask registries for the images of app: nobody says which" in cluster.said
    manifest = objects(content(cluster, "s1", "var/lib/rancher/k3s/server/manifests/pibake-01-app.yaml"))
    [chart] = [one for one in manifest if one["kind"] == "HelmChart"]
    assert base64.b64decode(chart["spec"]["chartContent"]) == data
    assert not {"repo", "chart", "version"} & set(chart["spec"])
    assert f"app 1.0.0 {sha256(data)}\n" in (cluster.folder / FILE).read_text()
    shop.server.files.clear()
    assert "to download" not in cluster.pibake("plan")
    cluster.pibake("build", "--hostname", "s1")


@pytest.mark.parametrize("kind", ["k3s", "kubeadm"])
def test_a_golden_image_of_the_real_debian_has_them_closed_to_everybody_but_root(
    kind: str, debian_13: Path, tmp_path: Path
) -> None:
    text = YAML.format(version="v1.31.4" if kind == "kubeadm" else "v1.31.4+k3s1", hash="Q" * 86)
    text = text.replace(", bundle: bundle", "").replace("kubeadm", kind)
    found = made(tmp_path, f"{text}addons:\n  metallb: {{pools: [192.168.10.240-192.168.10.250]}}\n")
    base = bases.obtain(BaseRef(name="debian-13"), Cache(), Silent())
    assert base.image == debian_13
    image = golden(base, found.first("arm64"), Cache(tmp_path / "cache"), Silent()).image
    folder, begin, _ = PLACES[kind]
    number = 1 if kind == "kubeadm" else 0
    at = f"{image}?offset={ext4.root_partition(image).start}"
    said = tool("debugfs", "-R", f"stat /{folder}/{begin}{number:02}-metallb.yaml", at).decode()
    assert re.search(r"Mode:\s+0600\b", said)
    assert re.search(r"User:\s+0\s+Group:\s+0\b", said)
    closed = "var/lib/rancher/k3s/server" if kind == "k3s" else folder
    assert re.search(r"Mode:\s+0700\b", tool("debugfs", "-R", f"stat /{closed}", at).decode())
    unit = tool("debugfs", "-R", "stat /etc/systemd/system/pibake-addons.service", at).decode()
    assert ("Inode:" in unit) == (kind == "kubeadm")


# smaller things


def made(folder: Path, text: str) -> delivery.Delivery:
    (folder / "cluster.yaml").write_text(text)
    found = delivery.of(
        plan(config.load(folder / "cluster.yaml", bases=["debian-13"])), Cache(folder / "cache"), Silent()
    )
    assert found
    return found


YAML = """\
cluster: lab
kubernetes: {{distribution: kubeadm, version: {version}, bundle: bundle}}
network: {{subnet: 192.168.10.0/24}}
users: [{{name: ops, password_hash: "$6$saltsalt${hash}"}}]
nodes: [{{hostname: node1, address: 192.168.10.11, role: server}}]
"""


def bundled(folder: Path, version: str, *programs: str) -> delivery.Delivery:
    for name in ("bin", "manifests"):
        (folder / "bundle" / name).mkdir(parents=True)
    for name in programs:
        (folder / "bundle/bin" / name).write_bytes(elf())
    (folder / "bundle/bundle.yaml").write_text(f"kubernetes: {version}\narchitecture: arm64\n")
    for name in ("flannel.yaml", "more.json"):
        (folder / "bundle/manifests" / name).write_text('{"kind": "List", "apiVersion": "v1", "items": []}\n')
    return made(folder, YAML.format(version=version, hash="Q" * 86))


def test_manifests_of_a_bundle_are_applied_the_same_way(tmp_path: Path) -> None:
    found = bundled(tmp_path, "v1.20.2", "kubeadm", "kubelet", "kubectl").first("arm64")
    assert {file.path: file.mode for file in found.files} == {
        "etc/pibake/addons/00-flannel.yaml": 0o600,
        "etc/pibake/addons/00-more.json": 0o600,
        "etc/systemd/system/pibake-addons.service": 0o644,
    }


def test_a_bundle_that_nothing_can_apply_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PibakeError, match="has no bin/kubectl, and no packages either"):
        bundled(tmp_path, "v1.20.2", "kubeadm", "kubelet").first("arm64")


def test_a_release_whose_api_server_does_not_apply_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PibakeError, match=r"need Kubernetes 1\.18"):
        bundled(tmp_path, "v1.17.4", "kubeadm", "kubelet", "kubectl").first("arm64")


def test_there_is_nothing_to_deliver_where_nothing_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        YAML.format(version="v1.31.4", hash="Q" * 86).replace(", bundle: bundle", "")
    )
    decided = plan(config.load(tmp_path / "cluster.yaml", bases=["debian-13"]))
    assert delivery.of(decided, Cache(tmp_path / "cache"), Silent()) is None


def test_the_unit_is_one_that_systemd_takes() -> None:
    unit = resources.path("overlays", "addons", "etc/systemd/system/pibake-addons.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "kubectl is not executable" not in line]
    assert not said


def test_kubectl_knows_every_option_that_the_unit_gives_it(tmp_path: Path) -> None:
    unit = resources.path("overlays", "addons", "etc/systemd/system/pibake-addons.service").read_text()
    [command] = re.findall(r"^ExecStart=/usr/bin/(kubectl .*)$", unit, re.MULTILINE)
    words = [word for word in command.split() if not word.startswith(("--kubeconfig", "--filename"))]
    (tmp_path / "objects.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n")
    done = subprocess.run(
        [*words, f"--filename={tmp_path}", "--server=http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "127.0.0.1:1: connect: connection refused" in done.stderr, done.stderr
