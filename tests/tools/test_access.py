"""The commands about identities, as people and scripts run them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
import yaml
from tests.tools import command

from pibake.vault import Vault

if TYPE_CHECKING:
    from pibake.identity import Secrets

CLUSTER = """
cluster: lab
kubernetes: {{distribution: {distribution}, version: {version}}}
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1}}
users:
  - {{name: ops, ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"]}}
nodes:
  - {{hostname: node1, address: 192.168.10.11, role: server}}
  - {{hostname: node2, address: 192.168.10.12}}
"""
VERSIONS = {"k3s": "v1.31.4+k3s1", "kubeadm": "v1.31.4"}

KUBECTL = f"""#!{sys.executable}
import json, os, pathlib, sys
log = pathlib.Path(os.environ["HOME"], "kubectl.jsonl")
config = pathlib.Path(sys.argv[sys.argv.index("--kubeconfig") + 1])
stdin = sys.stdin.read()
with log.open("a") as file:
    row = {{"argv": sys.argv[1:], "stdin": stdin, "config": config.read_text(), "mode": config.stat().st_mode & 0o777,
           "folder": config.parent.stat().st_mode & 0o777}}
    file.write(json.dumps(row) + "\\n")
if "get" in sys.argv and not pathlib.Path(os.environ["HOME"], "gone").exists():
    print("node/" + sys.argv[sys.argv.index("node") + 1])
if pathlib.Path(os.environ["HOME"], "fail").exists():
    sys.exit("the server said: " + stdin)
"""
SSH = """#!/bin/sh
printf '%s\\n' "$@" > "$HOME/ssh.argv"
"""


class Home:
    """A folder with a cluster.yaml, and programs that write down how they were called."""

    def __init__(self, path: Path, distribution: str) -> None:
        self.path = path
        self.distribution = distribution
        (path / "cluster.yaml").write_text(
            CLUSTER.format(distribution=distribution, version=VERSIONS[distribution])
        )
        (path / "bin").mkdir()
        self.program("kubectl", KUBECTL)
        self.program("ssh", SSH)
        self.said: list[str] = []

    def program(self, name: str, text: str) -> None:
        (self.path / "bin" / name).write_text(text)
        (self.path / "bin" / name).chmod(0o755)

    def __call__(self, *arguments: str, code: int = 0, **extra: str) -> str:
        env = {**os.environ, "HOME": str(self.path), "PATH": f"{self.path}/bin:{os.environ['PATH']}", **extra}
        env["KUBECONFIG"] = extra.get("KUBECONFIG", "")
        # `ssh` becomes another program, and what -v says is to be seen whichever way it comes out
        real = {"-v", "ssh"} & set(arguments)
        done = (command.start if real else command.run)(*arguments, env=env, cwd=self.path)
        self.said += [done.stdout, done.stderr] if arguments[:1] != ("kubeconfig",) else [done.stderr]
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr or "-v" in arguments
        return done.stdout if code == 0 else done.stderr

    @property
    def secrets(self) -> Secrets:
        return Vault(self.path / "secrets").existing()

    def calls(self) -> list[dict[str, Any]]:
        path = self.path / "kubectl.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    made = Home(tmp_path, getattr(request, "param", "k3s"))
    made("secrets", "issue")
    return made


BOTH = pytest.mark.parametrize("home", ["k3s", "kubeadm"], indirect=True)


def marks(secrets: Secrets) -> list[str]:
    """Return texts that give a secret away, in whatever form it is written: of a key, one of its inner lines."""
    return [lines[-3] if len(lines := value.split("\n")) > 3 else value for value in secrets.values()]


@BOTH
def test_no_command_shows_a_secret_not_even_at_debug_level(home: Home) -> None:
    before = marks(home.secrets)
    for arguments in (("plan", "--json"), ("secrets", "issue"), ("secrets", "list"), ("secrets", "list", "--json"), ("known-hosts",),
                      ("kubeconfig", "-o", "kc"), ("ssh", "node1", "true"), ("secrets", "export", "all", "--all"),
                      ("secrets", "rotate", "host-key"), ("secrets", "rotate", "tokens"), ("forget", "node2", "--apply")):  # fmt: skip
        home("-v", *arguments)
    (home.path / "fail").touch()
    home("-v", "forget", "node1", "--apply", code=1)
    if home.distribution == "kubeadm":
        home("-v", "secrets", "rotate", "tokens", "--apply", code=1)
    values = [*before, *marks(home.secrets)]
    assert len(values) > 15
    assert not [text for text in home.said for value in values if value in text]
    argvs = json.dumps([call["argv"] for call in home.calls()]) + (home.path / "ssh.argv").read_text()
    assert not [value for value in values if value in argvs]


@BOTH
def test_passwords_of_add_ons_reach_the_running_cluster_and_no_eye(home: Home) -> None:
    with (home.path / "cluster.yaml").open("a") as file:
        file.write("addons:\n  kube-prometheus-stack: {}\n  mine: {manifests: mine.yaml}\n")
    own = "s3cr3t-of-my-own"
    (home.path / "mine.yaml").write_text(
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: mine, namespace: default}}\nstringData: {{key: {own}}}\n"
    )
    home("secrets", "issue")
    old = home.secrets.addons["kube-prometheus-stack"]["admin_password"].reveal()
    said = home("-v", "secrets", "rotate", "addons", "--apply")
    new = home.secrets.addons["kube-prometheus-stack"]["admin_password"].reveal()
    assert new != old
    assert "the cluster has the new passwords" in said
    assert "kubectl rollout restart" in said
    assert "--apply" not in said
    [call] = home.calls()
    assert {"apply", "--server-side", "--force-conflicts", "--field-manager=pibake"} <= set(call["argv"])
    given = json.loads(call["stdin"])
    assert {one["kind"] for one in given["items"]} == {"Secret"}
    inside = {base64.b64decode(text).decode() for one in given["items"] for text in one["data"].values()}
    assert {new, own} <= inside
    assert old not in inside
    (home.path / "fail").touch()
    failed = home("-v", "secrets", "rotate", "addons", "--apply", code=1)
    assert "the new passwords are kept here, but the cluster does not know them yet" in failed
    values = [old, new, own, home.secrets.addons["kube-prometheus-stack"]["admin_password"].reveal()]
    values += [base64.b64encode(value.encode()).decode() for value in values]
    assert not [value for value in values for text in home.said if value in text]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl (kubernetes-client) is not installed")
@BOTH
def test_kubectl_reads_the_kubeconfig_and_what_was_merged(home: Home) -> None:
    (home.path / "bin/kubectl").unlink()
    home("kubeconfig", "-o", "kc")
    assert (home.path / "kc").stat().st_mode & 0o777 == 0o600

    def view(path: Path) -> dict[str, Any]:
        argv = ["kubectl", "--kubeconfig", str(path), "config", "view", "--raw", "-o", "json"]
        found = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        assert isinstance(found, dict)
        return found

    config = view(home.path / "kc")
    assert config["current-context"] == "lab"
    assert config["clusters"][0]["cluster"]["server"] == "https://192.168.10.11:6443"
    target = home.path / "merged"
    for key, name in (("set-cluster", "other"), ("set-context", "other")):
        subprocess.run(
            ["kubectl", "--kubeconfig", target, "config", key, name], check=True, capture_output=True
        )
    subprocess.run(
        ["kubectl", "--kubeconfig", target, "config", "use-context", "other"], check=True, capture_output=True
    )
    home(
        "kubeconfig",
        "--merge",
        "--user",
        "alice",
        "--group",
        "dev",
        "--ttl",
        "8h",
        KUBECONFIG=f"{target}:/nonexistent",
    )
    merged = view(target)
    assert (merged["current-context"], target.stat().st_mode & 0o777) == ("other", 0o600)
    assert sorted(c["name"] for c in merged["contexts"]) == ["lab", "other"]
    data = base64.b64decode(merged["users"][0]["user"]["client-certificate-data"])
    subject = subprocess.run(
        ["openssl", "x509", "-noout", "-subject"], input=data, check=True, capture_output=True
    ).stdout
    assert subject.decode().replace(" ", "").strip() == "subject=O=dev,CN=alice"


def test_merging_makes_the_usual_file_and_leaves_one_that_is_no_kubeconfig(home: Home) -> None:
    home("kubeconfig", "--merge")
    usual = home.path / ".kube/config"
    assert usual.stat().st_mode & 0o777 == 0o600
    assert yaml.safe_load(usual.read_text())["current-context"] == "lab"
    home("kubeconfig", "-o", ".kube/config")
    usual.write_text(usual.read_text().replace("name: lab", "name: prod"))
    assert "hint: --merge keeps them" in home("kubeconfig", "-o", ".kube/config", code=1)
    (home.path / "real").write_text("not a kubeconfig\n")
    assert "is not a kubeconfig" in home("kubeconfig", "-o", "real", code=1)
    (home.path / "link").symlink_to("real")
    assert "is not a kubeconfig, so it is not touched" in home("kubeconfig", "--merge", "-o", "link", code=1)
    assert (home.path / "real").read_text() == "not a kubeconfig\n"
    (home.path / "real").write_text("")
    home("kubeconfig", "--merge", "-o", "link")
    assert (home.path / "link").is_symlink()
    assert yaml.safe_load((home.path / "real").read_text())["kind"] == "Config"


def test_the_head_is_logged_in_to_from_outside(home: Home) -> None:
    """Its address among the nodes is one that nobody outside reaches."""
    path = home.path / "cluster.yaml"
    text = path.read_text().replace(", gateway: 192.168.10.1", "")
    head = "head: {{node: node1, upstream: {{port: eth1{}}}}}\n"
    path.write_text(text + head.format(", address: 203.0.113.5/24, gateway: 203.0.113.1"))
    home("kubeconfig", "--via", "node1", "-o", "far")
    assert home.said[-1].endswith(" ops@203.0.113.5\n")
    path.write_text(text + head.format(""))
    assert "name what you reach it by: --via ops@ADDRESS" in home("kubeconfig", "--via", "node1", code=1)


def test_kubeconfig_options_that_mean_nothing_are_refused(home: Home) -> None:
    assert "--group goes with --user" in home("kubeconfig", "--group", "x", code=2)
    assert "no length of time" in home("kubeconfig", "--ttl", "soon", code=2)
    assert "over at once" in home("kubeconfig", "--ttl", "0s", code=1)
    assert "is no host that ssh can log in to" in home("kubeconfig", "--via", "-oProxyCommand=x", code=1)
    assert "is no API server's URL" in home("kubeconfig", "--server", "http://a", code=1)
    assert (
        yaml.safe_load(home("kubeconfig", "--server", "https://a:1"))["clusters"][0]["cluster"]["server"]
        == "https://a:1"
    )


def test_ssh_checks_the_issued_key_and_passes_the_command_on(home: Home) -> None:
    home("ssh", "--user", "root", "-p", "2222", "node2", "ls", "-l", "-o", "a b")
    argv = (home.path / "ssh.argv").read_text().splitlines()
    assert argv[argv.index("-l") :] == ["-l", "root", "--", "192.168.10.12", "ls", "-l", "-o", "a b"]
    real = shutil.which("ssh")
    assert real
    shown = subprocess.run(
        [real, "-G", *argv], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    known = home.path / "secrets/known_hosts"
    for line in ("stricthostkeychecking true", "hostkeyalias node2", f"userknownhostsfile {known}", "port 2222", "user root",
                 "updatehostkeys false", "globalknownhostsfile /dev/null"):  # fmt: skip
        assert line in shown
    assert subprocess.run(["ssh-keygen", "-F", "node2", "-f", known], check=False).returncode == 0
    assert "has no node node9" in home("ssh", "node9", code=1)


SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@pytest.mark.skipif(not SSHD, reason="sshd (openssh-server) is not installed")
def test_ssh_works_on_first_contact_and_refuses_another_hosts_key(home: Home) -> None:
    assert SSHD
    home("secrets", "export", "n1", "--node", "node1")
    home("secrets", "export", "n2", "--node", "node2")
    (home.path / "bin/ssh").unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home.path / "id"], check=True)
    (home.path / "authorized").write_text((home.path / "id.pub").read_text())
    key = home.path / "n1/etc/ssh/ssh_host_ed25519_key"
    tried = subprocess.run(
        [SSHD, "-t", "-f", "/dev/null", "-h", key], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"sshd does not run here: {tried.stderr.strip()}")
    for folder, code in (("n1", 0), ("n2", 255)):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        argv: list[str | Path] = [SSHD, "-D", "-e", "-f", "/dev/null", "-p", str(port), "-h", home.path / folder / "etc/ssh/ssh_host_ed25519_key",
                "-o", f"AuthorizedKeysFile={home.path}/authorized", "-o", "StrictModes=no", "-o", "UsePAM=no",
                "-o", "PidFile=none", "-o", "ListenAddress=127.0.0.1"]  # fmt: skip
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as server:
            try:
                wait(port)
                user = os.environ.get("USER") or "root"
                said = home("ssh", "--user", user, "-i", "id", "-p", str(port), "--address", "127.0.0.1", "node1", "echo", "-n", "here",
                            code=code)  # fmt: skip
                assert said == "here" if code == 0 else "Host key verification failed" in said
            finally:
                server.kill()


def wait(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("sshd did not start")


@BOTH
def test_forget_removes_what_is_here_and_says_what_is_left_to_do(home: Home) -> None:
    out = home.path / "images/out"
    out.mkdir(parents=True)
    for name in (
        "node2.img",
        "node2.img.sha256",
        "node2.img.zst",
        "node2.manifest.json",
        "node22.img",
        "node1.img",
    ):
        (out / name).touch()
    said = home("forget", "node2")
    assert sorted(path.name for path in out.iterdir()) == ["node1.img", "node22.img"]
    assert list(home.secrets.nodes) == ["node1"]
    assert "kubectl drain node2 --ignore-daemonsets --delete-emptydir-data" in said
    assert "kubectl delete node node2" in said
    assert ("node2.node-password.k3s" in said) == (home.distribution == "k3s")
    assert "cluster.yaml is yours to remove" in said
    assert "nothing is left of node2 here" in home("forget", "node2")
    assert not home.calls()


@BOTH
def test_forget_apply_drains_and_deletes_and_is_fine_with_a_node_that_is_gone(home: Home) -> None:
    home("forget", "node2", "--apply")
    commands = [" ".join(call["argv"][3:]) for call in home.calls()]
    assert commands[0] == "get node node2 --ignore-not-found -o name"
    assert commands[1].startswith("drain node2 --ignore-daemonsets --delete-emptydir-data")
    assert commands[2] == "delete node node2 --ignore-not-found"
    last = "-n kube-system delete secret node2.node-password.k3s --ignore-not-found"
    assert commands[3:] == ([last] if home.distribution == "k3s" else [])
    assert {(call["mode"], call["folder"]) for call in home.calls()} == {(0o600, 0o700)}
    assert not Path(home.calls()[0]["argv"][1]).exists()
    (home.path / "gone").touch()
    home("forget", "node2", "--apply")
    assert not [call for call in home.calls()[len(commands) :] if "drain" in call["argv"]]


def test_forget_keeps_everything_when_the_cluster_does_not_answer(home: Home) -> None:
    (home.path / "fail").touch()
    assert "nothing was removed here" in home("forget", "node2", "--apply", code=1)
    assert "node2" in home.secrets.nodes


@pytest.mark.parametrize("home", ["kubeadm"], indirect=True)
def test_rotating_tokens_tells_the_cluster_the_new_one_and_takes_the_old_one_away(home: Home) -> None:
    old = home.secrets.tokens["bootstrap"].reveal()
    said = home("secrets", "rotate", "tokens", "--apply", "--ttl", "2h")
    new = home.secrets.tokens["bootstrap"].reveal()
    put, removed = home.calls()
    assert put["argv"][3:] == ["apply", "--server-side", "--force-conflicts", "-f", "-"]
    document = json.loads(put["stdin"])
    data = document["stringData"]
    assert (document["type"], document["metadata"]["namespace"]) == (
        "bootstrap.kubernetes.io/token",
        "kube-system",
    )
    assert f"{data['token-id']}.{data['token-secret']}" == new != old
    left = time.mktime(time.strptime(data["expiration"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())
    assert 7100 < left <= 7200
    assert json.loads(removed["stdin"])["metadata"]["name"] == f"bootstrap-token-{old[:6]}"
    assert "build the cards again of: node1, node2" in said


def test_k3s_tokens_cannot_be_applied_from_here(home: Home) -> None:
    before = home.secrets
    assert "k3s token rotate" in home("secrets", "rotate", "tokens", "--apply", code=1)
    assert home.secrets == before


def test_export_refuses_a_folder_that_holds_something_and_leaves_nothing_half_made(home: Home) -> None:
    (home.path / "full").mkdir()
    (home.path / "full/file").touch()
    assert "not an empty folder" in home("secrets", "export", "full", "--pki", code=1)
    (home.path / "empty").mkdir()
    home("secrets", "export", "empty", "--pki")
    assert (home.path / "empty").stat().st_mode & 0o777 == 0o700
    assert (home.path / "empty/server/tls/etcd/peer-ca.key").stat().st_mode & 0o777 == 0o600
    assert "has no node node9" in home("secrets", "export", "new", "--node", "node9", code=1)
    assert "give one of" in home("secrets", "export", "new", code=2)
    assert not (home.path / "new").exists()


def test_a_cluster_renamed_or_a_role_changed_after_issue_is_refused(home: Home) -> None:
    before = (home.path / "secrets/identity.json").read_bytes()
    source = home.path / "cluster.yaml"
    text = source.read_text()
    source.write_text(text.replace("cluster: lab", "cluster: shed"))
    assert "issued for the cluster lab, and it is called shed now" in home("secrets", "issue", code=1)
    source.write_text(text.replace("address: 192.168.10.12", "address: 192.168.10.12, role: server")
                      .replace("nodes:", "nodes:\n  - {hostname: node3, address: 192.168.10.13, role: server}"))  # fmt: skip
    assert "hint: pibake forget node2" in home("secrets", "issue", code=1)
    assert (home.path / "secrets/identity.json").read_bytes() == before


def test_commands_before_anything_is_issued_say_what_to_do(tmp_path: Path) -> None:
    home = Home(tmp_path, "k3s")
    for arguments in (("secrets", "list"), ("kubeconfig",), ("known-hosts",), ("ssh", "node1"), ("secrets", "rotate", "tokens"),
                      ("secrets", "export", "x", "--all")):  # fmt: skip
        assert "hint: pibake secrets issue" in home(*arguments, code=1)
    home("forget", "node1")
    assert not (tmp_path / "secrets").exists()


def test_age_from_the_command_line_and_back(tmp_path: Path) -> None:
    home = Home(tmp_path, "k3s")
    key = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{key}\n")
    home("secrets", "issue", "-r", str(key.to_public()), PIBAKE_AGE_IDENTITY="key")
    assert not (tmp_path / "secrets/identity.json").exists()
    assert "no key to decrypt it was given" in home("secrets", "list", code=1)
    listed = home("secrets", "list", "--age-identity", "key")
    home("secrets", "decrypt", "--age-identity", "key")
    assert home("secrets", "list") == listed
    assert "is there already, in the clear" in home("secrets", "issue", "-r", str(key.to_public()), code=1)
    home("secrets", "encrypt", "-r", str(key.to_public()), "--age-identity", "key")
    assert home("secrets", "list", PIBAKE_AGE_IDENTITY="key") == listed
    found = Vault(tmp_path / "secrets", identity_file=tmp_path / "key").existing()
    content = b"".join(path.read_bytes() for path in (tmp_path / "secrets").iterdir())
    assert not [value for value in marks(found) if value.encode() in content]
