"""Overlays, hooks and golden images as a person meets them: `pibake build` on a small real image."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from tests.tools import layouts
from tests.tools.images import tool
from tests.tools.test_build import Bench

from pibake import catalog, config, ground, inventory
from pibake.cache import Cache
from pibake.config import overlays
from pibake.errors import CommandFailed, ConfigError, PibakeError
from pibake.image import ext4
from pibake.plan import plan
from pibake.progress import Plain, Silent
from pibake.seed import templates

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.ground import Ground
    from pibake.plan import NodePlan, Plan


class Site(Bench):
    """A bench whose golden images are asked for without making cards of them."""

    def put(self, path: str, text: str | bytes, *, mode: int = 0o644) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        target.chmod(mode)
        return target

    @property
    def cache(self) -> Cache:
        return Cache(self.folder / "cache/pibake")

    def plan(self) -> Plan:
        return plan(config.load(self.folder / "cluster.yaml", bases=catalog.names()))

    def grounds(self, *names: str, said: io.StringIO | None = None) -> dict[str, Ground]:
        planned = self.plan()
        nodes = [planned.node(name) for name in names or ("node3", "node4")]
        return ground.grounds(planned, nodes, self.cache, Plain(said) if said else Silent())


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with users and groups of its own."""
    accounts = {"etc/passwd": "root:x:0:0::/:\nweb:x:133:33::/:\n", "etc/group": "root:x:0:\nweb:x:44:\n"}
    return layouts.make("debian-13", tmp_path_factory.mktemp("base") / "small.img", root=accounts, size=40)


@pytest.fixture
def site(tmp_path: Path, cards: Path) -> Site:
    return Site(tmp_path, cards)


def read(on: Ground, path: str) -> bytes | None:
    return ext4.read_file(on.base.image, ext4.root_partition(on.base.image).start, path)


def listed(on: Ground, path: str) -> dict[str, str]:
    """The names in a folder of the root file system, with mode, user and group."""
    image = f"{on.base.image}?offset={ext4.root_partition(on.base.image).start}"
    said = tool("debugfs", "-R", f"ls -p {path}", image).decode()
    rows = [line.split("/") for line in said.splitlines() if line]
    return {row[5]: f"{row[2].lstrip('0')} {row[3]}:{row[4]}" for row in rows}


# what is in them


def test_files_of_any_size_are_baked_in_with_the_modes_and_owners_of_the_manifest(site: Site) -> None:
    big = os.urandom(700_000)
    site.put("overlays/web/srv/web/data", big)
    site.put("overlays/web/srv/web/key", "k")
    site.put("overlays/web/usr/local/bin/web", "#!/bin/sh\n", mode=0o755)
    site.put(
        "overlays/web.yaml",
        'srv/web: {mode: "2750", owner: web:web}\nsrv/web/*: {owner: 5:web}\n/srv/web/key: {mode: "0400", owner: web:root}\n',
    )
    wants = site.folder / "overlays/web/etc/systemd/system/multi-user.target.wants/web.service"
    wants.parent.mkdir(parents=True)
    wants.symlink_to("/etc/systemd/system/web.service")
    site.write(extra="  overlays: [web]\n")
    on = site.grounds()["node3"]
    assert read(on, "srv/web/data") == big
    found = listed(on, "/srv/web")
    assert (found["data"], found["key"]) == ("100644 5:44", "100400 133:0")
    assert listed(on, "/srv")["web"] == "42750 133:44"
    assert listed(on, "/usr/local/bin")["web"] == "100755 0:0"
    assert listed(on, "/etc/systemd/system/multi-user.target.wants")["web.service"].startswith("120777")


def test_an_owner_whom_the_base_does_not_know_is_an_error_at_its_place(site: Site) -> None:
    site.put("overlays/web/etc/web", "x")
    site.put("overlays/web.yaml", "etc/web:\n  owner: ops:web\n")
    site.write(extra="  overlays: [web]\n")
    with pytest.raises(
        ConfigError, match=r"web\.yaml:2:10: small\.img has no user ops\n.*made at the first boot"
    ):
        site.grounds()
    site.put("overlays/web.yaml", "etc/web:\n  owner: web:weeb\n")
    with pytest.raises(ConfigError, match=r"has no group weeb\n   hint: did you mean `web`\?"):
        site.grounds()


