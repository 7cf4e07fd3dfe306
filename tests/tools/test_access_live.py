"""A real API server knows what pibake issued; it needs what `make test-cluster` keeps in the cache."""

from __future__ import annotations

import json
import os
import platform
import select
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pibake import resources
from pibake.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "pibake")
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
APISERVER = next(CACHE.glob(f"kubernetes-1.*/{ARCH}/kube-apiserver"), None)
ETCD = shutil.which("etcd") or next(map(str, CACHE.glob(f"etcd-3.*/{ARCH}/etcd")), None)
KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(
    not (APISERVER and ETCD and KUBECTL), reason="no kube-apiserver, etcd or kubectl; see make test-cluster"
)
CLUSTER = """
cluster: lab
kubernetes: {distribution: kubeadm, version: v1.31.4}
network: {subnet: 192.168.10.0/24, gateway: 192.168.10.1}
users:
  - {name: ops, ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"]}
nodes:
  - {hostname: node1, address: 192.168.10.11, role: server}
  - {hostname: node2, address: 192.168.10.12}
"""


class Server:
    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = f"https://127.0.0.1:{port}"

    def pibake(self, *arguments: str) -> str:
        argv = [sys.executable, "-m", "pibake", *arguments]
        env = {**os.environ, "HOME": str(self.home)}
        done = subprocess.run(
            argv, cwd=self.home, env=env, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kubectl(
        self, *arguments: str, config: str = "admin", stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        argv: list[str | Path] = [
            "kubectl",
            "--kubeconfig",
            self.home / config,
            "--request-timeout=30s",
            *arguments,
        ]
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)


def until(what: Callable[[], bool]) -> bool:
    """Return whether something comes true within half a minute."""
    for _ in range(60):
        if what():
            return True
        time.sleep(0.5)
    return False


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert APISERVER
    assert ETCD
    home = tmp_path_factory.mktemp("live")
    (home / "cluster.yaml").write_text(CLUSTER)
    port, client, peer = free(), free(), free()
    made = Server(home, port)
    made.pibake("secrets", "issue")
    made.pibake("secrets", "export", "tls", "--pki")
    made.pibake("kubeconfig", "-o", "admin", "--server", made.url)
    pki, key, request, cert = home / "tls/pki", home / "s.key", home / "s.csr", home / "s.crt"
    (home / "ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    signed: list[list[str | Path]] = [
        ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=kube-apiserver"],
        ["openssl", "x509", "-req", "-in", request, "-CA", pki / "ca.crt", "-CAkey", pki / "ca.key", "-CAcreateserial",
         "-extfile", home / "ext", "-out", cert],
    ]  # fmt: skip
    for argv in signed:
        subprocess.run(argv, check=True, capture_output=True)
    etcd: list[str | Path] = [ETCD, "--data-dir", home / "etcd", "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls",
            f"http://127.0.0.1:{client}", "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls",
            f"http://127.0.0.1:{peer}", "--initial-cluster", f"default=http://127.0.0.1:{peer}"]  # fmt: skip
    api: list[str | Path] = [APISERVER, f"--etcd-servers=http://127.0.0.1:{client}", f"--secure-port={port}", "--bind-address=127.0.0.1",
           "--advertise-address=192.168.10.11", f"--client-ca-file={pki}/ca.crt", f"--tls-cert-file={cert}",
           f"--tls-private-key-file={key}", f"--service-account-key-file={pki}/sa.pub",
           f"--service-account-signing-key-file={pki}/sa.key", "--service-account-issuer=https://kubernetes.default.svc",
           "--authorization-mode=Node,RBAC", "--enable-bootstrap-token-auth", "--service-cluster-ip-range=10.96.0.0/12",
           "--endpoint-reconciler-type=none", f"--cert-dir={home}"]  # fmt: skip
    with (home / "log").open("wb") as log:
        children = [subprocess.Popen(argv, stdout=log, stderr=log) for argv in (etcd, api)]
        try:
            for _ in range(240):
                if made.kubectl("get", "--raw", "/readyz").stdout == "ok":
                    break
                assert not any(child.poll() for child in children), (home / "log").read_text()[-3000:]
                time.sleep(0.5)
            yield made
        finally:
            for child in reversed(children):
                child.kill()
                child.wait()


def test_the_kubeconfig_made_before_the_server_ran_is_the_administrators(server: Server) -> None:
    assert server.kubectl("auth", "can-i", "*", "*").stdout.strip() == "yes"


def test_the_server_is_reached_through_a_socks_proxy(server: Server) -> None:
    with socks() as (port, asked):
        said = server.pibake("kubeconfig", "--via", "node1", "--server", server.url, "-o", "far")
        assert said.startswith("far: kubectl --kubeconfig far get nodes")
        text = (server.home / "far").read_text().replace("127.0.0.1:1080", f"127.0.0.1:{port}")
        (server.home / "far").write_text(text)
        assert server.kubectl("get", "--raw", "/readyz", config="far").stdout == "ok"
    assert f"https://127.0.0.1:{asked[0]}" == server.url


@contextmanager
def socks() -> Iterator[tuple[int, list[int]]]:
    """Be what `ssh -D` offers (RFC 1928, without authentication), and note the ports that are asked for."""
    asked: list[int] = []

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            count = self.request.recv(2)[1]
            self.request.recv(count)
            self.request.sendall(b"\5\0")
            kind = self.request.recv(4)[3]
            length = 4 if kind == 1 else self.request.recv(1)[0]
            self.request.recv(length)
            asked.append(int.from_bytes(self.request.recv(2), "big"))
            self.request.sendall(b"\5\0\0\1" + bytes(6))
            with socket.create_connection(("127.0.0.1", asked[-1])) as far:
                other = {far: self.request, self.request: far}
                while True:
                    for one in select.select(list(other), [], [])[0]:
                        data = one.recv(65536)
                        if not data:
                            return
                        other[one].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        yield proxy.server_address[1], asked
        proxy.shutdown()


def test_a_users_kubeconfig_is_who_it_says_and_may_do_nothing_yet(server: Server) -> None:
    server.pibake(
        "kubeconfig",
        "--user",
        "alice",
        "--group",
        "dev",
        "--ttl",
        "1h",
        "-o",
        "alice",
        "--server",
        server.url,
    )
    refused = server.kubectl("get", "nodes", config="alice")
    assert 'User "alice" cannot list resource "nodes"' in refused.stderr
    server.kubectl("create", "clusterrole", "pods", "--verb=list", "--resource=pods")
    server.kubectl("create", "clusterrolebinding", "dev", "--clusterrole=pods", "--group=dev")
    assert until(lambda: server.kubectl("get", "pods", "-A", config="alice").returncode == 0)


def test_a_rotated_token_is_taken_and_the_old_one_no_more(server: Server) -> None:
    def knows(token: str) -> bool:
        """Ask as a joining kubelet does; being known and not allowed is enough here."""
        # a kubeconfig without a certificate, so that the token alone decides
        config = json.loads(server.kubectl("config", "view", "--raw", "-o", "json").stdout)
        config["users"][0]["user"] = {"token": token}
        (server.home / "bare").write_text(json.dumps(config))
        said = server.kubectl("get", "nodes", config="bare").stderr
        assert "Unauthorized" in said or "system:bootstrap:" in said or "logged in" in said, said
        return f'User "system:bootstrap:{token[:6]}"' in said

    vault = Vault(server.home / "secrets")
    first = vault.existing().tokens["bootstrap"].reveal()
    assert not knows(first)
    server.pibake("secrets", "rotate", "tokens", "--apply", "--server", server.url)
    second = vault.existing().tokens["bootstrap"].reveal()
    assert until(lambda: knows(second))
    server.pibake("secrets", "rotate", "tokens", "--apply", "--server", server.url)
    third = vault.existing().tokens["bootstrap"].reveal()
    assert until(lambda: knows(third))
    assert until(lambda: not knows(second))  # servers keep what they knew for ten seconds
    kept = json.loads(
        server.kubectl(
            "-n", "kube-system", "get", "secret", f"bootstrap-token-{third[:6]}", "-o", "json"
        ).stdout
    )
    assert kept["type"] == "bootstrap.kubernetes.io/token"
    assert "annotations" not in kept["metadata"]  # where kubectl keeps a copy in the clear


INFO = (
    "architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "kubeletVersion", "machineID",
    "operatingSystem", "osImage", "systemUUID",
)  # fmt: skip
"""What a Node has to say of its machine (Kubernetes API reference, NodeSystemInfo)."""


def node(name: str, address: str, **status: object) -> dict[str, object]:
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok"}]
    info = dict.fromkeys(INFO, "") | {"kubeletVersion": "v1.31.4"}
    addresses = [{"type": "InternalIP", "address": address}]
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"conditions": conditions, "nodeInfo": info, "addresses": addresses, **status},
    }  # fmt: skip


