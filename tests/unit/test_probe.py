"""Played boards: messages, names in config.txt, identities."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from pibake.boards import BOARDS
from pibake.errors import PibakeError
from pibake.netboot.dnsmasq import identifiers
from pibake.probe import MODELS, identity
from pibake.probe.messages import Board, identifier
from pibake.probe.models import Id
from pibake.probe.named import names, overlays
from pibake.probe.packet import Message, broadcast, checksum, decode, encode, payload

MAC = bytes.fromhex("dca632010203")
MESSAGE = Message(
    2, 7, MAC, ((53, b"\2"), (43, b"menu")), IPv4Address("10.0.0.9"), IPv4Address("10.0.0.1"), file="boot.efi"
)


def test_a_message_survives_the_wire() -> None:
    assert decode(encode(MESSAGE)) == MESSAGE


def test_options_go_on_in_the_fields_for_names_and_long_ones_are_joined() -> None:
    raw = bytearray(encode(replace(MESSAGE, file="", options=((52, b"\3"), (43, b"one ")))))
    raw[108:117] = bytes((43, 4)) + b"two\xff" + bytes(3)
    raw[110:114] = b"two "
    raw[114] = 255
    raw[44:47] = bytes((66, 0, 255))
    found = decode(bytes(raw))
    assert found
    assert found.option(43) == b"one two "
    assert found.file == ""


def test_padding_and_a_cut_off_option_are_not_options() -> None:
    head = encode(replace(MESSAGE, options=()))[:-1]
    found = decode(head + bytes((0, 0, 53, 1, 2, 66, 200)) + b"short")
    assert found
    assert found.options == ((53, b"\2"),)


def test_whatever_is_on_the_wire_is_no_accident() -> None:
    dice = random.Random(6)  # noqa: S311 - the same every time
    whole = broadcast(MAC, encode(MESSAGE), 68)
    for _ in range(3000):
        raw = bytearray(whole[: dice.randrange(len(whole) + 1)])
        for _ in range(dice.randrange(8)):
            if raw:
                raw[dice.randrange(len(raw))] = dice.randrange(256)
        inside = payload(bytes(raw))
        if inside:
            decode(*inside)


def test_a_fragment_and_another_port_are_not_heard_as_no_boot_rom_would() -> None:
    whole = broadcast(MAC, encode(MESSAGE), 68)
    assert payload(broadcast(MAC, b"")) is None
    assert payload(broadcast(MAC, encode(MESSAGE), 67)) is None
    swapped = bytearray(whole)
    swapped[36:38] = (68).to_bytes(2, "big")
    assert payload(bytes(swapped)) == (encode(MESSAGE), IPv4Address(0))
    swapped[20] = 0x20
    assert payload(bytes(swapped)) is None


def test_a_header_with_its_checksum_sums_to_nothing() -> None:
    assert checksum(broadcast(MAC, b"x")[14:34]) == 0


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_a_board_that_can_boot_from_the_wire(model: str) -> None:
    board = BOARDS[MODELS[model].board]
    kinds = {"rom-3b": 2, "rom-3b+": 2, "eeprom-2711": 1, "eeprom-2712": 1, "uefi": 1}
    assert len(MODELS[model].stages) == kinds[board.netboot]
    for file in board.firmware:
        assert any(file == name for stage in MODELS[model].stages for name, _ in stage.files)


def test_every_board_that_can_boot_from_the_wire_can_be_played() -> None:
    assert {model.board for model in MODELS.values()} == {
        b.name for b in BOARDS.values() if b.netboot != "none"
    }


@pytest.mark.parametrize("model", ["pi4", "cm4", "pi5", "cm5"])
@pytest.mark.parametrize("kind", [Id.BOARD, Id.SERIAL])
def test_the_server_s_patterns_of_option_97_are_of_what_boards_send(model: str, kind: Id) -> None:
    def matches(pattern: str, value: bytes) -> bool:
        return all(want in ("*", f"{byte:02x}") for want, byte in zip(pattern.split(":"), value, strict=True))

    sent = identifier(Board(MODELS[model], MAC, "1234abcd"), kind)
    assert sum(matches(pattern, sent) for pattern in identifiers("1234abcd")) == 1
    assert not any(matches(pattern, sent) for pattern in identifiers("1234abce"))


CONFIGS = [
    ("pi4", "", "{kernel}", ("kernel8.img",)),
    ("pi5", "", "{kernel}", ("kernel_2712.img", "kernel8.img")),
    ("pi5", "os_prefix=a/", "{kernel}", ("a/kernel_2712.img", "a/kernel8.img")),
    ("pi5", "kernel=vmlinuz", "{kernel}", ("vmlinuz",)),
    ("pi4", "", "{initramfs}", ()),
    ("pi4", "initramfs initrd.img followkernel", "{initramfs}", ("initrd.img",)),
    ("pi4", "auto_initramfs=1", "{initramfs}", ("initramfs8",)),
    ("pi5", "auto_initramfs=1\nos_prefix=a/", "{initramfs}", ("a/initramfs_2712",)),
    ("pi5", "auto_initramfs=1\nkernel=vmlinuz", "{initramfs}", ()),
    ("pi4", "cmdline=words.txt", "{cmdline}", ("words.txt",)),
    ("pi4", "device_tree=own.dtb", "{device_tree}", ("own.dtb",)),
    ("pi3", "[pi4]\ndevice_tree=own.dtb", "{device_tree}", ("bcm2710-rpi-3-b.dtb", "bcm2837-rpi-3-b.dtb")),
    ("generic", "", "{boot_file}", ("boot.efi",)),
    ("pi4", "", "start4.elf", ("start4.elf",)),
]


@pytest.mark.parametrize(("board", "config", "what", "expected"), CONFIGS)
def test_config_txt_says_what_is_loaded(
    board: str, config: str, what: str, expected: tuple[str, ...]
) -> None:
    assert names(what, config, board, "boot.efi") == expected


def test_overlays_are_asked_for_once_and_without_their_parameters() -> None:
    config = "dtoverlay=a,x=1\ndtoverlay=\ndtoverlay=b:y=2\n[pi5]\ndtoverlay=c\n[all]\ndtoverlay=a\n"
    assert overlays(config, "pi4") == ("a.dtbo", "b.dtbo")


def test_a_board_s_identity_is_completed_from_what_is_known_of_it() -> None:
    assert identity("pi3", None, "00000000DE2FAAEB") == ("b8:27:eb:2f:aa:eb", "de2faaeb")
    assert identity("pi4", "DC-A6-32-01-02-03", "1234abcd") == ("dc:a6:32:01:02:03", "1234abcd")
    assert identity("pi3", "b8:27:eb:2f:aa:eb", None) == ("b8:27:eb:2f:aa:eb", "002faaeb")


@pytest.mark.parametrize(
    ("mac", "serial"), [(None, None), ("dc:a6:32:01:02", None), (None, "1234abc"), ("x", "12345678")]
)
def test_an_identity_that_is_none_is_refused_with_how_to_write_it(
    mac: str | None, serial: str | None
) -> None:
    with pytest.raises(PibakeError) as caught:
        identity("pi4", mac, serial)
    assert caught.value.hint