@pytest.mark.parametrize("path", ["boot/firmware/mine.txt", "run/app/pid"])
def test_what_a_mounted_file_system_would_hide_is_refused(path: str, site: Site) -> None:
    site.put(f"overlays/web/{path}", "x")
    site.write(extra="  overlays: [web]\n")
    with pytest.raises(ConfigError, match=rf"overlays/web/{path}: this would be hidden on the node"):
        site.grounds()
    site.put(f"overlays/web/{path}", "x").rename(site.folder / f"overlays/web/{path}.j2")
    assert site.grounds()["node3"].base.sha256 == site.digest
    site.put(
        "hooks/app", f"#!/bin/sh\nmkdir -p $PIBAKE_ROOT/{path}; echo > $PIBAKE_ROOT/{path}/x\n", mode=0o755
    )
    site.write(extra="  hooks: [app]\n")
    with pytest.raises(PibakeError, match=rf"the hook's /{path}/x would be hidden"):
        site.grounds()


def test_templates_are_rendered_for_each_node_and_stay_out_of_the_golden_image(site: Site) -> None:
    text = "{{ hostname }} {{ address }}/{{ prefix }} of {{ cluster }}:{% for node in nodes %} {{ node.fqdn }}{% endfor %};\n"
    site.put("overlays/web/etc/web.j2", text)
    site.put("overlays/web.yaml", 'etc/web: {mode: "0640", owner: root:web}\n')
    site.write(extra="  overlays: [web]\n")
    on = site.grounds()
    assert on["node3"].base.sha256 == on["node4"].base.sha256 == site.digest
    rendered = {node.hostname: templates.render(node)["etc/web"] for node in site.plan().nodes}
    both = "of lab: node3.lab.example node4.lab.example;\n"
    assert rendered["node3"].data.decode() == f"node3 192.168.1.13/24 {both}"
    assert rendered["node4"].data.decode() == f"node4 192.168.1.14/24 {both}"
    assert (rendered["node4"].mode, rendered["node4"].owner) == (0o640, "root:web")


def test_the_later_overlay_wins_whether_it_has_a_file_or_a_template(site: Site) -> None:
    site.put("overlays/one/etc/a", "file of one")
    site.put("overlays/one/etc/b.j2", "template of one")
    site.put("overlays/two/etc/a.j2", "template of two")
    site.put("overlays/two/etc/b", "file of two")
    site.write(extra="  overlays: [one, two]\n")
    node = site.plan().node("node3")
    assert {path: file.data for path, file in templates.render(node)} == {"etc/a": b"template of two"}
    assert read(site.grounds()["node3"], "etc/b") == b"file of two"


def test_a_template_that_fails_for_one_node_is_shown_by_the_plan_with_its_line(site: Site) -> None:
    site.put("overlays/web/etc/web.j2", "a\nsite = {{ labels.site }}\n")
    site.write(extra="  overlays: [web]\n  labels: {disk: ssd}\n")
    done = site.run("plan")
    assert done.returncode == 2
    assert "overlays/web/etc/web.j2:2:1: for node3: 'dict object' has no attribute 'site'" in done.stderr
    assert "for node4" in done.stderr
    assert site.run("build", "--all").returncode == 2
    site.write(extra="  overlays: [web]\n  labels: {site: attic}\n")
    assert site.run("plan").returncode == 0


def test_a_template_names_what_the_docs_say_and_nothing_else(plain_node: NodePlan) -> None:
    assert templates.variables(plain_node).keys() == overlays.VARIABLES.keys()


# which are made


def test_nodes_with_the_same_recipe_share_an_image_and_others_do_not(site: Site) -> None:
    site.put("overlays/web/etc/web", "x")
    text = (site.folder / "cluster.yaml").read_text()
    text = text.replace("hostname: node4,", "hostname: node4, overlays: [web],")
    (site.folder / "cluster.yaml").write_text(
        f"{text}  - {{hostname: node5, address: 192.168.1.15/24, overlays: [web]}}\n"
    )
    both = site.grounds("node3", "node4", "node5")
    assert both["node3"].base.sha256 == site.digest
    assert both["node4"].base.sha256 == both["node5"].base.sha256 != site.digest
    shutil.rmtree(site.cache.root)
    assert site.grounds("node5")["node5"].base.sha256 == both["node5"].base.sha256