def register(server: Server, one: dict[str, object]) -> None:
    """Make a Node, and give it its status, as its kubelet does."""
    assert server.kubectl("create", "-f", "-", stdin=json.dumps(one)).returncode == 0
    raw = f"/api/v1/nodes/{one['metadata']['name']}/status"  # type: ignore[index]
    known = json.loads(server.kubectl("get", "--raw", raw).stdout)
    told = json.dumps(known | {"status": one["status"]})
    assert server.kubectl("replace", "--raw", raw, "-f", "-", stdin=told).returncode == 0


def lease(name: str, offset: float) -> dict[str, object]:
    at = datetime.now(UTC) + timedelta(seconds=offset)
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"}
    metadata = {"name": name, "namespace": "kube-node-lease"}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def test_check_finds_what_is_not_as_cluster_yaml_says(server: Server) -> None:
    server.kubectl("create", "namespace", "kube-node-lease")
    pressed = [
        {"type": "Ready", "status": "True"},
        {"type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure"},
    ]
    register(server, node("node1", "192.168.10.11", conditions=pressed))
    register(server, node("stranger", "192.168.10.99"))
    assert server.kubectl("apply", "-f", "-", stdin=json.dumps(lease("node1", 90))).returncode == 0
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}}
    web = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }  # fmt: skip
    assert server.kubectl("create", "-f", "-", stdin=json.dumps(web)).returncode == 0

    code, findings = checked(server)
    assert code == 5
    found = {(one["what"], one["subject"]): (one["status"], one["detail"]) for one in findings}
    assert found["node", "node1"] == ("wrong", "DiskPressure: kubelet has disk pressure")
    assert found["node", "node2"] == ("wrong", "is not in the cluster")
    assert found["node", "stranger"] == ("warning", "is in the cluster, and not in cluster.yaml")
    assert found["address", "node1"] == ("ok", "192.168.10.11")
    assert found["kubelet", "node1"] == ("ok", "v1.31.4")
    assert found["API server", "API server"][1].endswith("where cluster.yaml says v1.31.4")
    status, detail = found["clock", "node1"]
    assert (status, detail.partition(" ")[2]) == ("wrong", "s later than the API server's")
    assert 80 <= int(detail.partition(" ")[0]) <= 92
    assert found["clock", "API server"][0] == "ok"
    assert found["disk", "node1"] == ("unknown", "its kubelet does not say")
    assert found["certificate", "API server's certificate"][0] == "warning"
    assert found["certificate", "authority ca"][0] == "ok"
    assert found["Deployment", "default/web"] == ("wrong", "0 of 2 ready")
    for name in ("node1", "stranger"):
        server.kubectl("delete", "node", name)


