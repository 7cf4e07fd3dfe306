"""pibake: Raspberry Pi boards to a Kubernetes cluster, from cards or from the wire."""

__version__ = "0.1.0"
