"""Boot EEPROM images: what is found in them, what is replaced, and what is refused."""

from __future__ import annotations

import struct

import pytest
from tests import eeproms

from pibake.errors import ImageError, PibakeError
from pibake.netboot import bootconf, eeprom
from pibake.netboot.eeprom import CONFIG, KEY


@pytest.mark.parametrize("chip", ["2711", "2712"])
def test_an_image_says_its_chip_its_age_and_its_settings(chip: str) -> None:
    found = eeprom.parse(eeproms.image(chip), "pieeprom.bin")
    assert found.chip == chip
    assert found.built == eeproms.BUILT
    assert found.config == eeproms.CONFIG.decode()
    assert found.has(KEY)


@pytest.mark.parametrize("chip", ["2711", "2712"])
@pytest.mark.parametrize("after", [b"", eeproms.section(eeproms.PACKED, b"more")])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 3000, 4048])
def test_replacing_a_file_changes_it_and_nothing_else(chip: str, after: bytes, length: int) -> None:
    before = eeprom.parse(eeproms.image(chip, after=after), "pieeprom.bin")
    content = (b"A=b\n" * 2000)[:length]
    new = before.replaced(CONFIG, content)
    (place,) = (s for s in new.sections if s.name == CONFIG)
    assert new.data[place.offset + 24 : place.offset + 8 + place.length] == content
    assert len(new.data) == len(before.data)
    assert new.data[: place.offset] == before.data[: place.offset]
    files = [s.name for s in before.sections if s.name]
    assert [s.name for s in new.sections if s.name] == files
    if after:
        assert new.data[0x22000:] == before.data[0x22000:]


def test_a_file_in_the_middle_keeps_those_behind_it_in_their_places() -> None:
    before = eeprom.parse(eeproms.image(), "pieeprom.bin")
    new = before.replaced(KEY, bytes(264))
    assert new.config == before.config
    assert [s.offset for s in new.sections if s.name] == [s.offset for s in before.sections if s.name]
    assert new.data[-4096:] == before.data[-4096:]


def test_what_was_there_before_comes_back_with_its_content() -> None:
    before = eeprom.parse(eeproms.image(), "pieeprom.bin")
    longer = before.replaced(CONFIG, eeproms.CONFIG + b"MORE=1\n" * 100)
    assert longer.replaced(CONFIG, eeproms.CONFIG).data == before.data


@pytest.mark.parametrize(("name", "length", "room"), [(CONFIG, 4077, 4076), (KEY, 1001, 1000)])
def test_content_beyond_its_section_is_refused(name: str, length: int, room: int) -> None:
    found = eeprom.parse(eeproms.image(), "pieeprom.bin")
    with pytest.raises(ImageError, match=f"{length} bytes, and there is room for {room}"):
        found.replaced(name, bytes(length))
    found.replaced(name, bytes(room))


def damaged(offset: int, value: bytes) -> bytes:
    data = bytearray(eeproms.image())
    data[offset : offset + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes(1000), "has 1000 bytes"),
        (b"\xff" * (512 << 10), "can be configured: it has no bootconf.txt"),
        (b"abcd" * (128 << 10), "is no EEPROM image: at byte 0"),
        (damaged(0x20000, b"????"), "is damaged: at byte 131072"),
        (damaged(4, struct.pack(">L", 1 << 30)), "is no EEPROM image: at byte 0"),
        (damaged(0x20404, struct.pack(">L", 3)), "is damaged: the file at byte 132096 has no name"),
        (eeproms.image()[:-1], "has 524287 bytes"),
    ],
)
def test_what_is_no_whole_image_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        eeprom.parse(data, "pieeprom.bin")


def test_an_image_without_a_place_for_a_key_is_refused_when_one_is_to_go_in() -> None:
    found = eeprom.parse(eeproms.image(key=False), "old.bin")
    with pytest.raises(ImageError, match=r"old\.bin has no pubkey\.bin, but bootconf\.sig, bootconf\.txt"):
        found.replaced(KEY, bytes(264))


def test_settings_are_those_that_hold_for_every_board() -> None:
    text = "A=1\n[cm4]\nB=2\n[all]\nA = 3 \n# C=4\n[config.txt]\nkernel=x\n"
    assert bootconf.settings(text) == {"A": "3"}


def test_a_setting_is_changed_for_every_board_and_the_others_stay() -> None:
    text = "[all]\nBOOT_ORDER=0xf41\nBOOT_UART=1\n[cm4]\nBOOT_ORDER=0xf4\n\n[config.txt]\nkernel=x\n"
    new = bootconf.changed(text, {"BOOT_ORDER": "0xf21"})
    assert (
        new == "[all]\nBOOT_UART=1\n[cm4]\nBOOT_ORDER=0xf4\n[all]\nBOOT_ORDER=0xf21\n[config.txt]\nkernel=x\n"
    )
    assert bootconf.settings(new) == {"BOOT_UART": "1", "BOOT_ORDER": "0xf21"}
    assert bootconf.changed(new, {"BOOT_ORDER": "0xf21"}) == new


@pytest.mark.parametrize(
    ("key", "value"), [("A B", "1"), ("A", "1\nB=2"), ("A", "ü"), ("", "1"), ("[all]", "1")]
)
def test_what_cannot_stand_in_a_setting_is_refused(key: str, value: str) -> None:
    with pytest.raises(PibakeError, match="no setting"):
        bootconf.changed("", {key: value})


def test_a_boot_order_is_read_from_the_right() -> None:
    assert bootconf.explained("0xf271") == "card, HTTP, network, again"


@pytest.mark.parametrize("order", ["f21", "0x", "0xf8", "0x123456789", "0xg", "21"])
def test_what_is_no_boot_order_is_refused(order: str) -> None:
    with pytest.raises(PibakeError, match="no boot order"):
        bootconf.explained(order)


def test_an_address_is_three_settings() -> None:
    said = {"HTTP_HOST": "10.0.0.2", "HTTP_PORT": "8069", "HTTP_PATH": "pi"}
    assert bootconf.http("http://10.0.0.2:8069/pi/") == said
    assert bootconf.http("http://server/a/b")["HTTP_PORT"] == "80"


@pytest.mark.parametrize(
    "url", ["https://10.0.0.2/pi", "10.0.0.2/pi", "http://10.0.0.2", "http://10.0.0.2:99999/pi", "http://h/pi?x",
            "http://me@h/pi", "http://h/a b"],
)  # fmt: skip
def test_an_address_a_board_cannot_ask_is_refused(url: str) -> None:
    with pytest.raises(PibakeError, match="no address"):
        bootconf.http(url)
