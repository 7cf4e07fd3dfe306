"""How a board gets an address and learns where its files are: one exchange of DHCP, with proxies.

Sources: RFC 2131; PXE 2.1 section 2.2 (a proxy's offer has no address); see `models` for what each board does.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

from pibake.probe.messages import discover, request
from pibake.probe.packet import ACK, ANY, OFFER
from pibake.probe.values import Step, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.probe.messages import Board
    from pibake.probe.models import Asking
    from pibake.probe.packet import Message
    from pibake.probe.wire import Wire

GRACE = 0.3
"""Seconds in which other servers may still speak up once a board has all it needs."""
NOBODY = "no DHCP server answered; is the board known to one, by its MAC address or serial, and does the port come up in time?"
NO_ADDRESS = "a proxy says where to boot from, but nobody gave the board an address"
NO_MENU = 'no offer has "{menu}" in option 43, which is how a board knows its boot server'
SPACES = (
    'option 43 lacks the three spaces after "Raspberry Pi Boot" that the boot ROM of the Pi 2 and 3 looks for'
)
HASTY = "an answer within {hasty:g} s may hang the boot ROM; let dnsmasq wait: dhcp-reply-delay=2"
RIVALS = "{count} servers give addresses ({names}): the board takes whichever is first"
ONLY_SIADDR = (
    "its only word on where files are is siaddr, which some firmware does not read; send option 66 or 43, too"
)


@dataclass(frozen=True)
class Lease:
    """What an exchange gave: the board's address, its router, the TFTP server, and a boot file's name (UEFI)."""

    address: IPv4Interface
    gateway: IPv4Address | None
    server: IPv4Address
    file: str


def ask(
    wire: Wire, board: Board, asking: Asking, patience: float | None, tell: Callable[[Step], None]
) -> Lease | None:
    """Ask for an address as a stage does, telling of each step; None if a real board would stop here.

    `patience` ends it after so many seconds, if the board would wait for longer.
    """
    xid = asking.xid if asking.xid is not None else secrets.randbits(32)
    began = time.monotonic()
    offers, seconds = _offers(wire, board, asking, xid, patience)
    address = next((offer for offer in offers if offer.yiaddr != ANY), None)
    boot = next((offer for offer in offers if _bootable(offer, asking)), None)
    for step in _judge(asking, offers, seconds, address, boot):
        tell(step)
        if step.verdict is Verdict.MISSING:
            return None
    if address is None:
        return None
    boot = boot or address
    taken: Message | None = address
    if asking.request:
        waits = asking.wait, patience if patience is not None else asking.tries * asking.wait
        taken = _confirm(wire, request(board, asking, address), address, waits, tell)
    return _lease(asking, taken, boot, began, tell) if taken else None


def _offers(
    wire: Wire, board: Board, asking: Asking, xid: int, patience: float | None
) -> tuple[list[Message], list[float]]:
    """Return the offers of the first try that brings an address, and when each came in seconds after it."""
    left = patience if patience is not None else asking.tries * asking.wait
    offers: list[Message] = []
    seconds: list[float] = []
    while left > 0 and not any(offer.yiaddr != ANY for offer in offers):
        began = time.monotonic()
        wire.send(discover(board, asking, xid))
        until = began + min(asking.wait, left)
        while message := wire.hear(xid, until):
            if message.kind not in (OFFER, 0):
                continue
            offers.append(message)
            seconds.append(time.monotonic() - began)
            if any(o.yiaddr != ANY for o in offers) and any(_bootable(o, asking) for o in offers):
                until = min(until, time.monotonic() + GRACE)
        left -= asking.wait
    return offers, seconds


def _bootable(offer: Message, asking: Asking) -> bool:
    """Tell whether an offer is what this stage takes for its boot server's."""
    if asking.menu:
        return asking.menu in offer.option(43)
    return bool(_file(offer)) and offer.option(60).startswith(b"PXEClient")


def _file(message: Message) -> str:
    return message.option(67).rstrip(b"\0").decode("ascii", "replace") or message.file


def _judge(
    asking: Asking, offers: list[Message], seconds: list[float], address: Message | None, boot: Message | None
) -> list[Step]:
    """Return a step for each offer, and one for what is wrong with all of them together."""
    steps = [
        Step("DISCOVER", _described(offer), *_early(asking, offer, came), seconds=came)
        for offer, came in zip(offers, seconds, strict=True)
    ]
    rivals = sorted({str(offer.server) for offer in offers if offer.yiaddr != ANY})
    if len(rivals) > 1:
        note = RIVALS.format(count=len(rivals), names=", ".join(rivals))
        steps.append(Step("DISCOVER", "more than one address", Verdict.WARNING, note))
    if not offers:
        steps.append(Step("DISCOVER", "no answer", Verdict.MISSING, NOBODY))
    elif address is None:
        steps.append(Step("DISCOVER", "no address", Verdict.MISSING, NO_ADDRESS))
    elif boot is None:
        steps.append(_serverless(asking, offers, address))
    return steps


