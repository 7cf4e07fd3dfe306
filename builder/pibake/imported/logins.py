"""How people log in: public keys, and hashes of passwords. No note repeats what may be a secret."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pibake.config import accounts, values
from pibake.config.problems import Bad
from pibake.imported.values import Account
from pibake.secret import Secret

if TYPE_CHECKING:
    from pibake.imported.document import Value
    from pibake.imported.values import Draft

NO_CLEAR = "a password in clear would stand in the file and on every card"
HASH_HINT = "`openssl passwd -6` makes a hash: put it under the user's `password_hash`"


def keys_of(draft: Draft, item: Value, key: str) -> tuple[str, ...]:
    """Return the keys of a user, and where others are, each once."""
    found: list[str] = []
    listed = item.get("ssh_authorized_keys")
    for one in listed.items if listed else ():
        for line in one.text.strip().splitlines():
            found.extend(key_of(draft, line, one.place, f"{key}.ssh_authorized_keys"))
    imported = item.get("ssh_import_id")
    for one in imported.items if imported else ():
        found.extend(_import_id(draft, one, f"{key}.ssh_import_id"))
    return tuple(dict.fromkeys(found))


def key_of(draft: Draft, text: str, place: str, key: str) -> list[str]:
    """Return a key that sshd takes in a list, or an empty list and a note."""
    try:
        return [accounts.public_key(text)]
    except Bad as bad:
        draft.left(place, key, bad.message, bad.hint)
        return []


def _import_id(draft: Draft, item: Value, key: str) -> list[str]:
    """Return where the keys of an account at GitHub or Launchpad are, as ssh-import-id(1) fetches them."""
    where, colon, name = item.text.partition(":")
    if not colon:
        where, name = "lp", where
    if (
        name.lower() == "none"
        or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        or where not in {"gh", "lp"}
    ):
        if name.lower() != "none":
            draft.left(item.place, key, "it is neither gh:NAME nor lp:NAME")
        return []
    return [f"https://github.com/{name}.keys" if where == "gh" else f"https://launchpad.net/~{name}/+sshkeys"]


def key_url(text: str) -> bool:
    """Tell whether a key of an account is an address to get keys from."""
    try:
        return "://" in text and bool(values.key_url(text))
    except Bad:
        return False


def password_of(draft: Draft, item: Value, key: str) -> Secret | None:
    """Return the hash of a user's password, if it is one that lets them in."""
    clear = item.get("plain_text_passwd")
    if clear:
        draft.left(clear.place, f"{key}.plain_text_passwd", NO_CLEAR, HASH_HINT)
    hashed = item.get("hashed_passwd", "passwd")
    if not hashed:
        return None
    locked = item.get("lock_passwd")
    if locked is None or locked.flag:
        why = (
            "the password is locked"
            if locked
            else "without `lock_passwd: false`, cloud-init locks the password"
        )
        draft.left(hashed.place, f"{key}.{_named(hashed)}", why)
        return None
    return password_hash(draft, hashed.text, hashed.place, f"{key}.{_named(hashed)}")


def password_hash(draft: Draft, text: str, place: str, key: str) -> Secret | None:
    """Return a hash that crypt(5) knows, or None and a note, which does not repeat the text."""
    return Secret(text) if draft.checked(place, key, text, accounts.password_hash) else None


def _named(value: Value) -> str:
    return value.key.text if value.key else ""


def chpasswd(draft: Draft, value: Value) -> None:
    """Read `chpasswd:`: hashes go to the users read before, passwords in clear nowhere."""
    listed, named = value.get("list"), value.get("users")
    lines = [line for one in (listed.items if listed else ()) for line in one.text.split()]
    for line in lines:
        name, _, text = line.partition(":")
        _change(draft, listed.place if listed else value.place, name, text, hashed=text.startswith("$"))
    for one in named.items if named else ():
        name_, kind, text_ = one.get("name"), one.get("type"), one.get("password")
        hashed = kind is None or kind.text == "hash"
        _change(draft, one.place, name_.text if name_ else "", text_.text if text_ else "", hashed=hashed)


def _change(draft: Draft, place: str, name: str, text: str, *, hashed: bool) -> None:
    account = draft.accounts.get(name)
    if not hashed:
        draft.left(place, "chpasswd", NO_CLEAR, HASH_HINT)
    elif account is None:
        draft.left(place, "chpasswd", "it is for a user that is not carried over")
    elif found := password_hash(draft, text, place, "chpasswd"):
        draft.accounts[name] = replace(account, password_hash=found)
        draft.carried(place, "chpasswd", f"the password's hash of {name}")


def more_keys(draft: Draft, value: Value) -> None:
    """Read `ssh_authorized_keys:` at the top, which are keys of the first user (the image's own, if none is named)."""
    found = [
        key
        for one in value.items
        for line in one.text.strip().splitlines()
        for key in key_of(draft, line, value.place, "ssh_authorized_keys")
    ]
    first = next(iter(draft.accounts.values()), None)
    if first is None:
        first = Account("pi", sudo=True)
        draft.carried(
            value.place, "ssh_authorized_keys", "keys of a user `pi`, as the image's own user is not made"
        )
    elif found:
        draft.carried(value.place, "ssh_authorized_keys", f"{len(found)} more of {first.name}")
    draft.accounts[first.name] = replace(first, keys=tuple(dict.fromkeys((*first.keys, *found))))
