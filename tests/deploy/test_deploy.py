"""Deployment to a Space: mistakes in a Spacefile, the files to send, the changes, and applying them to a fake hub."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, get_session
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from captioning.__main__ import main
from captioning.core.errors import DeployError
from captioning.deploy.manifest import collect_files, read_front_matter
from captioning.deploy.spacefile import Volume, read_spacefile
from captioning.models import get_spec
from captioning.models.families.blip import FAMILY as BLIP
from tests.fake_space import TOKEN, FakeSpace, SpaceHub

ROOT = Path(__file__).parents[2]
SPACE = "someone/captions"
PASSWORD = "open sesame"
MINIMAL = """\
version: 1
space: someone/captions
visibility: public
hardware: cpu-basic
files:
  include: [app.py, README.md, requirements.txt, captioning/, assets/]
"""
FULL = """\
version: 1
space: someone/captions
visibility: public
hardware: t4-small
sleep_time: 600
variables:
  CAPTIONSCOPE_MODEL: embedded
  GREETING: no
secrets:
  - CAPTIONSCOPE_PASSWORD
volumes:
  - {type: bucket, source: someone/photos, mount_path: /data}
files:
  include: [app.py, README.md, requirements.txt, captioning/, assets/]
  exclude: ["*.draft"]
"""
SENT = {"README.md", "app.py", "assets/model.safetensors", "captioning/page.py", "requirements.txt"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a git checkout of a small Space, with all kinds of files that must not be sent."""
    contents = {
        "README.md": "---\nsdk: gradio\napp_file: app.py\n---\n# Captions\n",
        "app.py": "print()\n",
        "requirements.txt": "gradio\n",
        "captioning/page.py": "PAGE = 1\n",
        "captioning/notes.draft": "later\n",
        "captioning/__pycache__/page.pyc": "\0",
        "captioning/private.txt": "mine\n",
        "assets/model.safetensors": "weights" * 1000,
        "tests/test_page.py": "",
        ".gitignore": "private.txt\n.venv/\n",
        ".venv/bin/python": "",
        ".pytest_cache/state": "",
        ".env": "KEY=1\n",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (tmp_path / "Spacefile").write_text(FULL, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpaceHub]:
    with SpaceHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("CAPTIONSCOPE_PASSWORD", PASSWORD)
        yield hub


def run(project: Path, *flags: str) -> int:
    return main(["deploy", "--file", str(project / "Spacefile"), *flags])


def run_json(project: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert run(project, "--json", *flags) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def write(project: Path, text: str) -> Path:
    file = project / "Spacefile"
    file.write_text(text, encoding="utf-8")
    return file


# --- the Spacefile


def test_a_full_spacefile_is_read_as_it_is_written(tmp_path: Path) -> None:
    spacefile = read_spacefile(write(tmp_path, FULL))
    assert spacefile.space == SPACE
    assert spacefile.sleep_time == 600
    assert spacefile.variables == {"CAPTIONSCOPE_MODEL": "embedded", "GREETING": "no"}  # and not False
    assert spacefile.secrets == ("CAPTIONSCOPE_PASSWORD",)
    assert spacefile.volumes == (Volume("bucket", "someone/photos", "/data", read_only=False),)
    assert spacefile.exclude == ("*.draft",)


MISTAKES: dict[str, tuple[str, int, str]] = {
    "nothing in the file": ("", 1, "begin with `version: 1`"),
    "a list": ("- version: 1\n", 1, "must be keys with values"),
    "broken YAML": (MINIMAL + "variables: {A: 'b\n", 8, "no YAML; check indentation, quotes and brackets"),
    "unknown key": (MINIMAL + "hardwares: t4-small\n", 7, "did you mean hardware?"),
    "unknown key like none": (MINIMAL + "zzz: 1\n", 7, "choose from version, space"),
    "a key twice": (MINIMAL + "space: a/b\n", 7, "space stands here a second time"),
    "missing key": (MINIMAL.replace("hardware: cpu-basic\n", ""), 1, "needs hardware; add it"),
    "missing include": (MINIMAL.replace("include", "exclude"), 6, "needs include; add it"),
    "another version": (MINIMAL.replace("version: 1", "version: 2"), 1, "write `version: 1`"),
    "a wrong type": (MINIMAL.replace("visibility: public", "visibility: [public]"), 3, "must be one plain value"),
    "no value": (MINIMAL.replace("visibility: public", "visibility:"), 3, "must be one plain value"),
    "unknown visibility": (MINIMAL.replace("public", "publik"), 3, "did you mean public?"),
    "unknown hardware": (MINIMAL.replace("cpu-basic", "h9000"), 4, "choose from cpu-basic"),
    "mistyped hardware": (MINIMAL.replace("cpu-basic", "zero-a10"), 4, "did you mean zero-a10g?"),
    "space of nobody": (MINIMAL.replace("someone/captions", "/captions"), 2, "or NAME for one of your own"),
    "space with spaces": (MINIMAL.replace("someone/captions", "some one/captions"), 2, "write OWNER/NAME"),
    "space with an address": (MINIMAL.replace("someone", "https://hf.co/someone"), 2, "write OWNER/NAME"),
    "sleep in words": (MINIMAL + "sleep_time: an hour\n", 7, "whole number of seconds, or never"),
    "sleep of nothing": (MINIMAL + "sleep_time: 0\n", 7, "whole number of seconds, or never"),
    "sleep where the hub decides": (MINIMAL + "sleep_time: 60\n", 7, "remove sleep_time"),
    "variables in a list": (MINIMAL + "variables: [A]\n", 7, "must be names with values"),
    "variable without value": (MINIMAL + "variables:\n  A:\n", 8, 'write "" for an empty one'),
    "variable of odd name": (MINIMAL + "variables:\n  A-B: 1\n", 8, "letters, digits and underscores"),
    "unknown setting": (MINIMAL + "variables:\n  CAPTIONSCOPE_MDOEL: x\n", 8, "no setting CAPTIONSCOPE_MDOEL"),
    "setting of wrong type": (MINIMAL + "variables:\n  CAPTIONSCOPE_QUEUE_SIZE: x\n", 8, "must be a whole number"),
    "unknown setting as secret": (
        MINIMAL + "secrets:\n  - CAPTIONSCOPE_PASWORD\n",
        8,
        "no setting CAPTIONSCOPE_PASWORD",
    ),
    "secret twice": (MINIMAL + "secrets:\n  - A\n  - A\n", 9, "a second time"),
    "secrets as one word": (MINIMAL + "secrets: A\n", 7, "must be a list"),
    "secret also a variable": (MINIMAL + "variables:\n  A: b\nsecrets: [A]\n", 8, "may not stand among the variables"),
    "volume without source": (
        MINIMAL + "volumes:\n  - {type: model, mount_path: /data}\n",
        8,
        "a volume needs source",
    ),
    "volume of odd type": (
        MINIMAL + "volumes:\n  - {type: disk, source: a/b, mount_path: /data}\n",
        8,
        "choose from bucket, model",
    ),
    "volume at no folder": (
        MINIMAL + "volumes:\n  - {type: model, source: a/b, mount_path: data}\n",
        8,
        "from the root on, such as /data",
    ),
    "model to write to": (
        MINIMAL + "volumes:\n  - {type: model, source: a/b, mount_path: /data, read_only: false}\n",
        8,
        "only a bucket can be written to",
    ),
    "files above the folder": (MINIMAL.replace("app.py", "../app.py"), 6, "leaves the folder"),
    "files from the root": (MINIMAL.replace("app.py", "/etc/passwd"), 6, "leaves the folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_told_with_its_line_and_its_cure(tmp_path: Path, mistake: str) -> None:
    text, line, cure = MISTAKES[mistake]
    file = write(tmp_path, text)
    with pytest.raises(DeployError) as raised:
        read_spacefile(file)
    (told,) = str(raised.value).splitlines()
    assert told.startswith(f"{file}:{line}: ")
    assert cure in told


VALUE = "hf_AbCdEfGhIjKlMnOpQrStUv"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"secrets:\n  HF_TOKEN: {VALUE}\n", 8),
        (f"secrets:\n  - HF_TOKEN={VALUE}\n", 8),
        (f"secrets:\n  - HF_TOKEN: {VALUE}\n", 8),
        (f"secrets:\n  - {VALUE}\n", 8),
        (f"variables:\n  ANYTHING: {VALUE}\n", 8),
        (f"variables:\n  CAPTIONSCOPE_PASSWORD: {VALUE}\n", 8),
        (f"variables:\n  OPENAI_API_KEY: short{VALUE[:8]}\n", 8),
        (f"secrets: '{VALUE}\n", 8),
    ],
)
def test_a_secret_written_into_the_file_is_refused_and_never_repeated(tmp_path: Path, text: str, line: int) -> None:
    file = write(tmp_path, MINIMAL + text)
    with pytest.raises(DeployError) as raised:
        read_spacefile(file)
    assert str(raised.value).startswith(f"{file}:{line}: ")
    assert VALUE[:8] not in str(raised.value)


def test_all_mistakes_of_a_file_are_told_at_once_in_order(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL.replace("cpu-basic", "h9000").replace("public", "hidden") + "zzz: 1\n")
    with pytest.raises(DeployError) as raised:
        read_spacefile(file)
    assert [line.split(": ")[0] for line in str(raised.value).splitlines()] == [f"{file}:{n}" for n in (3, 4, 7)]


def test_a_missing_or_unreadable_spacefile_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"There is no .*name another with --file"):
        read_spacefile(tmp_path / "Spacefile")
    (tmp_path / "Spacefile").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeployError, match="cannot be read as UTF-8"):
        read_spacefile(tmp_path / "Spacefile")
    (tmp_path / "Spacefile").write_bytes(b"version: \x01")
    with pytest.raises(DeployError, match="Spacefile"):
        read_spacefile(tmp_path / "Spacefile")


