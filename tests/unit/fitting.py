"""What the tests of fit share: systems as an image says them, and a part in a cluster."""

from __future__ import annotations

import datetime as dt

from pibake.plan import K3sAgent, K3sServer, Kubernetes, Membership, Part, Server
from pibake.system import Growth, Kernel, Network, Release, System

TODAY = dt.date(2026, 9, 1)
DEBIAN = System(
    release=Release("debian", "13", "trixie", "Debian GNU/Linux 13 (trixie)"),
    arch="arm64",
    init="systemd",
    boot="boot/firmware",
    cmdlines=("cmdline.txt",),
    network=Network.NETPLAN,
    growth=Growth.CLOUD_INIT,
    python="3.13.5",
    kernels=(Kernel("vmlinuz", "6.12.48+deb13-arm64"),),
)


def member(part: Part, version: str = "v1.34.2") -> Membership:
    k3s = isinstance(part, K3sServer | K3sAgent)
    return Membership(
        part,
        (),
        Kubernetes(
            distribution="k3s" if k3s else "kubeadm",
            version=f"{version}+k3s1" if k3s else version,
            endpoint="192.168.10.11",
            vip="",
            sans=(),
            servers=(Server("node1", "node1.lab.example", "192.168.10.11"),),
            pod_cidr="10.42.0.0/16",
            service_cidr="10.43.0.0/16",
            cluster_dns="10.43.0.10",
        ),
    )
