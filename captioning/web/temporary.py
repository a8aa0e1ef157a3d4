"""Files of visitors: all in one folder of this process, deleted on a schedule, and gone when the process ends."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from gradio.utils import get_upload_folder

from captioning.core.errors import OptionsError
from captioning.core.settings import get_settings

_PREFIX, _LOCK = "captionscope-", ".lock"
_LONGEST_PAUSE = 600.0


@cache
def own_folder() -> Path:
    """Return the folder of uploads, unpacked archives, frames and files to save, out of reach for other users.

    Gradio puts there whatever it stores from now on. What killed processes left of theirs is removed. Raises
    `OptionsError` where no folder can be made.
    """
    folder = _make_folder()
    lock = FileLock(folder / _LOCK)
    lock.acquire()
    atexit.register(_remove_own, folder, lock, os.getpid())
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def _make_folder() -> Path:
    """Make a new folder where gradio keeps its files or, where that belongs to another user, beside it."""
    chosen = os.environ.get("GRADIO_TEMP_DIR")
    made = _make_below(Path(get_upload_folder()))
    if isinstance(made, str) and not chosen:
        made = _make_below(Path(tempfile.gettempdir()))
    if isinstance(made, str):
        variable, folder = ("GRADIO_TEMP_DIR", chosen) if chosen else ("TMPDIR", tempfile.gettempdir())
        raise OptionsError(f"{folder} cannot be written to ({made}); set {variable} to a folder of yours.")
    return made


def _make_below(parent: Path) -> Path | str:
    """Make a new folder, or return why none can be made there."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(parent)
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        return error.strerror or "input error"


def _remove_leftovers(parent: Path) -> None:
    """Folders whose process lives no more: nobody holds their locks."""
    for lock_file in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(Timeout, OSError), FileLock(lock_file, timeout=0):
            shutil.rmtree(lock_file.parent, ignore_errors=True)


def _remove_own(folder: Path, lock: FileLock, process: int) -> None:
    if os.getpid() == process:  # and not one that was forked from it
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, seconds: float, kept: Collection[str] = ()) -> int:
    """Delete files older than so many seconds, but not those `kept`, and folders empty for as long; how many files."""
    oldest, count = time.time() - seconds, 0
    for path in _all_below(folder):
        with suppress(OSError):  # somebody else removed it, or a folder is in use again
            if path.name == _LOCK or str(path) in kept or path.lstat().st_ctime > oldest:
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
                count += 1
    return count


def _all_below(folder: Path) -> Iterator[Path]:
    """Everything in a folder, what lies in another first; folders that go meanwhile are passed over."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            yield Path(parent, name)


@asynccontextmanager
async def sweeping(app: Any) -> AsyncIterator[None]:
    """Sweep for as long as a server runs; for its `lifespan`."""
    task = asyncio.create_task(_sweep_forever(app))
    try:
        yield
    finally:
        task.cancel()


async def _sweep_forever(app: Any) -> None:
    seconds = get_settings().file_seconds
    while True:
        await asyncio.sleep(min(_LONGEST_PAUSE, seconds / 4))
        components = app.get_blocks().blocks.values()
        kept = {file for component in components for file in getattr(component, "keep_in_cache", ())}
        await asyncio.to_thread(sweep, own_folder(), seconds, kept)