def _early(asking: Asking, offer: Message, came: float) -> tuple[Verdict, str]:
    if _bootable(offer, asking) and came < asking.hasty:
        return Verdict.WARNING, HASTY.format(hasty=asking.hasty)
    return Verdict.OK, ""


def _serverless(asking: Asking, offers: list[Message], address: Message) -> Step:
    """Return what becomes of a stage that got an address, but no offer that it takes for its boot server's."""
    if not asking.menu:
        note = (
            "no offer under PXEClient (option 60) names a boot file; set one for architecture 11 (option 93)"
        )
        return Step("DISCOVER", "no boot file", Verdict.MISSING, note)
    if asking.menu.strip() != asking.menu and any(asking.menu.strip() in o.option(43) for o in offers):
        return Step("DISCOVER", "another text in option 43", Verdict.MISSING, SPACES)
    note = NO_MENU.format(menu=asking.menu.decode().strip())
    if "siaddr" not in asking.sources:
        return Step("DISCOVER", "no option 43", Verdict.MISSING, f"{note}; a Pi 2 or 3 goes no further")
    if _text_address(address) is None and address.siaddr in (ANY, address.server):
        return Step("DISCOVER", "no option 43", Verdict.MISSING, note)
    return Step("DISCOVER", "no option 43", Verdict.WARNING, f"{note}; some firmware goes no further")


def _described(offer: Message) -> str:
    given = (
        f"{offer.yiaddr} from {offer.server}" if offer.yiaddr != ANY else f"no address from {offer.server}"
    )
    said = [
        f"option 66 {offer.option(66).decode('ascii', 'replace').rstrip(chr(0))}" if offer.option(66) else "",
        "option 43" if offer.option(43) else "",
        f"siaddr {offer.siaddr}" if offer.siaddr != ANY else "",
        f"file {_file(offer)}" if _file(offer) else "",
    ]
    return ", ".join(["OFFER: " + given, *filter(None, said)])


def _confirm(
    wire: Wire, message: Message, offer: Message, waits: tuple[float, float], tell: Callable[[Step], None]
) -> Message | None:
    """Take an offer by a REQUEST, asking again where nothing comes (an EEPROM's DHCP_REQ_TIMEOUT); return its ACK.

    `waits` are the seconds between two REQUESTs, and in all.
    """
    began = time.monotonic()
    answer: Message | None = None
    while answer is None and (left := began + waits[1] - time.monotonic()) > 0:
        wire.send(message)
        until = time.monotonic() + min(waits[0], left)
        while (answer := wire.hear(offer.xid, until)) and not (
            answer.kind == ACK and answer.server == offer.server
        ):
            if answer.kind not in (OFFER, ACK):
                break
    seconds = time.monotonic() - began
    if answer and answer.kind == ACK:
        tell(Step("REQUEST", f"ACK: {answer.yiaddr} from {answer.server}", seconds=seconds))
        return answer
    note = f"{offer.server} offered {offer.yiaddr} and did not give it; is another board using it?"
    tell(Step("REQUEST", "no ACK", Verdict.MISSING, note, seconds=seconds))
    return None


def _text_address(message: Message) -> IPv4Address | None:
    """Return option 66 if it is a dotted address, which is all that a Pi reads there."""
    text = message.option(66).rstrip(b"\0").decode("ascii", "replace")
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def _lease(
    asking: Asking, taken: Message, boot: Message, began: float, tell: Callable[[Step], None]
) -> Lease | None:
    """Return what the answers come to."""
    mask = taken.address(1) or IPv4Address("255.255.255.0")
    address = IPv4Interface((taken.yiaddr, str(mask)))
    places = {
        "66": _text_address(boot) or _text_address(taken),
        "43": boot.server if _bootable(boot, asking) else None,
        "siaddr": next((m.siaddr for m in (boot, taken) if m.siaddr != ANY), None),
    }
    source, server = next(((name, places[name]) for name in asking.sources if places[name]), ("", None))
    if server is None:
        tell(
            Step(
                "TFTP server",
                "not named",
                Verdict.MISSING,
                "no option 66, 43 or siaddr says where the files are",
            )
        )
        return None
    verdict, note = _reachable(asking, address, server)
    if verdict is Verdict.OK and source == "siaddr" and asking.menu:
        verdict, note = Verdict.WARNING, ONLY_SIADDR
    named = {"66": "option 66", "43": "option 43 of the same", "siaddr": "siaddr"}[source]
    tell(Step("TFTP server", f"{server}, by {named}", verdict, note, seconds=time.monotonic() - began))
    gateway = taken.address(3) if asking.gateway else None
    return None if verdict is Verdict.MISSING else Lease(address, gateway, server, _file(boot))


def _reachable(asking: Asking, address: IPv4Interface, server: IPv4Address) -> tuple[Verdict, str]:
    inside = ipaddress.ip_address(server) in address.network
    if inside or asking.gateway:
        return Verdict.OK, ""
    return Verdict.MISSING, f"{server} is not in {address.network}; this board reaches its own subnet only"
