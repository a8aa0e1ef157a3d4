"""A process killed in the middle of its work: what it leaves is never taken for whole, and the next one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from captioning.core.errors import ModelFilesError
from captioning.core.whole_files import SUFFIX, whole_file, write_whole
from captioning.models.sources.folder import check_folder
from tests.conftest import at_once
from tests.fake_hub import FakeHub
from tests.training.conftest import data_folder  # noqa: F401  # a fixture

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "assets" / "embedded"

HALF_A_FILE = """
import signal, sys
from pathlib import Path
name, sys.argv = sys.argv[1], sys.argv[1:]
write = Path.write_bytes
def write_half(path, data):
    if path.name.startswith(name):
        write(path, data[:len(data) // 2])
        print("half", flush=True)
        signal.pause()
    return write(path, data)
Path.write_bytes = write_half
"""
"""A process that writes half of the file whose name it is given, says so, and waits to be killed."""

COMMAND = """
from captioning import bench
from captioning.serving import loading
from captioning.__main__ import main
from tests.conftest import FakeLoader
loader = FakeLoader()
loading.load_captioner = lambda model, *_, **__: loader(model)
bench.run_cases = lambda *_, **__: []
sys.exit(main(sys.argv[1:]))
"""

TRAIN = """
from pathlib import Path
from tests.training.test_fit import OPTIONS, SMALL
from captioning.training.run import train
train(Path(sys.argv[1]), Path(sys.argv[2]), SMALL, OPTIONS, print)
"""

HALF_A_CHECKPOINT = """
import signal, sys
import torch
save, saved = torch.save, 0
def save_half(state, path):
    global saved
    saved += 1
    save(state, path)
    if saved == 2:
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)
        print("half", flush=True)
        signal.pause()
torch.save = save_half
"""

DOWNLOAD = """
import sys
from captioning.models.sources import hub
print(hub.download(hub.resolve_spec("somebody/captions")), flush=True)
"""


@contextmanager
def running(code: str, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process in the project's folder; it is killed where the block leaves it alive."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kill_at(process: subprocess.Popen[str], line: str) -> None:
    """Kill a process as soon as it says a line, with the signal that nobody can hear."""
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            return
    pytest.fail(f"the process ended with {process.wait()} before it said {line!r}")


def run_whole(code: str, *arguments: object, **environment: str) -> str:
    """What a process says that is left alone."""
    with running(code, *arguments, **environment) as process:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        return said


# ---- the one way in which files are written ----


def test_a_file_that_fails_on_the_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_whole(path, "old")

    def write_half() -> None:
        with whole_file(path) as partial:
            partial.write_text("ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_two_writers_of_one_file_leave_it_whole_and_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with whole_file(path) as first:
        first.write_text("first")
        with suppress(ZeroDivisionError), whole_file(path) as second:
            second.write_text(f"{1 / 0}")
        with whole_file(path) as third:
            third.write_text("third")
        assert len({first, second, third}) == 3
        assert path.read_text() == "third"
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    (tmp_path / f"table.csv.0123abcd{SUFFIX}").write_text("left behind")

    def write(digit: str) -> None:
        for _ in range(30):
            write_whole(path, digit * 1000)

    at_once(write, "01234567")
    assert path.read_text() in [digit * 1000 for digit in "01234567"]
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


# ---- exports ----


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 90, 200 - 15 * number)).save(folder / f"{number}.png")
    return folder


Export = Callable[[Path, Path], list[object]]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("table.md", lambda _, out: ["bench", "--out", out / "table.md"]),
        pytest.param("trace.npz", lambda p, out: ["attention", p / "1.png", "--out", out], marks=pytest.mark.slow),
        pytest.param(
            "features.npz",
            lambda p, out: ["map", p, "--method", "pca", "--no-captions", "--out", out],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_export_is_whole_or_not_there(tmp_path: Path, pictures: Path, name: str, arguments: Export) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with running(HALF_A_FILE + COMMAND, name, *arguments(pictures, out)) as process:
        kill_at(process, "half")
    (half,) = out.glob(f"{name}*{SUFFIX}")
    assert half.stat().st_size > 0
    assert not (out / name).exists()
    run_whole(HALF_A_FILE + COMMAND, "nothing", *arguments(pictures, out))
    assert (out / name).stat().st_size > 0
    assert not list(out.glob(f"*{SUFFIX}"))


# ---- downloads ----


def test_a_download_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    with FakeHub() as hub:
        repository = hub.add("somebody/captions", EMBEDDED)
        weights = repository.files["model.safetensors"]
        repository.stall_after = len(weights) // 2
        here = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        with running(DOWNLOAD, **here) as process:
            partial = wait_for_part(tmp_path)
            process.send_signal(signal.SIGKILL)
            process.wait()
        came = partial.stat().st_size
        assert 0 < came < len(weights)
        (snapshot,) = tmp_path.glob("hub/models--somebody--captions/snapshots/*")
        with pytest.raises(ModelFilesError, match="download the whole model again"):
            check_folder(snapshot)
        folder = Path(run_whole(DOWNLOAD, **here).splitlines()[-1])
        assert hub.bytes_of("model.safetensors")[-1] == f"bytes={came}-"
    assert (folder / "model.safetensors").read_bytes() == weights
    assert check_folder(folder).name == "patch_captioner"
    assert not list(tmp_path.rglob("*.part"))


def wait_for_part(folder: Path, seconds: float = 120) -> Path:
    """The file that a download writes to, as soon as there is something in it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [file for file in folder.rglob("*.part") if file.stat().st_size]
        if found:
            return found[0]
        time.sleep(0.05)
    pytest.fail("nothing was downloaded")


# ---- training ----


def test_training_resumes_at_the_last_whole_checkpoint(data_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    from tests.training.test_fit import make_trainer, silent

    out = tmp_path / "model"
    with running(HALF_A_CHECKPOINT + TRAIN, data_folder, out) as process:
        kill_at(process, "half")
    with pytest.raises(ModelFilesError, match="is no model"):
        check_folder(out)
    trainer = make_trainer(data_folder, out)
    assert 0 < trainer.step < trainer.total_steps
    list(trainer.run(silent))
    assert trainer.step == trainer.total_steps
    assert not list(out.glob(f"*{SUFFIX}"))


@pytest.mark.slow
def test_a_model_killed_while_it_was_written_is_refused_and_then_finished(
    data_folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = tmp_path / "model"
    with running(HALF_A_FILE + TRAIN, "model.safetensors", data_folder, out) as process:
        kill_at(process, "half")
    with pytest.raises(ModelFilesError, match="no weights"):
        check_folder(out)
    run_whole("import sys\n" + TRAIN, data_folder, out)
    assert check_folder(out).name == "patch_captioner"


SAVE_TO_THE_WEIGHTS = """
import signal, sys
from pathlib import Path
from types import SimpleNamespace
from captioning.models.pretrained import write_network
replace = Path.replace
def stop_at_weights(path, target):
    if path.suffix == ".safetensors" and sys.argv[2] == "stop":
        print("half", flush=True)
        signal.pause()
    return replace(path, target)
Path.replace = stop_at_weights
class Module:
    generation_config = SimpleNamespace()
    def save_pretrained(self, folder):
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text("weights")
tokenizer = SimpleNamespace(save=lambda path: Path(path).write_text("{}"))
network = SimpleNamespace(module=Module(), tokenizer=tokenizer, pixels=SimpleNamespace(to_config=dict))
write_network(network, Path(sys.argv[1]), "card")
"""


def test_a_model_of_many_files_has_its_weights_last(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with running(SAVE_TO_THE_WEIGHTS, out, "stop") as process:
        kill_at(process, "half")
    assert not (out / "model.safetensors").exists()
    run_whole(SAVE_TO_THE_WEIGHTS, out, "go on")
    assert {file.name for file in out.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_half_a_line_of_a_log_is_no_record(tmp_path: Path) -> None:
    from captioning.training.logs import LOG_NAME, JsonLog

    (tmp_path / LOG_NAME).write_text('{"step": 1}\n{"ste')
    JsonLog(tmp_path, 1).write(2, {"loss": 0.5})
    assert (tmp_path / LOG_NAME).read_text() == '{"step": 1}\n{"step": 2, "loss": 0.5}\n'