# --- the files


def test_only_files_that_belong_to_the_space_are_sent(project: Path) -> None:
    files = collect_files(read_spacefile(project / "Spacefile"))
    assert set(files) == SENT


def test_a_pattern_for_everything_still_sends_no_tests_caches_or_ignored_files(project: Path) -> None:
    file = write(project, MINIMAL.replace("[app.py, README.md, requirements.txt, captioning/, assets/]", '["*"]'))
    assert set(collect_files(read_spacefile(file))) == SENT | {"Spacefile", ".gitignore", "captioning/notes.draft"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("app.py, README.md", "app.py", "needs README.md"),
        ("requirements.txt, ", "", "needs requirements.txt"),
        ("[app.py, ", "[", "names app.py as app_file, which is not among the files"),
        ("assets/]", "assets/, nothing/]", ":14: nothing/ finds no file"),
        ("assets/]", "tests/]", ":14: tests/ finds no file that may be sent"),
    ],
)
def test_files_that_make_no_space_are_refused(project: Path, before: str, after: str, message: str) -> None:
    file = write(project, FULL.replace(before, after))
    with pytest.raises(DeployError, match=message):
        collect_files(read_spacefile(file))


def test_a_link_that_leaves_the_folder_is_refused(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_text("mine")
    (project / "captioning" / "link.py").symlink_to(secret)
    with pytest.raises(DeployError, match=r"captioning/link.py is a link that leaves the folder"):
        collect_files(read_spacefile(project / "Spacefile"))


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="no git checkout"):
        collect_files(read_spacefile(write(tmp_path, MINIMAL)))


