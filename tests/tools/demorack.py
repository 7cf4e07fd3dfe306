"""A rack to look at: believable boards and boots in every state, put together by `rack.status` as a real one is."""

from __future__ import annotations

from typing import Any

from pibake.rack.states import Known, Rack
from pibake.rack.status import rack
from pibake.rack.values import FAIL, OK, STAGES, WAIT, Moment, Seen, Timeline

MIB = 1 << 20
TOOK = {
    "dhcp": 1.2, "tftp": 11.4, "kernel": 3.1, "root": 2.6, "cloud-init": 24.0, "network": 1.1, "clock": 2.4, "endpoint": 0.9,
    "install": 4.2, "join": 18.5, "ready": 12.8, "scrubbed": 1.3,
}  # fmt: skip
"""Seconds of each stage of a Pi 4's boot."""
SAYS = {
    "install": "from the image", "join": "k3s agent v1.31.4+k3s1", "ready": "Ready", "endpoint": "192.168.10.5:6443",
    "network": "192.168.10.{address} on eth0", "root": "golden 4f1c09a2, overlay on state.img",
}  # fmt: skip
CARD = "Raspberry Pi Zero 2 W has no Ethernet port: `pibake build` makes its card"


def shown(now: float) -> Rack:
    """Return 24 nodes."""
    kinds = ["pi4"] * 12 + ["pi5"] * 6 + ["pi3b+"] * 3 + ["pi3", "generic", "zero2w"]
    nodes = [_known(number, board) for number, board in enumerate(kinds)]
    boots = {one.hostname: _boot(one, "scrubbed", now - 9000 + 7.3 * n) for n, one in enumerate(nodes)}
    for name in ("node22", "node23", "node24"):
        del boots[name]
    boots["node5"] = _boot(nodes[4], "cloud-init", now - 41, WAIT)
    boots["node8"] = _boot(nodes[7], "tftp", now - 9, WAIT)
    boots["node16"] = _boot(nodes[15], "join", now - 63, WAIT)
    boots["node12"] = _boot(
        nodes[11], "join", now - 380, FAIL, detail="the token has expired (401 Unauthorized)"
    )
    boots["node18"] = Timeline("node18", 3, (
        Moment("dhcp", now - 200, now - 199.7, count=2),
        Moment("tftp", now - 199, now - 181, files=9, size=64 * MIB, seconds=17.1),
    ))  # fmt: skip
    boots["node21"] = Timeline("node21", 1, (Moment("dhcp", now - 96, now - 6, WAIT, count=11),))
    return _rack(nodes, boots, now)


def many(now: float, count: int = 500) -> Rack:
    """Return a room of racks, in which most goes well."""
    nodes = [_known(number, "pi5" if number % 3 else "pi4") for number in range(count)]
    boots = {one.hostname: _boot(one, "scrubbed", now - 9000 + number) for number, one in enumerate(nodes)}
    for number in range(240, 268):
        stage = ("tftp", "cloud-init", "join", "kernel")[number % 4]
        boots[f"node{number}"] = _boot(nodes[number - 1], stage, now - 40 - number % 9, WAIT)
    for number in (77, 312, 313):
        said = "no route to 192.168.10.5:6443"
        boots[f"node{number}"] = _boot(nodes[number - 1], "join", now - 700, FAIL, detail=said)
    for number in (401, 402, 403, 404, 405, 406, 488):
        del boots[f"node{number}"]
    return _rack(nodes, boots, now)


def _known(number: int, board: str) -> Known:
    address = f"192.168.{10 + (number + 11) // 250}.{(number + 11) % 250}"
    free = board == "generic"
    mac = (
        ""
        if free
        else f"{'2c:cf:67' if board == 'pi5' else 'dc:a6:32'}:{17 + number // 90:02x}:{7 * number % 256:02x}:{53 * number % 256:02x}"
    )
    serial = "" if free else f"{0x9E3779B1 * (number + 1) % (1 << 32):08x}"
    by = "" if free else "hand" if number % 5 == 2 else "cluster.yaml"
    obstacle = CARD if board == "zero2w" else ""
    return Known(f"node{number + 1}", address, board, mac, serial, "nfs", number != 20, by, obstacle)


def _boot(known: Known, until: str, end: float, status: str = OK, detail: str = "") -> Timeline:
    """Return a boot that came to a stage, which began `now - end` ago."""
    stages = [one for one in STAGES[: STAGES.index(until) + 1] if known.member or one != "endpoint"]
    time = end - sum(TOOK[one] for one in stages[:-1])
    moments = []
    for stage in stages:
        last = stage == until
        said = SAYS.get(stage, "").format(address=known.address.rpartition(".")[2])
        values: dict[str, Any] = {
            "detail": detail if last and detail else "" if last and status != OK else said
        }
        if stage == "tftp":
            part = 0.4 if last and status != OK else 1.0
            values |= {"files": int(9 * part), "size": int(61 * MIB * part), "seconds": TOOK[stage] * part}
        took = TOOK[stage] if status == OK or not last else 4.0
        moments.append(Moment(stage, time, time + took, status if last else OK, **values))
        time += TOOK[stage]
    return Timeline(known.hostname, 1 + int(end) % 4, tuple(moments))


def _rack(nodes: list[Known], boots: dict[str, Timeline], now: float) -> Rack:
    seen = [
        Seen(
            one.mac, boot.moments[0].began, boot.latest.last, 2, one.serial, (one.board,), address=one.address
        )
        for one in nodes
        if (boot := boots.get(one.hostname))
    ]
    seen += [
        Seen("2c:cf:67:9a:10:44", now - 320, now - 4, 64, "c0ffee41", ("pi5",), 8192, "PXEClient:Arch:00000:UNDI:002001"),
        Seen("b8:27:eb:5d:0e:71", now - 95, now - 15, 9, "", ("pi3",), 0, "PXEClient:Arch:00000:UNDI:002001"),
    ]  # fmt: skip
    engines = [
        {
            "name": name,
            "state": "ready",
            "restarts": restarts,
            "since": now - 86000,
            "pid": pid,
            "problem": "",
        }
        for name, restarts, pid in (
            ("dnsmasq", 0, 4127),
            ("ganesha", 1, 4131),
            ("nbd", 0, 4133),
            ("http", 0, 4119),
        )
    ]
    said = [
        (now - 9400, "serves 23 nodes at 192.168.10.2 (eth0), as a DHCP proxy"),
        (now - 3110, "ganesha ended with signal 11; started again"),
        (now - 320, "2c:cf:67:9a:10:44 asks to boot and is no node: a Pi 5 with 8 GiB, serial c0ffee41"),
        (now - 181, "node18 has loaded 9 files, 64.0 MiB, with 3.7 MiB/s"),
        (now - 63, "node16 joins"),
    ]
    return rack("lab", nodes, seen, boots, {"engines": engines, "said": said}, now)
