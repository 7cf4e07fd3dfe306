"""What the tests of fit share: the day, and a part in a cluster."""

from __future__ import annotations

import datetime as dt

from pibake.plan import K3sAgent, K3sServer, Kubernetes, Membership, Part, Server

TODAY = dt.date(2026, 9, 1)


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
