"""A real API server judges what add-ons become: every one of the catalogue, on both distributions.

The server needs no node, no card and no QEMU: etcd and kube-apiserver run natively, from what pibake issued. The objects
are those of its own release, 1.20, which the plan's is set to; `pibake.kube.validation` holds the newer ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests import offers as samples
from tests.cluster import lab as labs

from pibake import config, kube, offers, resources
from pibake.cache import Cache
from pibake.delivery import Delivery
from pibake.kube import document, kubeadm, validation
from pibake.plan import plan
from pibake.progress import Plain
from pibake.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.cluster.lab import Lab

pytestmark = pytest.mark.cluster
RELEASE = "v1.20.2"
APPLY = ("apply", "--server-side", "--force-conflicts", "--field-manager=pibake")
EVERY = [(name, distribution) for name in offers.names() for distribution in samples.DISTRIBUTIONS]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Lab]:
    """Run an API server with nothing in it."""
    assert os.geteuid() == 0, "namespaces need root"
    labs.described(folder)
    with labs.opened(folder) as opened:
        opened.pibake("secrets", "issue")
        opened.pibake("kubeconfig", "-o", "kubeconfig")
        (server,) = plan(config.load(folder / "cluster.yaml", bases=("debian-13",))).nodes
        rendered = kube.render(server, Vault(folder / "secrets").existing(), kube.Extras())
        for path, file in rendered.secret:
            target = folder / "s1" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
        opened.serve(folder / "s1/etc/pibake/kubeadm", ("kube-apiserver",))
        yield opened


def define(lab: Lab) -> None:
    """Let the server know every custom kind of the catalogue."""
    lab.kubectl(*APPLY, "-f", str(resources.path("addons", "crds")))
    lab.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


@pytest.fixture(scope="module")
def defined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with serving(tmp_path_factory.mktemp("addons")) as lab:
        define(lab)
        yield lab


def rendered(name: str, distribution: str, options: str, folder: Path) -> samples.Made:
    """Return what becomes of an add-on and of those it needs, on the release of the server."""
    chosen = samples.options(samples.with_needs(name), folder, options)
    suffix = "+k3s1" if distribution == "k3s" else ""
    return samples.made(samples.decided(folder, chosen, distribution), release=f"{RELEASE}{suffix}")


def dump(objects: Iterable[dict[str, Any]]) -> str:
    return document.dump(*objects)


@pytest.mark.parametrize("options", samples.OPTIONS)
@pytest.mark.parametrize(("name", "distribution"), EVERY)
def test_the_api_server_takes_every_object_of_every_add_on(
    defined: Lab, tmp_path: Path, name: str, distribution: str, options: str
) -> None:
    every = [thing for _, thing in rendered(name, distribution, options, tmp_path).objects]
    if not every:
        entry = offers.entry(name)
        assert entry.manifest or (entry.k3s.bundled and distribution == "k3s"), "it comes to nothing"
        return
    # a dry run makes none, and refuses what stands in one that there is not
    spaces = [thing for thing in every if thing["kind"] == "Namespace"]
    if spaces:
        defined.kubectl(*APPLY, "-f", "-", stdin=dump(spaces))
    answer = defined.kubectl(*APPLY, "--dry-run=server", "-f", "-", stdin=dump(every))
    assert len(answer.splitlines()) == len(every), answer


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("data", ["a"], "data"),
        ("datas", {"a": "b"}, "datas"),
        ("metadata", {"name": "No_Name"}, "RFC 1123"),
    ],
)
def test_the_api_server_refuses_what_is_wrong(defined: Lab, field: str, value: Any, said: str) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, field: value}
    with pytest.raises(AssertionError, match=said):
        defined.kubectl(*APPLY, "--dry-run=server", "-f", "-", stdin=json.dumps(wrong))


def test_the_api_server_holds_custom_objects_against_our_definitions(defined: Lab) -> None:
    wrong = yaml.safe_load("""
        apiVersion: helm.cattle.io/v1
        kind: HelmChart
        metadata: {name: a, namespace: kube-system}
        spec: {chart: a, valuesContent: [1]}
    """)
    with pytest.raises(AssertionError, match="valuesContent"):
        defined.kubectl(*APPLY, "--dry-run=server", "-f", "-", stdin=json.dumps(wrong))


def command() -> list[str]:
    """Return what the unit of kubeadm's first server runs."""
    (unit,) = resources.path("overlays").rglob("pibake-addons.service")
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    program, *words = shlex.split(line.removeprefix("ExecStart="))
    assert program.endswith("/kubectl")
    return [str(labs.tools() / "kubectl"), *words]


def test_the_units_command_gets_there_once_the_charts_kinds_are_and_changes_nothing_after(
    tmp_path: Path,
) -> None:
    made = samples.made(samples.together(tmp_path, "kubeadm"), release=RELEASE)
    assert made.plan.kubernetes
    assert made.secrets
    brought = (
        Delivery(made.plan, made.plan.kubernetes, Cache(tmp_path / "cache"), Plain()).first("arm64").files
    )
    home = Path("/etc/pibake")
    home.mkdir(exist_ok=True)  # it stays, as /etc/kubernetes does
    with serving(tmp_path / "lab") as lab:
        lab.run("mount", "-t", "tmpfs", "none", home)
        lab.run("mkdir", f"/{kubeadm.ADDONS}")
        for file in brought:
            if file.path.startswith(kubeadm.ADDONS):
                lab.run("cp", file.source, f"/{file.path}")
        lab.run("dd", "status=none", f"of=/{kubeadm.ADDONS}/secrets.yaml", input=made.secrets.dump())

        def run() -> subprocess.CompletedProcess[str]:
            # what kubectl has learnt of other servers at this address is not for this one
            argv = lab.enter("env", f"HOME={tmp_path}", *command())
            return subprocess.run(argv, capture_output=True, text=True, check=False)

        def state() -> dict[str, str]:
            found = lab.get("-f", f"/{kubeadm.ADDONS}")["items"]
            return {validation.subject(thing): thing["metadata"]["resourceVersion"] for thing in found}

        before = run()
        assert before.returncode != 0, "the kinds of charts that nobody has installed yet are known"
        assert [line for line in before.stderr.splitlines() if "no matches for kind" not in line] == []
        define(lab)  # as the charts do
        after = run()
        assert after.returncode == 0, after.stderr
        first = state()
        assert len(first) == len(made.objects)
        assert run().returncode == 0
        assert state() == first
