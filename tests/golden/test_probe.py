"""The exact packets of every board that can be played; `pytest --update-golden` writes them anew."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pibake.probe import MODELS
from pibake.probe.messages import Board, discover, request
from pibake.probe.packet import OFFER, Message, broadcast, encode

HERE = Path(__file__).parent / "probe"
SERIAL = "1234abcd"
XID = 0x5EED5EED
"""Of boards that roll the dice."""


def frames(model: str) -> dict[str, bytes]:
    """Return every message a board sends before it has an address, as it is on the wire."""
    kind = MODELS[model]
    board = Board(kind, bytes.fromhex(kind.oui.replace(":", "") + "34abcd"), SERIAL)
    found = {}
    for number, stage in enumerate(kind.stages, 1):
        xid = stage.asking.xid if stage.asking.xid is not None else XID
        asked = [("DISCOVER", discover(board, stage.asking, xid))]
        if stage.asking.request:
            given = ((53, bytes((OFFER,))), (54, IPv4Address("192.168.10.1").packed))
            offer = Message(2, xid, board.mac, given, yiaddr=IPv4Address("192.168.10.14"))
            asked.append(("REQUEST", request(board, stage.asking, offer)))
        for name, message in asked:
            found[f"stage {number}: {name}"] = broadcast(board.mac, encode(message))
    return found


def dump(data: bytes) -> str:
    rows = (data[start : start + 16] for start in range(0, len(data), 16))
    return "".join(f"  {number * 16:04x}  {row.hex(' ')}\n" for number, row in enumerate(rows))


@pytest.mark.parametrize("model", MODELS)
def test_the_packets_are_as_they_were(model: str, *, update_golden: bool) -> None:
    text = "".join(f"{name}, {len(data)} bytes\n{dump(data)}" for name, data in frames(model).items())
    golden = HERE / f"{model}.txt"
    if update_golden:
        HERE.mkdir(exist_ok=True)
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


def test_the_boot_rom_s_packet_is_the_one_that_was_captured() -> None:
    """raspberrypi/firmware#862 shows the frame of a Pi 3; "Network booting" lists its options."""
    captured = bytes.fromhex(
        "ffffffffffff b827eb9dc15a 0800 4500 015c 0000 0000 8011 3992 00000000 ffffffff"
        "0044 0043 0148 0000 01010600 26f30339 0000 0000 00000000 00000000 00000000 00000000 b827eb9dc15a"
    )
    board = Board(MODELS["pi3"], bytes.fromhex("b827eb9dc15a"), "009dc15a")
    asking = MODELS["pi3"].stages[0].asking
    sent = broadcast(board.mac, encode(discover(board, asking, asking.xid or 0)))
    assert len(sent) == 362
    assert sent.startswith(captured)
    options = bytes.fromhex(
        "63825363 350101 370c 2b3c43 8081828384858687 42 5d020000 5e03010201 6111 00" + "44" * 16 + "3c20"
    )
    assert sent.endswith(options + b"PXEClient:Arch:00000:UNDI:002001\xff")


def test_bootcode_bin_asks_for_two_options_more_and_says_its_serial() -> None:
    """raspberrypi/firmware#871: 364 bytes, and its list of options; #941: the bytes of option 97."""
    board = Board(MODELS["pi3"], bytes.fromhex("b827eb8696f5"), "8d8696f5")
    asking = MODELS["pi3"].stages[1].asking
    message = discover(board, asking, asking.xid or 0)
    assert len(broadcast(board.mac, encode(message))) == 364
    assert list(message.option(55)) == [43, 60, 67, *range(128, 136), 66, 1, 3]
    assert message.option(97) == bytes((0, *(245, 150, 134, 141) * 4))


@pytest.mark.parametrize("model", ["pi4", "pi400", "cm4", "pi5", "pi500", "cm5"])
def test_an_eeprom_names_board_mac_address_and_serial_and_is_a_pxe_client_once(model: str) -> None:
    """raspberrypi/cmprovision#16 and TechnitiumSoftware/DnsServer#183: options and length; rpi-eeprom#82: the REQUEST."""
    first, second = frames(model).values()
    assert len(first) == 364
    assert b"PXEClient:Arch:00000:UNDI:002001" in first
    assert b"PXEClient" not in second
    generation = b"RPi5" if "5" in model else b"RPi4"
    assert b"\x61\x11\x00" + generation in first
    assert bytes((55, 14, 1, 3, 43, 60, 66, 67, *range(128, 136))) in first
    assert first.index(b"\x34\xab\xcd\xcd\xab\x34\x12") > 0


def test_uefi_says_that_it_is_arm64_in_both_messages() -> None:
    for frame in frames("uefi").values():
        assert b"PXEClient:Arch:00011:UNDI:003000" in frame
        assert b"\x5d\x02\x00\x0b" in frame
        assert b"\x61\x11" + bytes(17) in frame