# --- applying it


def test_a_name_alone_is_a_space_of_whoever_deploys(
    project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, MINIMAL.replace(SPACE, "captions"))
    document = run_json(project, capsys)
    assert (document["space"], document["url"]) == (SPACE, f"{hub.url}/spaces/{SPACE}")
    assert list(hub.spaces) == [SPACE]
    assert run_json(project, capsys)["changes"] == []


def test_signing_in_needs_a_head_that_allows_it(
    project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, f"{MINIMAL}variables: {{CAPTIONSCOPE_LOGIN: huggingface}}\n")
    assert run(project) == 1
    assert "`hf_oauth: true` in the head of README.md" in capsys.readouterr().err
    assert hub.writes == []
    head = "---\nsdk: gradio\napp_file: app.py\nhf_oauth: true\n---\n"
    (project / "README.md").write_text(head, encoding="utf-8")
    assert run(project, "--dry-run") == 0


def test_the_projects_own_spacefile_names_no_stranger() -> None:
    assert "/" not in read_spacefile(ROOT / "Spacefile").space


def test_a_new_space_becomes_what_the_spacefile_says(
    project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_json(project, capsys)
    assert document["applied"] is True
    assert document["space"] == SPACE
    assert document["url"] == f"{hub.url}/spaces/{SPACE}"
    assert document["files"]["count"] == len(SENT)
    space = hub.spaces[SPACE]
    assert (space.visibility, space.hardware, space.sleep_time) == ("public", "t4-small", 600)
    assert space.variables == {"CAPTIONSCOPE_MODEL": "embedded", "GREETING": "no"}
    assert space.secrets == {"CAPTIONSCOPE_PASSWORD": PASSWORD}
    assert [volume["mountPath"] for volume in space.volumes] == ["/data"]
    assert set(space.files) == SENT | {".gitattributes"}
    assert all(space.files[name] == (project / name).read_bytes() for name in SENT)
    assert space.commits == 1


def test_nobody_sees_a_new_space_before_it_is_whole(project: Path, hub: SpaceHub) -> None:
    assert run(project) == 0
    writes = [path.removeprefix(f"api/spaces/{SPACE}/") for _, path in hub.writes]
    assert writes[0] == "api/repos/create"
    assert writes[-1] == "settings"
    assert writes.index("secrets") < writes.index("commit/main") < writes.index("settings")
    del hub.spaces[SPACE]
    hub.requests.clear()
    hub.fail_at = 1
    assert run(project) == 1
    assert hub.spaces[SPACE].visibility == "private"


def test_a_second_run_finds_nothing_to_do(project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project) == 0
    count = len(hub.writes)
    capsys.readouterr()
    assert run(project) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert run_json(project, capsys)["changes"] == []
    assert len(hub.writes) == count


def test_a_dry_run_shows_the_difference_and_writes_nothing(
    project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str]
) -> None:
    space = hub.spaces[SPACE] = FakeSpace(variables={"OLD": "1", "GREETING": "yes"}, secrets={"GONE": "x"})
    space.files |= {"app.py": b"old\n", "left.py": b"", "captioning/page.py": b"PAGE = 1\n"}
    assert run(project, "--dry-run") == 0
    shown = capsys.readouterr().out
    for line in (
        "+ variable   CAPTIONSCOPE_MODEL: embedded",
        "~ variable   GREETING: yes → no",
        "- variable   OLD: 1",
        "+ secret     CAPTIONSCOPE_PASSWORD",
        "- secret     GONE",
        "~ hardware   cpu-basic → t4-small",
        "~ sleep_time the hub's default → after 600 s",
        "+ volume     /data: bucket someone/photos at /data, writable",
        "~ file       app.py",
        "- file       left.py",
        "+ file       assets/model.safetensors",
    ):
        assert line in shown.splitlines()
    assert "captioning/page.py" not in shown
    assert ".gitattributes" not in shown
    assert "nothing was changed" in shown
    assert hub.writes == []
    document = run_json(project, capsys, "--dry-run")
    assert document["applied"] is False
    assert {change["action"] for change in document["changes"]} == {"add", "change", "remove"}
    assert hub.writes == []


