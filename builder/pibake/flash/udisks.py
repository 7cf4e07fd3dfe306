"""A block device opened through udisks: for people who may use the cards they put in, and are not root.

Method OpenDevice of the interface org.freedesktop.UDisks2.Block (udisks 2.7.3 and later) hands over an open file; polkit
decides whether the person may have it, and asks for a password if it needs one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jeepney import DBusAddress, DBusErrorResponse, MessageFlag, new_method_call
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import unwrap_msg

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from pathlib import Path

    from jeepney.io.blocking import DBusConnection
    from jeepney.low_level import Message

NAME = "org.freedesktop.UDisks2"
MANAGER = DBusAddress("/org/freedesktop/UDisks2/Manager", NAME, f"{NAME}.Manager")
PATIENCE = 120.0
"""Seconds a person has for the password."""
HINT = (
    "any one of these gives it: put yourself into the group that owns the device (`sudo usermod -aG disk $USER`, and log in "
    "again), install udisks2 and log in at the machine itself, or run pibake with sudo"
)


def open_device(path: Path, flags: int) -> int:
    """Return a descriptor of a block device, open for reading and writing with further `flags` (O_EXCL, O_DIRECT).

    Raises:
        PibakeError: there is no udisks, or it refuses; the hint says how else to get permission.
    """
    try:
        connection = open_dbus_connection("SYSTEM", enable_fds=True)
    except (OSError, ValueError, KeyError) as error:
        raise _denied(path, f"there is no system bus to ask udisks on ({error})") from error
    with connection:
        wanted: tuple[dict[str, Any], dict[str, Any]] = ({"path": ("s", str(path.resolve()))}, {})
        (found,) = _call(connection, path, new_method_call(MANAGER, "ResolveDevice", "a{sv}a{sv}", wanted))
        if not found:
            raise _denied(path, "udisks does not know the device")
        block = DBusAddress(found[0], NAME, f"{NAME}.Block")
        how = ("rw", {"flags": ("i", flags)})
        (descriptor,) = _call(connection, path, new_method_call(block, "OpenDevice", "sa{sv}", how))
        return int(descriptor.to_raw_fd())


def _call(connection: DBusConnection, path: Path, message: Message) -> tuple[Any, ...]:
    message.header.flags |= MessageFlag.allow_interactive_authorization  # polkit may ask for a password
    try:
        return tuple(unwrap_msg(connection.send_and_get_reply(message, timeout=PATIENCE)))
    except DBusErrorResponse as error:
        text = error.data[0] if error.data else ""
        raise _denied(path, f"udisks says: {text} ({error.name})") from error
    except (OSError, TimeoutError) as error:
        raise _denied(path, f"udisks did not answer: {error}") from error


def _denied(path: Path, why: str) -> PibakeError:
    return PibakeError(f"no permission to write {path}, and {why}", HINT)
