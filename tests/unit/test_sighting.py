"""What a frame tells of the board that sent it, and that none does harm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pibake.boards import BOARDS
from pibake.probe import MODELS, identity, packet
from pibake.probe.messages import Board, discover
from pibake.rack.sighting import connection, printable, sighting
from pibake.rack.values import Sighting

if TYPE_CHECKING:
    from pibake.probe.models import Asking

SERIAL, ROM_MAC = "de5faa0b", "b8:27:eb:5f:aa:0b"
STAGES = [(model, number) for model, kind in MODELS.items() for number in range(len(kind.stages))]


def board(model: str) -> Board:
    mac, serial = identity(model, None, SERIAL)
    return Board(MODELS[model], bytes.fromhex(mac.replace(":", "")), serial)


def asking(model: str, stage: int = 0) -> Asking:
    return MODELS[model].stages[stage].asking


def asked(one: Board, how: Asking) -> bytes:
    return packet.broadcast(one.mac, packet.encode(discover(one, how, 7)))


def read_request(path: bytes, mac: str = "dc:a6:32:01:02:03") -> bytes:
    frame = bytearray(
        packet.broadcast(bytes.fromhex(mac.replace(":", "")), b"\0\1" + path + b"\0octet\0", port=69)
    )
    frame[26:30] = bytes((10, 77, 0, 9))
    return bytes(frame)


def syn(flags: int, port: int = 2049, options: bytes = b"") -> bytes:
    head = bytearray(20) + options
    head[0], head[9], head[12:16] = 0x40 | len(head) // 4, 6, bytes((10, 77, 0, 13))
    tcp = bytearray(20)
    tcp[2:4], tcp[13] = port.to_bytes(2, "big"), flags
    return bytes(12) + b"\x08\x00" + bytes(head) + bytes(tcp)


@pytest.mark.parametrize(("model", "stage"), STAGES)
def test_every_question_of_every_board_is_one_of_its_kind(model: str, stage: int) -> None:
    one, how = board(model), asking(model, stage)
    found = sighting(asked(one, how), 5.0)
    assert found
    assert (found.time, found.mac, found.asked, found.vendor) == (5.0, one.mac.hex(":"), "dhcp", how.vendor)
    assert MODELS[model].board in found.boards
    if MODELS[model].fourcc:
        assert found.boards == (MODELS[model].board,)
        assert found.memory >= 1024
    tells = how.identifier not in {"0x44, sixteen times", "zeros"}
    assert found.serial == (SERIAL if tells else "")


def test_a_boot_rom_tells_of_two_boards_and_of_no_serial() -> None:
    found = sighting(asked(board("pi3"), asking("pi3")), 1.0)
    assert found
    assert (found.boards, found.serial) == (("pi3", "pi2"), "")


def test_an_eeprom_of_an_unknown_revision_is_any_board_of_its_generation() -> None:
    one = board("pi4")
    found = sighting(asked(replace(one, model=replace(one.model, revision=0xC03FF1)), asking("pi4")), 1.0)
    assert found
    assert set(found.boards) == {name for name, known in BOARDS.items() if known.netboot == "eeprom-2711"}
    assert found.boards[0] == "pi4"


def test_an_old_revision_code_tells_no_memory() -> None:
    one = board("pi4")
    found = sighting(asked(replace(one, model=replace(one.model, revision=0x10)), asking("pi4")), 1.0)
    assert found
    assert found.memory == 0


def test_a_file_that_is_asked_for_tells_the_serial_in_its_path() -> None:
    found = sighting(read_request(b"de5faa0b/start4.elf"), 2.0)
    assert found == Sighting(
        2.0, "dc:a6:32:01:02:03", "tftp", SERIAL, address="10.77.0.9", path="de5faa0b/start4.elf"
    )


@pytest.mark.parametrize("path", [b"start.elf", b"DE5FAA0B/x", b"de5faa0/x", b"", b"../etc/shadow"])
def test_a_path_without_a_serial_tells_none(path: bytes) -> None:
    found = sighting(read_request(path), 2.0)
    assert found
    assert (found.serial, found.path) == ("", path.decode())


def test_what_is_kept_of_a_path_is_short_and_printable() -> None:
    found = sighting(read_request(b"\x1b[2J<b>\xff" + b"a" * 900), 2.0)
    assert found
    assert found.path.startswith("[2J<b>aaa")
    assert len(found.path) <= 200
    assert found.path.isprintable()


def test_systems_that_run_are_no_boards() -> None:
    one = board("pi4")
    assert sighting(asked(one, replace(asking("pi4"), vendor="udhcp 1.36")), 1.0) is None
    assert sighting(asked(replace(one, mac=bytes(6)), asking("pi4")), 1.0) is None
    assert sighting(asked(replace(one, mac=b"\x01" * 6), asking("pi4")), 1.0) is None


def test_a_connection_begins_with_syn_alone() -> None:
    assert connection(syn(0x02)) == ("10.77.0.13", 2049)
    assert connection(syn(0xC2, 10809, options=bytes(8))) == ("10.77.0.13", 10809)
    assert connection(syn(0x12)) is None
    assert connection(syn(0x10)) is None


FRAMES = [asked(board(model), asking(model, stage)) for model, stage in STAGES] + [
    read_request(b"de5faa0b/start4.elf"),
    syn(0x02),
]


@given(some.binary(max_size=700))
def test_no_bytes_do_harm(frame: bytes) -> None:
    _harmless(frame)
    _harmless(bytes(12) + b"\x08\x00\x45" + frame)


@given(
    some.sampled_from(FRAMES),
    some.lists(some.tuples(some.integers(12, 600), some.integers(0, 255)), max_size=12),
    some.integers(0, 600),
)
def test_no_damaged_question_does_harm(frame: bytes, changes: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(frame)
    for place, value in changes:
        if place < len(damaged):
            damaged[place] = value
    _harmless(bytes(damaged))
    _harmless(bytes(damaged[:length]))


def _harmless(frame: bytes) -> None:
    connection(frame)
    found = sighting(frame, 1.0)
    if found:
        texts = (found.mac, found.serial, found.vendor, found.address, found.path)
        assert all(text.isascii() and (not text or text.isprintable()) for text in texts)
        assert len(found.path) <= 200
        assert len(found.vendor) <= 64
        assert set(found.boards) <= set(BOARDS)
        assert 0 <= found.memory <= 256 << 7


OPTION = some.tuples(some.sampled_from([0, 43, 52, 53, 60, 82, 93, 97, 255]), some.binary(max_size=40))


@given(some.lists(OPTION, max_size=12), some.binary(max_size=192))
def test_no_options_do_harm_whether_empty_repeated_or_in_the_fields_of_names(
    options: list[tuple[int, bytes]], names: bytes
) -> None:
    head = packet.FIXED.pack(
        1, 1, 6, 0, 7, 0, 0, *[bytes(4)] * 4, b"\xdc\xa6\x32\1\2\3", names[:64], names[64:]
    )
    raw = head + packet.COOKIE + b"".join(bytes((code, len(value))) + value for code, value in options)
    packet.decode(raw)
    _harmless(packet.broadcast(b"\xdc\xa6\x32\1\2\3", raw))


def test_an_empty_option_that_says_where_others_are_does_no_harm() -> None:
    head = packet.FIXED.pack(1, 1, 6, 0, 7, 0, 0, *[bytes(4)] * 4, b"", b"", b"")
    assert packet.decode(head + packet.COOKIE + b"\x34\0\xff")


@given(some.binary(max_size=300))
def test_texts_are_printable(raw: bytes) -> None:
    text = printable(raw, 100)
    assert len(text) <= 100
    assert not text or text.isprintable()