def test_a_dry_run_needs_no_secrets_and_a_real_one_asks_for_them_before_it_writes(
    project: Path, hub: SpaceHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CAPTIONSCOPE_PASSWORD")
    assert run(project, "--dry-run") == 0
    assert run(project) == 1
    assert f"{project / 'Spacefile'}:10: CAPTIONSCOPE_PASSWORD is not in the environment" in capsys.readouterr().err
    assert hub.writes == []


def test_secrets_that_are_there_are_left_alone_unless_they_shall_be_renewed(project: Path, hub: SpaceHub) -> None:
    assert run(project) == 0
    hub.spaces[SPACE].secrets["CAPTIONSCOPE_PASSWORD"] = "older"
    assert run(project) == 0
    assert hub.spaces[SPACE].secrets == {"CAPTIONSCOPE_PASSWORD": "older"}
    assert run(project, "--renew-secrets") == 0
    assert hub.spaces[SPACE].secrets == {"CAPTIONSCOPE_PASSWORD": PASSWORD}


def test_a_space_that_shall_be_hidden_is_hidden_first(project: Path, hub: SpaceHub) -> None:
    hub.spaces[SPACE] = FakeSpace(visibility="public")
    write(project, FULL.replace("visibility: public", "visibility: private"))
    assert run(project) == 0
    assert hub.writes[0] == ("PUT", f"api/spaces/{SPACE}/settings")
    assert hub.spaces[SPACE].visibility == "private"


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_is_interrupted_the_next_run_finishes(project: Path, hub: SpaceHub, stride: int) -> None:
    assert run(project) == 0
    whole, total = hub.spaces.pop(SPACE), len(hub.writes)
    assert total >= 12
    for number in range(0, total, stride):
        hub.spaces.pop(SPACE, None)
        hub.blobs.clear()
        hub.requests.clear()
        hub.fail_at, hub.failure = number, (400, "no more")  # final: the client repeats other failures by itself
        assert run(project) == 1, f"request {number} was let through"
        hub.fail_at = None
        assert run(project) == 0
        assert hub.spaces[SPACE] == whole


def test_a_removed_file_is_removed_and_the_hubs_own_stays(project: Path, hub: SpaceHub) -> None:
    assert run(project) == 0
    (project / "captioning" / "page.py").rename(project / "captioning" / "pages.py")
    assert run(project) == 0
    assert set(hub.spaces[SPACE].files) == SENT - {"captioning/page.py"} | {"captioning/pages.py", ".gitattributes"}


def test_removing_the_last_volume_removes_it(project: Path, hub: SpaceHub) -> None:
    assert run(project) == 0
    write(project, FULL.replace("volumes:\n  - {type: bucket, source: someone/photos, mount_path: /data}\n", ""))
    assert run(project) == 0
    assert hub.spaces[SPACE].volumes == []


def test_somebody_elses_commit_in_between_is_not_overwritten(
    project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project) == 0
    (project / "app.py").write_text("print(2)\n")
    hub.fail_at, hub.failure = len(hub.writes) + 1, (412, "A commit has happened since")
    assert run(project) == 1
    told = capsys.readouterr().err
    assert "the Space was changed while this ran" in told
    assert "run the same command again" in told


# --- what goes wrong


def test_without_a_token_one_sentence_says_how_to_get_one(
    project: Path, hub: SpaceHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert run(project) == 1
    assert "`hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert hub.requests == []


def test_a_dry_run_without_a_token_shows_what_a_new_space_would_get(
    project: Path, hub: SpaceHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert run(project, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "nothing could be compared" in told
    assert "+ file       README.md" in told
    assert hub.requests == []


def test_a_wrong_token_and_one_that_can_only_read_are_told(
    project: Path, hub: SpaceHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.role = "read"
    assert run(project, "--dry-run") == 1
    assert "can only read" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrongwrong")
    assert run(project, "--dry-run") == 1
    told = capsys.readouterr().err
    assert "does not accept the token" in told
    assert "hf_wrong" not in told


@pytest.mark.parametrize(
    ("status", "message"),
    [(402, "plan does not include it"), (403, "may not do this"), (429, "wait some minutes"), (501, "error 501")],
)
def test_what_the_hub_refuses_is_told_with_the_step_and_the_cure(
    project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str], status: int, message: str
) -> None:
    hub.spaces[SPACE] = FakeSpace(hardware="t4-medium", variables={"CAPTIONSCOPE_MODEL": "embedded", "GREETING": "no"})
    hub.fail_at, hub.failure = 0, (status, f"Not for {PASSWORD}")
    assert run(project) == 1
    told = capsys.readouterr().err
    assert "setting secret CAPTIONSCOPE_PASSWORD failed" in told
    assert message in told
    assert PASSWORD not in told
    assert TOKEN not in told


def test_a_hub_that_is_not_there_is_told(project: Path, hub: SpaceHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.close()
    assert run(project) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_no_log_and_no_output_holds_a_secret(
    project: Path,
    hub: SpaceHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(constants, "HF_DEBUG", True)  # the client then logs whole requests
    client_log = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(client_log, "propagate", True)
    monkeypatch.setattr(client_log, "level", logging.DEBUG)
    client_log.manager._clear_cache()  # type: ignore[attr-defined]
    get_session()
    with caplog.at_level(logging.DEBUG):
        assert run(project, "--json") == 0
    output = "".join(capsys.readouterr()) + caplog.text
    assert "api/spaces/someone/captions/variables" in caplog.text  # so the log would have held it
    assert hub.spaces[SPACE].secrets == {"CAPTIONSCOPE_PASSWORD": PASSWORD}
    assert PASSWORD not in output
    assert PASSWORD.replace(" ", "%20") not in output
    assert TOKEN not in output
    assert logging.root.manager.disable == logging.NOTSET


# --- this project's own


def test_the_projects_own_spacefile_is_valid_and_sends_what_the_page_needs() -> None:
    files = collect_files(read_spacefile(ROOT / "Spacefile"))
    assert {"app.py", "README.md", "requirements.txt", "assets/embedded/model.safetensors"} <= files.keys()
    assert not [name for name in files if name.split("/")[0] in ("tests", ".git", ".venv", ".ci")]
    assert sum(file.num_bytes for file in files.values()) < 100e6


def test_what_is_sent_is_enough_to_open_the_page(tmp_path: Path) -> None:
    for name, file in collect_files(read_spacefile(ROOT / "Spacefile")).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, tmp_path / name)
    code = (
        "import app; from captioning.models import get_spec; from captioning.models.sources import hub; "
        "print(hub.find_local(get_spec('embedded')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "assets" / "embedded"), done.stderr


def test_the_readmes_head_agrees_with_the_requirements() -> None:
    head = read_front_matter(ROOT / "README.md")
    requirements = [Requirement(line) for line in _lines(ROOT / "requirements.txt")]
    (gradio,) = (requirement for requirement in requirements if requirement.name == "gradio")
    assert gradio.specifier.contains(head["sdk_version"])
    assert head["sdk"] == "gradio"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (python,) = (line for line in project.splitlines() if line.startswith("requires-python"))
    assert SpecifierSet(python.split('"')[1]).contains(head["python_version"])
    assert head["license"] == "apache-2.0"
    assert len(head["short_description"]) <= 60


def test_a_zero_gpu_host_may_bring_its_own_torch() -> None:
    (torch,) = (line for line in _lines(ROOT / "requirements.txt") if line.startswith("torch"))
    for version in ("2.8.0", "2.9.1", "2.10.0", "2.11.0"):
        assert Requirement(torch).specifier.contains(version)


def test_what_the_space_loads_beforehand_is_the_pinned_model_and_only_files_that_are_read() -> None:
    head = read_front_matter(ROOT / "README.md")
    (line,) = head["preload_from_hub"]
    repo_id, files, revision = line.split(" ")
    assert revision == get_spec(repo_id).revision
    assert set(files.split(",")) <= set(BLIP.files)
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= set(files.split(","))
    assert head["models"] == [repo_id]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
