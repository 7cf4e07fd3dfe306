"""What each board says when it asks for an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.probe.models import Id
from pibake.probe.packet import DISCOVER, REQUEST, Message

if TYPE_CHECKING:
    from pibake.probe.models import Asking, Model


@dataclass(frozen=True)
class Board:
    """The board that is played: its model, MAC address as bytes, and serial as 8 hex digits."""

    model: Model
    mac: bytes
    serial: str


def identifier(board: Board, kind: Id) -> bytes:
    """Return option 97: a type byte and 16 more; numbers go least significant byte first."""
    serial = bytes.fromhex(board.serial)[::-1]
    bodies = {
        Id.CONSTANT: b"\x44" * 16,
        Id.SERIAL: serial * 4,
        Id.BOARD: board.model.fourcc + board.model.revision.to_bytes(4, "little") + board.mac[-4:] + serial,
        Id.ZERO: bytes(16),
    }
    return b"\0" + bodies[kind]


def options(board: Board, asking: Asking, codes: tuple[int, ...]) -> tuple[tuple[int, bytes], ...]:
    """Return the options with these codes of the board's own; 53 says whether the list is that of a REQUEST."""
    values = {
        53: bytes((REQUEST if codes == asking.request else DISCOVER,)),
        55: bytes(asking.wanted),
        60: asking.vendor.encode(),
        93: asking.architecture.to_bytes(2, "big"),
        94: asking.interface,
        97: identifier(board, asking.identifier),
    }
    return tuple((code, values[code]) for code in codes if code in values)


def discover(board: Board, asking: Asking, xid: int) -> Message:
    """Return the message a stage begins with."""
    return Message(1, xid, board.mac, options(board, asking, asking.order))


def request(board: Board, asking: Asking, offer: Message) -> Message:
    """Return the message with which a stage takes an offer."""
    chosen = {50: offer.yiaddr.packed, 54: offer.server.packed}
    own = dict(options(board, asking, asking.request)) | chosen
    return Message(1, offer.xid, board.mac, tuple((code, own[code]) for code in asking.request))
