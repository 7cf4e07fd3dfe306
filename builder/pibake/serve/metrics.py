"""The rack as Prometheus reads it (text format 0.0.4), by its rules for names and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pibake.rack.states import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.rack.states import Node, Rack

TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(rack: Rack, started: float) -> bytes:
    """Return all metrics; `started` is when this server began, in seconds since 1970."""
    registry = CollectorRegistry()
    registry.register(_Rack(rack, started))
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class _Rack(Collector):
    rack: Rack
    started: float

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "pibake_serve_start_time_seconds", "When this server began, since 1970.", {(): self.started}
        )
        states = [node.state for node in self.rack.nodes]
        counts = {(state,): float(states.count(state)) for state in STATES}
        yield _gauge("pibake_nodes", "Nodes by how they stand.", counts, "state")
        yield from _nodes(self.rack.nodes, self.rack.time)
        up = {(str(one["name"]),): float(one["state"] == "ready") for one in self.rack.engines}
        yield _gauge("pibake_engine_up", "Whether an engine answers.", up, "engine")
        restarts = CounterMetricFamily("pibake_engine_restarts", "Restarts of an engine.", labels=["engine"])
        for one in self.rack.engines:
            restarts.add_metric([str(one["name"])], float(one["restarts"]))
        yield restarts
        known = sum(bool(board.node) for board in self.rack.boards)
        boards = {("yes",): float(known), ("no",): float(len(self.rack.boards) - known)}
        yield _gauge("pibake_boards", "Boards heard of, by whether they are nodes.", boards, "known")


def _nodes(nodes: tuple[Node, ...], now: float) -> Iterator[Metric]:
    state = {(node.known.hostname, node.state): 1.0 for node in nodes}
    yield _gauge("pibake_node_state", "1 for how a node stands.", state, "node", "state")
    heard = [node for node in nodes if node.timeline is not None]
    stage = {(node.known.hostname, node.stage): 1.0 for node in heard if node.stage}
    yield _gauge("pibake_node_stage", "1 for the stage that a node is in.", stage, "node", "stage")
    since = {(node.known.hostname,): max(0.0, now - node.since) for node in heard if node.since}
    yield _gauge("pibake_node_stage_seconds", "For how long a node has been in its stage.", since, "node")
    boots = CounterMetricFamily("pibake_node_boots", "Boots of a node that were heard.", labels=["node"])
    sent = {
        name: GaugeMetricFamily(f"pibake_node_tftp_{name}", f"{what} by TFTP in a node's present boot.", labels=["node"])
        for name, what in (("files", "Files sent"), ("bytes", "Bytes sent"), ("seconds", "Time of sending"))
    }  # fmt: skip
    for node in heard:
        if node.timeline is None:
            continue
        name = [node.known.hostname]
        boots.add_metric(name, node.timeline.boot)
        if tftp := node.timeline.stage("tftp"):
            for kind, value in (("files", tftp.files), ("bytes", tftp.size), ("seconds", tftp.seconds)):
                sent[kind].add_metric(name, value)
    yield boots
    yield from sent.values()


def _gauge(name: str, about: str, values: Mapping[Any, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