def checked(server: Server, *more: str) -> tuple[int, list[dict[str, str]]]:
    argv = [sys.executable, "-m", "pibake", "check", "--json", "--server", server.url, *more]
    env = {**os.environ, "HOME": str(server.home)}
    done = subprocess.run(
        argv, cwd=server.home, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_check_knows_how_far_add_ons_are(server: Server) -> None:
    pools = "addons:\n  metallb: {pools: [192.168.10.240-192.168.10.250]}\n"
    (server.home / "addons.yaml").write_text(CLUSTER + pools)

    def standing() -> dict[str, tuple[str, str]]:
        _, findings = checked(server, "-c", "addons.yaml")
        return {one["subject"]: (one["status"], one["detail"]) for one in findings if one["what"] == "add-on"}

    before = standing()
    assert before["metallb"][0] == before["helm-controller"][0] == "wrong"
    assert "HelmChart/metallb" in before["metallb"][1]

    # what its chart would bring, and the rest as the first server applies it: again, once the kinds are known
    assert server.kubectl("apply", "-f", str(resources.path("addons", "crds"))).returncode == 0
    first = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}}
    assert server.kubectl("create", "-f", "-", stdin=json.dumps(first)).returncode == 0
    manifests = server.pibake("addons", "render", "-c", "addons.yaml")
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    assert until(lambda: server.kubectl(*apply, stdin=manifests).returncode == 0)
    assert standing() == {
        "helm-controller": ("ok", "6 objects"),
        "metallb": ("warning", "its chart is being installed"),
    }
    # as helm-controller says it
    chart = json.loads(
        server.kubectl("-n", "kube-system", "get", "helmchart", "metallb", "-o", "json").stdout
    )
    chart["status"] = {"conditions": [{"type": "Failed", "status": "True", "message": "no such chart"}]}
    place = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts/metallb/status"
    assert server.kubectl("replace", "--raw", place, "-f", "-", stdin=json.dumps(chart)).returncode == 0
    assert standing()["metallb"] == ("wrong", "its chart is not installed: no such chart")
    server.kubectl("delete", "node", "node1")


def test_a_server_that_does_not_answer_is_an_error_of_another_kind(server: Server) -> None:
    argv = [sys.executable, "-m", "pibake", "check", "--server", f"https://127.0.0.1:{free()}"]
    env = {**os.environ, "HOME": str(server.home)}
    done = subprocess.run(
        argv, cwd=server.home, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "to ask the API server for its version" in done.stderr


def test_forget_takes_a_node_out_and_is_fine_when_it_is_gone(server: Server) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node2"}}
    assert server.kubectl("create", "-f", "-", stdin=json.dumps(node)).returncode == 0
    said = server.pibake("forget", "node2", "--apply", "--server", server.url)
    assert "drained node2\ndeleted the node node2\n" in said
    assert "NotFound" in server.kubectl("get", "node", "node2").stderr
    assert "nothing is left of node2 here" in server.pibake(
        "forget", "node2", "--apply", "--server", server.url
    )
