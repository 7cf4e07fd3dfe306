"""The shape of `kubernetes:` in a cluster.yaml."""

from __future__ import annotations

from pydantic import Field

from pibake.config import leaves  # noqa: TC001 - pydantic reads the annotations
from pibake.config.shapes import Strict


class Kubernetes(Strict):
    """What the nodes join."""

    distribution: leaves.Distribution = Field(description="k3s or kubeadm.", examples=["k3s"])
    version: leaves.Version = Field(
        description="The release to install, in full.", examples=["v1.31.4+k3s1", "v1.31.4"]
    )
    endpoint: leaves.Place | None = Field(
        default=None,
        description="Address or name at which nodes and people reach the API server; the VIP, else the first server, unless set.",
        examples=["api.lab.example"],
    )
    vip: leaves.IP | None = Field(
        default=None,
        description="A free address of the subnet that moves between the servers, by kube-vip.",
        examples=["192.168.10.5"],
    )
    sans: tuple[leaves.Place, ...] = Field(
        default=(),
        description="Further names and addresses for the API server's certificate; every server's are in it anyway.",
        examples=[["k8s.example.com"]],
    )
    node_names: leaves.NodeNames | None = Field(
        default=None,
        description="What nodes are called in the cluster: short is node1, full is node1.lab.example; short unless set. For good: a node under another name is another node.",
        examples=["full"],
    )
    pod_cidr: leaves.Cidr | None = Field(
        default=None,
        description="Addresses of pods; 10.42.0.0/16 with k3s and 10.244.0.0/16 with kubeadm unless set.",
        examples=["10.42.0.0/16"],
    )
    service_cidr: leaves.Cidr | None = Field(
        default=None,
        description="Addresses of services; 10.43.0.0/16 with k3s and 10.96.0.0/12 with kubeadm unless set.",
        examples=["10.43.0.0/16"],
    )
    bundle: leaves.FilePath | None = Field(
        default=None,
        description="Folder with the executables, packages and images to bake in, instead of downloading them.",
        examples=["bundles/v1.31.4"],
    )
    airgap: leaves.Switch = Field(
        default=False,
        description="Bake in the charts and container images of add-ons and, with k3s, the images of the same release, so that no node needs a registry.",
        examples=[True],
    )
    disable: tuple[leaves.Component, ...] = Field(
        default=(), description="k3s: components to leave out.", examples=[["traefik", "servicelb"]]
    )
    snapshotter: leaves.Snapshotter | None = Field(
        default=None, description="k3s: containerd's snapshotter; overlayfs unless set.", examples=["native"]
    )
    datastore: leaves.FilePath | None = Field(
        default=None,
        description="k3s: file with the URL of an external datastore on one line; embedded etcd or SQLite unless set.",
        examples=["datastore.url"],
    )
    registries: leaves.FilePath | None = Field(
        default=None,
        description="k3s: registries.yaml, with mirrors and their credentials, for every node.",
        examples=["registries.yaml"],
    )
    cni: leaves.Cni | None = Field(
        default=None, description="kubeadm: network plugin to install; flannel unless set.", examples=["none"]
    )
    token_ttl: leaves.Duration | None = Field(
        default=None,
        description="kubeadm: how long after the first server's start nodes can join; 24h unless set, 0s is for ever.",
        examples=["72h"],
    )
    phone_home: leaves.PhoneUrl | None = Field(
        default=None,
        description="URL that each node's state is posted to, as JSON, whenever it changes.",
        examples=["http://192.168.10.2:8080/nodes"],
    )
