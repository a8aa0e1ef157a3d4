"""What visitors hand in and take away lies in one folder, and does not stay."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file

from captioning.core.errors import OptionsError
from captioning.web.temporary import _make_folder, own_folder, sweep
from tests.conftest import FakeLoader
from tests.page_server import serve

SHOW_FOLDER = "from captioning.web.temporary import own_folder; print(own_folder(), flush=True); input()"


def test_everything_lies_in_one_folder_that_no_other_user_reads() -> None:
    assert Path(get_upload_folder()) == own_folder()
    assert stat.S_IMODE(own_folder().stat().st_mode) == 0o700


def test_old_files_and_empty_folders_go_and_young_and_kept_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "map-1" / "zip-0").mkdir(parents=True)
    names = ("map-1/zip-0/1.png", "map-1/clip.mp4", "upload.png", "icon.svg", ".lock")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    time.sleep(0.3)
    (tmp_path / "young.png").write_bytes(b"x")
    assert sweep(tmp_path, 0.2, {str(tmp_path / "icon.svg")}) == 3
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"icon.svg", ".lock", "young.png"}
    assert not (tmp_path / "empty").exists()
    time.sleep(0.3)
    sweep(tmp_path, 0.2, {str(tmp_path / "icon.svg")})
    sweep(tmp_path, 0)
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_folders_that_vanish_during_a_sweep_do_not_end_it(tmp_path: Path) -> None:
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            for number in range(20):
                (tmp_path / str(number) / "deep").mkdir(parents=True)
            for number in range(20):
                shutil.rmtree(tmp_path / str(number))

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        assert [sweep(tmp_path, 3600) for _ in range(300)] == [0] * 300
    finally:
        is_over.set()
        other.join()


def test_uploads_go_while_the_server_runs_and_it_goes_on(photo: Path, change_settings: Callable[..., None]) -> None:
    change_settings(file_seconds=2)
    with serve(FakeLoader()) as address:
        client = Client(address, verbose=False)
        for _ in range(2):
            assert client.predict(image=handle_file(photo), api_name="/caption")["captions"]
            wait_until_gone("photo.png")


def wait_until_gone(name: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while any(name in files for _, _, files in os.walk(own_folder())):
        assert time.monotonic() < end, f"{name} is still there"
        time.sleep(0.1)


@pytest.mark.slow
def test_the_folder_goes_with_its_process_and_what_a_killed_one_left_with_the_next(tmp_path: Path) -> None:
    killed, left = start(tmp_path)
    (left / "photo.png").write_bytes(b"x")
    other, alive = start(tmp_path)
    assert left.is_dir()  # its process lives
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    ended, own = start(tmp_path)
    assert not left.exists()
    assert alive.is_dir()
    for process in (other, ended):
        process.communicate("\n")
    assert not own.exists()
    assert not alive.exists()


def start(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder of its own in `parent`, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW_FOLDER],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"GRADIO_TEMP_DIR": str(parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_where_the_folder_of_uploads_is_another_users_one_beside_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gradio").write_text("in the way")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert _make_folder().parent == tmp_path
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio" / "mine"))
    with pytest.raises(OptionsError, match="set GRADIO_TEMP_DIR to a folder of yours"):
        _make_folder()
