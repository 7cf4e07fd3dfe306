"""cloud-init's users -> accounts of a cluster.yaml (cloud-init documentation, "Users and Groups", "Set Passwords")."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pibake.config import accounts
from pibake.imported import logins
from pibake.imported.values import Account

if TYPE_CHECKING:
    from pibake.imported.document import Value
    from pibake.imported.values import Draft

READ = frozenset(
    {
        "name", "groups", "sudo", "shell", "passwd", "hashed_passwd", "plain_text_passwd", "lock_passwd",
        "ssh_authorized_keys", "ssh_import_id",
    }
)  # fmt: skip
OWN_WAY = {
    "gecos": "",
    "ssh_pwauth": "",
    "chpasswd": "",
    "no_user_group": "",
    "primary_group": "the primary group is the user's own",
    "uid": "the user's number is the next free one",
    "homedir": "the home folder is in /home",
    "system": "it becomes an ordinary user",
}
"""Keys of a user without a counterpart; an empty text for those that change nothing worth telling."""


def users(draft: Draft, value: Value) -> None:
    """Read `users:`, in any of the shapes that cloud-init takes: a list, a mapping by name, names with commas."""
    if value.kind == "mapping":
        for name, item in value.pairs.items():
            _user(draft, name, item)
        return
    for item in value.items:
        if item.kind == "mapping":
            named = item.get("name")
            if named:
                _user(draft, named.text, item)
            else:
                draft.left(item.place, "users", "a user without a name")
        for name in item.text.replace(",", " ").split() if item.kind == "text" else ():
            if name == "default":
                draft.left(
                    item.place, "users.default", "the image's own user is not made: name one of your own"
                )
            else:
                _user(draft, name, item)


def main_user(draft: Draft, value: Value) -> None:
    """Read `user:`, which changes the image's own user: what it does not say, that user has already."""
    named = value.get("name") if value.kind == "mapping" else value
    if not named or not named.text:
        draft.left(value.place, "user", "it has no name")
        return
    says = value.pairs.keys() if value.kind == "mapping" else frozenset()
    _user(draft, named.text, value)
    account = draft.accounts.get(named.text)
    if account is None:
        return
    if "sudo" not in says:
        account = replace(account, sudo=True)
    if "groups" not in says and not account.sudo:
        # the image's own user is in `sudo`, and that is how this one becomes root, with the password
        account = replace(account, groups=("sudo",))
    draft.accounts[account.name] = account


def _user(draft: Draft, name: str, item: Value) -> None:
    key = f"users.{name}"
    if not draft.checked(item.place, "users", name, accounts.username):
        return
    if item.kind != "mapping":
        draft.accounts[name] = Account(name)
        draft.carried(item.place, key, "a user without sudo")
        return
    account = Account(name, keys=logins.keys_of(draft, item, key), groups=_groups(draft, item, key))
    account = _sudo(draft, item, account)
    shell = item.get("shell")
    if shell and draft.checked(shell.place, f"{key}.shell", shell.text, accounts.shell):
        account = replace(account, shell=shell.text)
    account = replace(account, password_hash=logins.password_of(draft, item, key))
    _rest(draft, item, key)
    draft.accounts[name] = account
    draft.carried(item.place, key, summary(account))


def summary(account: Account) -> str:
    """Return what a note says of an account."""
    count = len(account.keys)
    said = [f"{count} SSH key{'' if count == 1 else 's'}" if count else "no SSH key"]
    said.append("sudo" if account.sudo else "no sudo without a password")
    said.extend(["a password's hash"] if account.password_hash else [])
    said.extend([f"groups {', '.join(account.groups)}"] if account.groups else [])
    return ", ".join(said)


def _groups(draft: Draft, item: Value, key: str) -> tuple[str, ...]:
    listed = item.get("groups")
    names = [
        name for one in (listed.items if listed else ()) for name in re.split(r"[\s,]+", one.text) if name
    ]
    found = []
    for name in dict.fromkeys(names):
        place = listed.place if listed else item.place
        if name == "docker":
            draft.left(place, f"{key}.groups", "docker: nodes run containers by Kubernetes, without Docker")
        elif draft.checked(place, f"{key}.groups", name, accounts.group):
            found.append(name)
    return tuple(found)


def _sudo(draft: Draft, item: Value, account: Account) -> Account:
    """Return the account with `sudo: true` for a rule of NOPASSWD:ALL, and in group sudo for one with a password."""
    value = item.get("sudo")
    rules = [" ".join(one.text.split()) for one in value.items] if value else []
    rules = [rule for rule in rules if rule.lower() not in {"false", "no"}]
    if not value or not rules:
        return account
    if any(re.fullmatch(r"ALL ?= ?(\(ALL( ?: ?ALL)?\))? ?NOPASSWD ?: ?ALL", rule) for rule in rules):
        return replace(account, sudo=True)
    if any(re.fullmatch(r"ALL ?= ?(\(ALL( ?: ?ALL)?\))? ?ALL", rule) for rule in rules):
        draft.carried(value.place, f"users.{account.name}.sudo", "group sudo, which asks for the password")
        return replace(account, groups=tuple(dict.fromkeys((*account.groups, "sudo"))))
    draft.left(
        value.place,
        f"users.{account.name}.sudo",
        "only a rule for ALL can be carried over",
        "put it into etc/sudoers.d of an overlay",
    )
    return account


def _rest(draft: Draft, item: Value, key: str) -> None:
    for name, value in item.pairs.items():
        plain = name.replace("-", "_")
        why = OWN_WAY.get(plain, "" if plain in READ else "pibake has no such setting of a user")
        if why and not value.nothing:
            draft.left(value.place, f"{key}.{name}", why)