def test_nothing_is_made_or_read_again_when_nothing_changed(site: Site) -> None:
    site.put("overlays/web/srv/data", os.urandom(40 << 20))
    site.put("hooks/app", "#!/bin/sh\necho hello > $PIBAKE_ROOT/app\n", mode=0o755)
    site.write(extra="  overlays: [web]\n  hooks: [app]\n")
    first = site.grounds()["node3"].base.sha256
    planned, said = site.plan(), io.StringIO()
    started = time.monotonic()
    again = ground.grounds(planned, planned.nodes, site.cache, Plain(said))["node3"].base.sha256
    assert time.monotonic() - started < 0.3
    assert again == first
    assert said.getvalue() == ""


def test_a_new_image_says_what_changed_since_the_node_was_made_last(site: Site) -> None:
    site.put("overlays/web/etc/web", "x")
    site.put("overlays/other/etc/other", "x")
    text = (site.folder / "cluster.yaml").read_text()
    text = text.replace("hostname: node4,", "hostname: node4, overlays: [other],")
    (site.folder / "cluster.yaml").write_text(
        text.replace("hostname: node3,", "hostname: node3, overlays: [web],")
    )
    said = io.StringIO()
    site.grounds(said=said)
    assert "made anew" not in said.getvalue()
    site.put("overlays/other/etc/other", "y")
    site.grounds(said=said)
    assert said.getvalue().count("made anew") == 1
    assert "golden image of small.img: made anew, because etc/other changed" in said.getvalue()


def test_prune_keeps_the_golden_image_of_every_node(site: Site) -> None:
    site.put("overlays/web/etc/web", "x")
    site.put("overlays/other/etc/other", "x")
    text = (site.folder / "cluster.yaml").read_text()
    text = text.replace("hostname: node4,", "hostname: node4, overlays: [other],")
    (site.folder / "cluster.yaml").write_text(
        text.replace("hostname: node3,", "hostname: node3, overlays: [web],")
    )
    old = site.grounds()
    site.put("overlays/other/etc/other", "y")
    new = site.grounds("node4")
    dropped = inventory.prune(site.cache, Silent(), everything=False, dry_run=False)
    assert not old["node4"].base.image.exists()
    assert old["node3"].base.image.exists()
    assert new["node4"].base.image.exists()
    assert "no node was made from it last" in {drop.why for drop in dropped}
    # the older one again, from what was kept for the other
    site.put("overlays/other/etc/other", "x")
    assert site.grounds()["node4"].base.sha256 == old["node4"].base.sha256


def test_prune_forgets_nodes_and_clusters_that_are_gone(site: Site) -> None:
    site.put("overlays/web/etc/web", "x")
    text = (site.folder / "cluster.yaml").read_text()
    (site.folder / "cluster.yaml").write_text(
        text.replace("hostname: node4,", "hostname: node4, overlays: [web],")
    )
    gone = site.grounds()["node4"].base.image
    (site.folder / "cluster.yaml").write_text(
        text.replace("  - {hostname: node4, address: 192.168.1.14/24}\n", "")
    )
    inventory.prune(site.cache, Silent(), everything=False, dry_run=False)
    assert gone.exists()
    site.grounds("node3")
    inventory.prune(site.cache, Silent(), everything=False, dry_run=False)
    assert not gone.exists()
    site.write(extra="  overlays: [web]\n")
    kept = site.grounds()["node3"].base.image
    site.folder.rename(site.folder.with_name("moved"))
    cache = Cache(site.folder.with_name("moved") / "cache/pibake")
    dropped = inventory.prune(cache, Silent(), everything=False, dry_run=False)
    assert "golden images of a cluster whose folder is gone" in {drop.why for drop in dropped}
    inventory.prune(cache, Silent(), everything=False, dry_run=False)
    assert not cache.path(kept.stem).exists()


def test_a_hundred_nodes_of_one_kind_take_little_longer_than_one(site: Site) -> None:
    site.put("overlays/web/etc/web", "x")
    site.put(
        "overlays/web/etc/peers.j2",
        "{% for node in nodes %}{{ node.address }} {{ node.hostname }}\n{% endfor %}",
    )
    site.write(extra="  overlays: [web]\n")
    with (site.folder / "cluster.yaml").open("a") as file:
        file.writelines(f"  - {{hostname: n{n}, address: 192.168.1.{n}/24}}\n" for n in range(100, 200))
    site.grounds("node3")
    planned = site.plan()
    started = time.monotonic()
    found = ground.grounds(planned, planned.nodes, site.cache, Silent())
    assert time.monotonic() - started < 0.6
    assert len({on.base.sha256 for on in found.values()}) == 1


