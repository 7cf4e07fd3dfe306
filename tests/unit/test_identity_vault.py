"""The secrets folder: private, whole, never overwritten, encrypted if wanted."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyrage
import pytest

from pibake import identity
from pibake.errors import PibakeError
from pibake.identity import Wanted, hostkeys
from pibake.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

WANTED = Wanted("lab", "k3s", {"node1": "server", "node2": "agent"})


@pytest.fixture
def kept(tmp_path: Path) -> Vault:
    made = Vault(tmp_path / "secrets")
    made.issue(WANTED)
    return made


@pytest.fixture
def age_key(tmp_path: Path) -> tuple[Path, str]:
    key = pyrage.x25519.Identity.generate()
    path = tmp_path / "key.txt"
    path.write_text(f"# public key: {key.to_public()}\n{key}\n")
    return path, str(key.to_public())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_nothing_is_there_until_it_is_issued(tmp_path: Path) -> None:
    assert Vault(tmp_path / "secrets").load() is None
    assert not (tmp_path / "secrets").exists()
    assert Vault(tmp_path / "secrets").forget("node1") is False
    with pytest.raises(PibakeError, match="holds no secrets yet"):
        Vault(tmp_path / "secrets").existing()


def test_only_the_owner_can_read_what_is_issued_and_git_ignores_it(kept: Vault) -> None:
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    assert (kept.folder / "identity.json").stat().st_mode & 0o777 == 0o600
    assert (kept.folder / ".gitignore").read_text() == "*\n"


def test_issuing_again_writes_nothing(kept: Vault) -> None:
    before = files(kept.folder), (kept.folder / "identity.json").stat().st_mtime_ns
    assert kept.issue(WANTED) == kept.load()
    assert (files(kept.folder), (kept.folder / "identity.json").stat().st_mtime_ns) == before


def test_a_refused_change_leaves_the_folder_as_it_was(kept: Vault) -> None:
    before = files(kept.folder)
    for wanted in (
        Wanted("shed", "k3s", {}),
        Wanted("lab", "kubeadm", {}),
        Wanted("lab", "k3s", {"node2": "server"}),
    ):
        with pytest.raises(PibakeError):
            kept.issue(wanted)
    assert files(kept.folder) == before


def test_a_forgotten_node_gets_new_secrets_and_may_have_another_role(kept: Vault) -> None:
    before = kept.existing()
    assert kept.forget("node2") is True
    assert kept.forget("node2") is False
    after = kept.issue(Wanted("lab", "k3s", {"node1": "server", "node2": "server"}))
    assert after.nodes["node2"].role == "server"
    assert after.nodes["node2"].host_key != before.nodes["node2"].host_key
    assert after.nodes["node1"] == before.nodes["node1"]


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o711])
def test_a_folder_others_can_enter_is_refused(kept: Vault, mode: int) -> None:
    kept.folder.chmod(mode)
    for act in (
        kept.load,
        lambda: kept.issue(WANTED),
        lambda: kept.rotate("tokens"),
        lambda: kept.forget("node1"),
    ):
        with pytest.raises(PibakeError, match=f"others can read .*mode 0{mode:o}") as caught:
            act()
        assert caught.value.hint == f"chmod -R go= {kept.folder}"


def test_a_file_others_can_read_is_refused(kept: Vault) -> None:
    (kept.folder / "identity.json").chmod(0o640)
    with pytest.raises(PibakeError, match=r"others can read .*identity\.json") as caught:
        kept.load()
    assert caught.value.hint == f"chmod -R go= {kept.folder}"


def test_a_folder_of_another_user_is_refused(kept: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(PibakeError, match="belongs to the user with the number"):
        kept.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts for others")
def test_root_acts_for_the_owner_of_the_folder_and_takes_nothing_from_him(kept: Vault) -> None:
    for path in (kept.folder, *kept.folder.iterdir()):
        os.chown(path, 4711, 4712)
    kept.issue(replace(WANTED, boot_key=True))
    assert {path.stat().st_uid for path in kept.folder.iterdir()} == {4711}
    assert (kept.folder / "identity.json").stat().st_mode & 0o777 == 0o600


def test_a_half_written_file_is_refused_and_stays(kept: Vault) -> None:
    path = kept.folder / "identity.json"
    path.write_bytes(path.read_bytes()[:1000])
    for act in (kept.load, lambda: kept.issue(WANTED)):
        with pytest.raises(PibakeError, match="damaged or cut short"):
            act()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PibakeError, match="damaged"):
        kept.load()
    assert path.read_bytes() == b"\xff\xfe"


def test_an_authority_of_another_key_is_refused_by_name(kept: Vault) -> None:
    path = kept.folder / "identity.json"
    found = kept.existing()
    other = identity.issue(WANTED, None, datetime.now(UTC))
    swapped = path.read_text().replace(repr(found.ca.key.reveal())[1:-1], repr(other.ca.key.reveal())[1:-1])
    path.write_text(swapped)
    with pytest.raises(PibakeError, match="the certificate authority server-ca does not match its key"):
        kept.load()


def test_leftovers_of_a_killed_run_are_swept(kept: Vault) -> None:
    stale = kept.folder / ".identity.json.0123abcd.part"
    stale.write_text("half")
    kept.issue(WANTED)
    assert not stale.exists()


def test_encrypting_and_back_changes_nothing_but_the_file(kept: Vault, age_key: tuple[Path, str]) -> None:
    path, recipient = age_key
    before = kept.existing()
    box = Vault(kept.folder, identity_file=path)
    box.encrypt([recipient])
    assert sorted(files(box.folder)) == [".gitignore", "identity.json.age", "identity.lock", "recipients.txt"]
    assert box.existing() == before
    changed = box.rotate("tokens")
    assert box.encrypted
    assert box.existing() == changed
    assert not [
        v
        for v in (*before.values(), *changed.values())
        if any(v.encode() in d for d in files(box.folder).values())
    ]
    with pytest.raises(PibakeError, match="no key to decrypt it was given"):
        Vault(kept.folder).load()
    box.decrypt()
    assert Vault(kept.folder).load() == changed
    assert sorted(files(box.folder)) == [".gitignore", "identity.json", "identity.lock"]


def test_issued_encrypted_plaintext_never_touches_the_disk(
    tmp_path: Path, age_key: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, recipient = age_key
    written: list[bytes] = []
    original = os.fdopen

    def watch(fd: int, mode: str) -> object:
        file = original(fd, mode)
        real = file.write

        class Watched:
            def __enter__(self) -> object:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> None:
                written.append(data)
                real(data)

            flush = file.flush
            fileno = file.fileno

        return Watched()

    monkeypatch.setattr(os, "fdopen", watch)
    box = Vault(tmp_path / "secrets", identity_file=path, recipients=[recipient])
    found = box.issue(WANTED)
    found = box.issue(Wanted("lab", "k3s", {"node3": "agent"}))
    assert len(written) >= 4
    assert not [value for value in found.values() for data in written if value.encode() in data]


def test_the_environment_names_the_key(
    tmp_path: Path, age_key: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, recipient = age_key
    monkeypatch.setenv("PIBAKE_AGE_IDENTITY", str(path))
    made = Vault(tmp_path / "secrets", recipients=[recipient]).issue(WANTED)
    assert Vault(tmp_path / "secrets").load() == made


def test_an_interrupted_conversion_loses_nothing_and_can_be_run_again(
    kept: Vault, age_key: tuple[Path, str]
) -> None:
    path, recipient = age_key
    before, plain = kept.existing(), (kept.folder / "identity.json").read_bytes()
    box = Vault(kept.folder, identity_file=path)
    box.encrypt([recipient])
    (kept.folder / "identity.json").write_bytes(plain)
    (kept.folder / "identity.json").chmod(0o600)
    for act in (box.load, lambda: box.issue(WANTED)):
        with pytest.raises(PibakeError, match="holds both"):
            act()
    box.encrypt([recipient])
    assert box.load() == before
    (kept.folder / "identity.json").write_bytes(plain)
    box.decrypt()
    assert Vault(kept.folder).load() == before


@pytest.mark.parametrize("line", ["age1nonsense", "bob", "", "ssh-rsa AAAA"])
def test_what_is_no_recipient_is_refused_before_anything_is_written(kept: Vault, line: str) -> None:
    before = files(kept.folder)
    with pytest.raises(PibakeError, match="is no recipient"):
        kept.encrypt([line])
    assert files(kept.folder) == before


def test_a_private_key_as_recipient_is_not_repeated(kept: Vault) -> None:
    key = str(pyrage.x25519.Identity.generate())
    with pytest.raises(PibakeError, match="is a private key") as caught:
        kept.encrypt([key])
    assert key not in str(caught.value)


def test_the_wrong_key_and_no_key_at_all_are_clear_errors(
    kept: Vault, age_key: tuple[Path, str], tmp_path: Path
) -> None:
    kept.encrypt([age_key[1]])
    other = tmp_path / "other"
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n")
    wrong = tmp_path / "wrong"
    wrong.write_text("AGE-SECRET-KEY-1NONSENSE\n")
    for path, message in ((other, "cannot be decrypted"), (empty, "holds no age identity"), (wrong, "is no age identity"),
                          (tmp_path / "gone", "is not there")):  # fmt: skip
        with pytest.raises(PibakeError, match=message) as caught:
            Vault(kept.folder, identity_file=path).load()
        assert "NONSENSE" not in str(caught.value)


def test_an_ssh_key_encrypts_too(kept: Vault, tmp_path: Path) -> None:
    key = hostkeys.new("me@host")
    path = tmp_path / "id_ed25519"
    path.write_text(key.private.reveal())
    before = kept.existing()
    box = Vault(kept.folder, identity_file=path)
    box.encrypt([key.public])
    assert box.load() == before


def test_a_damaged_encrypted_file_is_a_clear_error(kept: Vault, age_key: tuple[Path, str]) -> None:
    path, recipient = age_key
    box = Vault(kept.folder, identity_file=path)
    box.encrypt([recipient])
    whole = (kept.folder / "identity.json.age").read_bytes()
    for data in (b"", whole[:50], whole[:-1], whole[:-9] + b"123456789"):
        (kept.folder / "identity.json.age").write_bytes(data)
        with pytest.raises(PibakeError, match="cannot be decrypted"):
            box.load()
