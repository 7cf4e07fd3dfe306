"""What the node's NBD client tells the kernel, byte for byte: it is read as linux/nbd-netlink.h and netlink(7) have it."""

from __future__ import annotations

import struct
import sys
from typing import Any

import pytest
from tests.tools import nbdclient

pytestmark = pytest.mark.skipif(sys.byteorder == "big", reason="the bytes below are little endian")


@pytest.fixture
def client() -> Any:
    return nbdclient.load()


class Link:
    """A socket with a descriptor of 7."""

    def fileno(self) -> int:
        return 7


SOCKETS = "1000 0780 0c00 0180 0800 0100 07000000"
"""NBD_ATTR_SOCKETS{NBD_SOCK_ITEM{NBD_SOCK_FD = 7}}."""


def test_the_kernel_is_given_the_disk_in_blocks_of_a_partition_tables_sector(client: Any) -> None:
    assert client.connecting(0, Link(), 5 << 20, 0x0D6D) == bytes.fromhex(
        "0800 0100 00000000"
        "0c00 0200 0000500000000000"
        "0c00 0300 0002000000000000"
        "0c00 0500 6d0d000000000000"
        "0c00 0800 005e1a0000000000" + SOCKETS
    )


def test_i_o_waits_for_weeks_and_still_fits_into_a_counter_of_31_bits(client: Any) -> None:
    assert 14 * 86400 < client.DEAD_CONN_TIMEOUT < (1 << 31) / 1000


def test_a_new_connection_changes_nothing_but_the_socket(client: Any) -> None:
    assert client.reconfiguring(3, Link()) == bytes.fromhex("0800 0100 03000000" + SOCKETS)


def test_a_request_asks_for_an_acknowledgement(client: Any) -> None:
    assert client.message(0x1B, 2, client.NBD_CMD_RECONFIGURE, 1, b"\1\2\3\4") == bytes.fromhex(
        "18000000 1b00 0500 02000000 00000000 03 01 0000 01020304"
    )


def test_attributes_are_read_as_they_are_written(client: Any) -> None:
    written = client.attribute(1, b"abc") + client.attribute(2 | client.NESTED, b"") + client.number(5, 9)
    assert client.attributes(written) == {1: b"abc", 2: b"", 5: struct.pack("=Q", 9)}


def test_an_attribute_without_a_length_ends_nowhere(client: Any) -> None:
    assert client.attributes(bytes(8)) == {0: b""}
