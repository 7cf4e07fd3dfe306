"""cloud-init's write_files -> files of an overlay, or the settings of the node that they make.

Formats: cloud-init documentation, "Write Files". Network configuration is read, not copied: pibake writes its own.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.imported import classic, document, netconfig, wireless
from pibake.seed import LARGEST_FILES
from pibake.tree import File

if TYPE_CHECKING:
    from pibake.imported.document import Value
    from pibake.imported.values import Draft

PLACES = (
    (r"/etc/network/(interfaces|interfaces\.d/.*)", "interfaces"),
    (r"/etc/dhcpcd\.conf", "dhcpcd"),
    (r"(/etc/wpa_supplicant|/boot|/boot/firmware)/wpa_supplicant[^/]*\.conf", "wpa_supplicant"),
    (r"/etc/resolv\.conf(\.head|\.tail)?|/etc/resolvconf/resolv\.conf\.d/(head|base|tail)", "resolv_conf"),
    (r"/etc/netplan/[^/]+\.ya?ml", "netplan"),
)
"""Path on the node -> which reader understands the file."""

REFUSED = (
    (r"/boot(/.*)?", "it is on the boot partition, whose files belong to the firmware and to pibake"),
    (r".*\.j2", "in an overlay, a name ending in .j2 is that of a template"),
    (r"/(home|root)(/.*)?", "the files of an overlay belong to root, and home folders are made later"),
    (r"/(proc|sys|dev|run|tmp)(/.*)?", "it would not outlive the boot"),
    (r"/etc/(hostname|hosts|passwd|group|shadow|gshadow|fstab|machine-id)", "the node has its own"),
    (r"/etc/cloud(/.*)?|/var/lib/cloud(/.*)?", "it would change how the node reads its seed"),
    (
        r"/etc/(systemd/network|NetworkManager|wpa_supplicant|dhcp)(/.*)?",
        "pibake configures the network itself",
    ),
    (r"/etc/ssh/ssh_host_.*", "pibake issues the host keys"),
)


@dataclass(frozen=True)
class _Entry:
    """One file of write_files: where it goes, and what stands in it."""

    path: str
    data: bytes
    place: str
    value: Value

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


def write_files(draft: Draft, value: Value) -> None:
    """Read every file of `write_files:`."""
    for item in value.items:
        entry = _entry(draft, item)
        if entry is None:
            continue
        reader = next((name for pattern, name in PLACES if re.fullmatch(pattern, entry.path)), "")
        if reader:
            _read(draft, entry, reader)
        elif why := _refusal(draft, entry):
            draft.left(entry.place, f"write_files {entry.path}", why)
        else:
            permissions = entry.value.get("permissions")
            executable = bool(permissions and int(permissions.text, 8) & 0o111)
            draft.files[entry.path.lstrip("/")] = File(entry.data, 0o755 if executable else 0o644)
            draft.carried(entry.place, f"write_files {entry.path}", "a file of the overlay")


def _entry(draft: Draft, item: Value) -> _Entry | None:
    named, content = item.get("path"), item.get("content")
    if named is None or not _is_path(named.text):
        draft.left(item.place, "write_files", "it has no path that starts at /")
        return None
    path, place = posixpath.normpath(named.text), named.place
    if item.get("source"):
        draft.left(
            place, f"write_files {path}", "its content is downloaded at boot", "put the file into an overlay"
        )
        return None
    encoding = item.get("encoding")
    try:
        data = _decoded(content.data if content else b"", encoding.text if encoding else "")
    except ValueError as error:
        draft.left(place, f"write_files {path}", str(error))
        return None
    return _Entry(path, data, place, item)


def _is_path(text: str) -> bool:
    return (
        text.isprintable()
        and text.startswith("/")
        and ".." not in text.split("/")
        and posixpath.normpath(text) not in {"/", "//"}
    )


def _decoded(data: bytes, encoding: str) -> bytes:
    """Undo `encoding:`; `ValueError` with a sentence if that cannot be."""
    kinds = set(re.split(r"[+_]", encoding.lower().replace("text/plain", ""))) - {""}
    if kinds - {"b64", "base64", "gz", "gzip"}:
        raise ValueError("its encoding is not known")
    try:
        if kinds & {"b64", "base64"}:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        if kinds & {"gz", "gzip"}:
            # 16 + 15: a gzip header (zlib manual, inflateInit2); one byte more than fits shows that it does not
            data = zlib.decompressobj(31).decompress(data, LARGEST_FILES + 1)
    except (binascii.Error, zlib.error):
        raise ValueError(f"its content is not {encoding}") from None
    return data


def _read(draft: Draft, entry: _Entry, reader: str) -> None:
    before = len(draft.notes)
    match reader:
        case "interfaces":
            classic.interfaces(draft, entry.text, entry.place)
        case "dhcpcd":
            classic.dhcpcd(draft, entry.text, entry.place)
        case "wpa_supplicant":
            wireless.wpa_supplicant(draft, entry.text, entry.place)
        case "resolv_conf":
            classic.resolv_conf(draft, entry.text)
        case _:
            top = document.parse(entry.data, f"{entry.place} ({entry.path})")
            if top:
                netconfig.read(draft, top)
    if len(draft.notes) == before:
        draft.carried(entry.place, f"write_files {entry.path}", "read as network settings")


def _refusal(draft: Draft, entry: _Entry) -> str:
    """Return why a file cannot be one of an overlay, or nothing."""
    by_path = (why for pattern, why in REFUSED if re.fullmatch(pattern, entry.path))
    return next(by_path, "") or _by_attributes(entry) or _by_content(draft, entry)


def _by_attributes(entry: _Entry) -> str:
    """Return what keeps a file from being root's, 0644 or 0755, and whole."""
    owner, permissions, append = (entry.value.get(key) for key in ("owner", "permissions", "append"))
    mode = permissions.text if permissions else "0644"
    if owner and owner.text not in {"root", "root:root", "0:0"}:
        return "its owner is not root, whose the files of an overlay are"
    if append and append.flag:
        return "it adds to a file that is there, and an overlay replaces files: put the whole file into an overlay"
    if not re.fullmatch(r"(0o?)?[0-7]{3,4}", mode):
        return "its permissions are not understood"
    if int(mode, 8) & 0o7000:
        return "setuid, setgid and sticky bits are not kept in an overlay"
    return (
        ""
        if int(mode, 8) & 0o004
        else "only some may read it, and everybody may read the files of an overlay"
    )


def _by_content(draft: Draft, entry: _Entry) -> str:
    others = {path: file for path, file in draft.files.items() if f"/{path}" != entry.path}
    if b"PRIVATE KEY" in entry.data:
        return "it holds a private key, and everybody may read the files of an overlay"
    if len(entry.data) + sum(len(file.data) for file in others.values()) > LARGEST_FILES:
        return (
            f"with it the overlay would hold more than the {LARGEST_FILES >> 10} KiB that an import carries"
        )
    if any(entry.path.startswith(f"/{path}/") or f"/{path}".startswith(f"{entry.path}/") for path in others):
        return "it is a file here and a folder elsewhere"
    return ""
