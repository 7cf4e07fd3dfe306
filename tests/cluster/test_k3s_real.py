"""The real k3s, where its release can be downloaded: two cards become a cluster (`make test-k3s`)."""

from __future__ import annotations

import os

import pytest
from tests.cluster import lab as labs

pytestmark = pytest.mark.k3s

VERSION = os.environ.get("K3S_VERSION", "v1.31.4+k3s1")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"


def test_a_server_and_an_agent_become_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("k3s")
    (folder / "cluster.yaml").write_text(
        "cluster: lab\n"
        f"kubernetes: {{distribution: k3s, version: {VERSION}, airgap: true, disable: [traefik, servicelb]}}\n"
        f"network: {{subnet: 192.168.77.0/24, gateway: {labs.GATEWAY}}}\n"
        f"users: [{{name: ops, ssh_keys: ['{KEY}']}}]\n"
        "nodes:\n"
        "  - {hostname: s1, address: 192.168.77.11, role: server}\n"
        "  - {hostname: a1, address: 192.168.77.12, labels: {disk: ssd}}\n"
    )
    with labs.opened(folder) as lab:
        lab.pibake("build", "--all")
        lab.pibake("kubeconfig", "-o", "kubeconfig")
        with labs.powered(lab, "s1", lab.tap("tap1"), wait=1200) as server:
            assert server.report()["report"]["join"]["stage"] == "scrubbed"
            with labs.powered(lab, "a1", lab.tap("tap2"), wait=1200) as agent:
                assert agent.report()["report"]["join"]["stage"] == "scrubbed"
                ready = {
                    name: [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"]
                    for name, node in lab.nodes().items()
                }
                assert ready == {"s1": ["True"], "a1": ["True"]}
                assert lab.nodes()["a1"]["metadata"]["labels"]["disk"] == "ssd"
                agent.off()
            server.off()
