"""What is known of boards, and of how far nodes have come."""

from __future__ import annotations

from dataclasses import dataclass

LOADING = ("dhcp", "tftp")
"""What a board goes through before a kernel runs."""
WIRE = (*LOADING, "kernel", "root", "cloud-init")
"""What a board goes through before its own programs tell of it: heard on the wire, but for the last two, which it says."""
OWN = ("network", "clock", "endpoint", "install", "join", "ready", "scrubbed")
"""What `pibake-join` goes through on the node (overlays/node/usr/local/lib/pibake/join)."""
STAGES = WIRE + OWN
TOLD = STAGES[STAGES.index("root") :]
"""The stages that a node itself tells of; the others are heard."""

OK, WAIT, FAIL = "ok", "wait", "failed"
"""How a stage stands: done, under way, or wrong and tried again; in the words of `pibake-join`."""


@dataclass(frozen=True)
class Sighting:
    """One question of a board's, as it was heard on the wire.

    Attributes:
        time: in seconds since 1970.
        mac: `dc:a6:32:01:02:03`.
        asked: "dhcp", or "tftp".
        serial: 8 hex digits, or "" if the question does not tell.
        boards: names of `boards.BOARDS` that ask like this, the likeliest first; empty if none is known to.
        memory: in MiB, from the board's revision; 0 if the question does not tell.
        vendor: option 60, what may be printed of it.
        address: the sender's; "" before it has one.
        path: of the file, what may be printed of it; "" for DHCP.
    """

    time: float
    mac: str
    asked: str
    serial: str = ""
    boards: tuple[str, ...] = ()
    memory: int = 0
    vendor: str = ""
    address: str = ""
    path: str = ""


@dataclass(frozen=True)
class Seen:
    """A board, by all that it has asked; `asked` is how many questions for an address these were."""

    mac: str
    first: float
    last: float
    asked: int
    serial: str = ""
    boards: tuple[str, ...] = ()
    memory: int = 0
    vendor: str = ""
    address: str = ""


@dataclass(frozen=True)
class Moment:
    """A stage of one boot.

    Attributes:
        stage: one of `STAGES`.
        began: when it was first heard of, in seconds since 1970.
        last: when it was last heard of.
        status: `OK`, `WAIT` or `FAIL`.
        detail: what there is to say of it; from a board, so nothing to trust.
        count: how often it was heard of: questions for an address, tries of a stage.
        files: that were sent whole, of TFTP.
        size: their bytes.
        seconds: in which they were sent.
        missing: the last file that was asked for and is not there.
    """

    stage: str
    began: float
    last: float
    status: str = OK
    detail: str = ""
    count: int = 1
    files: int = 0
    size: int = 0
    seconds: float = 0.0
    missing: str = ""


@dataclass(frozen=True)
class Timeline:
    """One boot of a node, or of a board that is no node yet.

    `subject` is the hostname, or the MAC address; boots are counted from 1. `moments` stand in the order in which they began.
    """

    subject: str
    boot: int
    moments: tuple[Moment, ...]

    @property
    def latest(self) -> Moment:
        """The stage that was heard of last; of two at one time, the later stage."""
        return max(self.moments, key=lambda one: (one.last, STAGES.index(one.stage)))

    def stage(self, name: str) -> Moment | None:
        """Return one stage, if it was heard of."""
        return next((one for one in self.moments if one.stage == name), None)