def test_an_image_that_was_damaged_in_the_cache_is_made_anew_by_the_next_build(site: Site) -> None:
    site.put("overlays/web/etc/web", "x")
    site.write(extra="  overlays: [web]\n")
    made = site.grounds()["node3"].base
    made.image.chmod(0o600)
    os.truncate(made.image, made.image.stat().st_size // 2)
    done = site.build("--hostname", "node3")
    assert "is damaged and made anew" in done.stderr
    assert site.grounds()["node3"].base.sha256 == made.sha256


# hooks

HOOK = """#!/bin/sh
set -e
echo "$PIBAKE_ARCH $PIBAKE_BASE" > "$PIBAKE_ROOT/told"
[ -z "$(ls -A .)" ] && [ -z "$(ls -A "$PIBAKE_ROOT" | grep -v told)" ]
[ -z "$SECRET_OF_MINE" ] && [ -n "$HOME" ]
echo run >> "{log}"
mkdir -p "$PIBAKE_ROOT/opt/app" && echo 1 > "$PIBAKE_ROOT/opt/app/run" && chmod 4711 "$PIBAKE_ROOT/opt/app/run"
ln -s ../opt/app/run "$PIBAKE_ROOT/app"
touch left-over
"""


def test_a_hook_runs_once_for_a_base_and_its_files_are_baked_in(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    log = site.folder / "log"
    site.put("hooks/app", HOOK.format(log=log), mode=0o755)
    site.put("overlays/web/etc/web", "x")
    site.write(extra="  hooks: [app]\n  overlays: [web]\n")
    on = site.grounds()["node3"]
    assert read(on, "told") == b"arm64 small.img\n"
    assert listed(on, "/opt/app")["run"] == "104711 0:0"
    assert read(on, "app") == b"1\n"
    assert not list(site.cache.partial.iterdir())
    site.put("overlays/web/etc/web", "y")
    site.grounds()
    assert log.read_text() == "run\n"
    site.put("hooks/app", HOOK.format(log=log) + "# once more\n", mode=0o755)
    site.grounds()
    assert log.read_text() == "run\nrun\n"
    inventory.prune(site.cache, Silent(), everything=False, dry_run=False)
    site.grounds()
    assert log.read_text() == "run\nrun\n"


def test_the_result_of_a_hook_that_was_damaged_is_made_again(site: Site) -> None:
    site.put("hooks/app", "#!/bin/sh\necho 1 > $PIBAKE_ROOT/app\n", mode=0o755)
    site.write(extra="  hooks: [app]\n")
    made = site.grounds()["node3"].base.sha256
    (kept,) = site.cache.root.glob("hooks/*/root/app")
    kept.write_text("2\n")
    assert site.grounds()["node3"].base.sha256 == made


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "echo so far; echo no such release >&2; exit 3",
            r"hooks/app exited with status 3 \(to run the hook app\)",
        ),
        ("exit 0", r"the hook app made no files"),
        ("mkfifo $PIBAKE_ROOT/pipe", r"made pipe, which is neither file, folder nor link"),
        ("ln -s $PIBAKE_ROOT/a $PIBAKE_ROOT/b", r"made a link b that leads to /.*/a"),
    ],
)
def test_a_hook_that_fails_is_an_error_with_what_it_said_and_leaves_nothing(
    program: str, message: str, site: Site
) -> None:
    site.put("hooks/app", f"#!/bin/sh\n{program}\n", mode=0o755)
    site.write(extra="  hooks: [app]\n")
    with pytest.raises(PibakeError, match=message) as caught:
        site.grounds()
    if isinstance(caught.value, CommandFailed):
        assert "so far" in str(caught.value)
        assert "no such release" in str(caught.value)
    assert caught.value.hint
    assert not list(site.cache.partial.iterdir())
    assert not list(site.cache.root.glob("hooks/*"))


def test_plan_and_manifest_name_packages_and_hooks(site: Site) -> None:
    site.put("hooks/app", "#!/bin/sh\necho 1 > $PIBAKE_ROOT/app\n", mode=0o755)
    site.write(extra="  hooks: [app]\n")
    assert "hooks" in site.run("plan").stdout
    site.build()
    manifest = json.loads((site.out / "node3.manifest.json").read_text())
    assert [hook["name"] for hook in manifest["node"]["hooks"]] == ["app"]
