"""Threads, switches, device and precision. Imported before everything heavy, because torch reads some of these once."""

from __future__ import annotations

import atexit
import ctypes
import inspect
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.core.errors import OptionsError

if TYPE_CHECKING:
    import torch

_SWITCHES = {
    # Nothing is reported to anybody.
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Tokenizers fork their own threads, which fight with torch's for two cores and gain nothing on a caption.
    "TOKENIZERS_PARALLELISM": "false",
    # A waiting OpenMP thread that spins starves whoever else uses the machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # ZeroGPU deletes downloaded weights once it holds a copy; here they are looked for again.
    "ZEROGPU_MMAP_AUTOPRUNE_PATTERN": "/nothing",
}
for _name, _value in _SWITCHES.items():
    os.environ.setdefault(_name, _value)
# OpenVINO tells its makers that it was imported, unless what tells them cannot be imported itself.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how Python forbids an import


def _share_heaps() -> None:
    """Let all threads allocate from two heaps, where the C library has one for each: freed pictures then come back.

    Every request runs in a thread of its own, and what an encoder needs for one picture stayed in the heap of each.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError, OSError):  # another C library than glibc has no such setting
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


_M_ARENA_MAX = -8  # malloc.h
_share_heaps()

ON_ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""Whether this is a Space whose GPU is lent for a call at a time (`captioning.models.accelerator`)."""
_LACKS_SPACES = ON_ZERO_GPU and find_spec("spaces") is None
if ON_ZERO_GPU and not _LACKS_SPACES:
    import spaces  # noqa: F401  # before torch and in the main thread, where it stands in for the GPU

PRECISIONS = ("float32", "bfloat16", "float16")


@contextmanager
def no_interface_files() -> Iterator[None]:
    """Keep gradio, while it is imported, from writing a `.pyi` file beside each of its components.

    It parses every component's source for that, each time, which is a third of the time until the page is built; only
    editors read these files. Classes whose source cannot be found it leaves alone, so none is found.
    """
    find = inspect.getfile

    def find_others(item: Any) -> str:
        if isinstance(item, type) and item.__module__.startswith("gradio."):
            raise OSError("The sources of gradio's classes are not looked for.")
        return find(item)

    inspect.getfile = find_others  # type: ignore[assignment]  # of the same meaning, more loosely typed
    try:
        yield
    finally:
        inspect.getfile = find


def let_numba_compile() -> None:
    """Give numba, before it is imported, a folder for what it compiles where it would find none that it may write to.

    It looks beside the sources and in the user's cache, and fails where it may write to neither. What it compiles is
    then kept until this process ends, in a folder that nobody else can write to.
    """
    if "NUMBA_CACHE_DIR" in os.environ or "numba" in sys.modules:
        return
    sources = [spec.origin for name in ("umap", "pynndescent") if (spec := find_spec(name)) and spec.origin]
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "numba"
    if _may_write(users) or all(_may_write(Path(source).parent / "__pycache__") for source in sources):
        return
    folder = tempfile.mkdtemp(prefix="captionscope-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = folder


def _may_write(folder: Path) -> bool:
    """Return whether files can be made in a folder, or in the nearest existing one above it."""
    there = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
    return there is not None and os.access(there, os.W_OK | os.X_OK)


def choose_device(name: str = "auto", may_be_lent: bool = False) -> torch.device:
    """Return the named device, or for `auto` the accelerator, if any. Raises `OptionsError` for one that is missing.

    One that is lent by the call is only for those that say they can do with that.
    """
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if _LACKS_SPACES:
        raise OptionsError("SPACES_ZERO_GPU is set, but the package spaces is missing; unset it, or install spaces.")
    if ON_ZERO_GPU:
        accelerator = torch.device("cuda") if may_be_lent else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    here = ["cpu"] + ([accelerator.type] if accelerator else [])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionsError(f"There is no device {name!r}; choose from auto, {', '.join(here)}.") from error
    own = accelerator is not None and device.type == accelerator.type and not ON_ZERO_GPU
    count = torch.accelerator.device_count() if own else 1
    if device.type not in here or (device.index or 0) >= count:
        if count > 1:
            here += [f"{device.type}:{index}" for index in range(count)]
        raise OptionsError(f"This machine has no {name}; choose from auto, {', '.join(here)}.")
    return device


def waiting_device(device: torch.device) -> torch.device:
    """Return where weights for a device wait until use: on ZeroGPU only the main thread can send them ahead."""
    import torch

    if ON_ZERO_GPU and threading.current_thread() is not threading.main_thread():
        return torch.device("cpu")
    return device


def choose_precision(device: torch.device, name: str = "auto") -> torch.dtype:
    """Return the named precision, or for `auto` bfloat16 where the device multiplies it natively, else float32."""
    import torch

    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else torch.float32
    if name not in PRECISIONS:
        raise OptionsError(f"There is no precision {name!r}; choose from auto, {', '.join(PRECISIONS)}.")
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def autocast(device: torch.device, cache_enabled: bool = True) -> torch.autocast:
    """Products in bfloat16 where `auto` chooses it for the device; elsewhere they stay as they are."""
    import torch

    half = choose_precision(device) is torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=cache_enabled)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device, in bytes; 0 where it cannot be asked."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return 0
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux: half of what there is, which Windows does not say
        if sys.platform == "win32":
            return 0
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def cpu_has_bfloat16() -> bool:
    """Return whether the processor has bfloat16 products; elsewhere they are emulated and slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False  # not Linux: float32 is always right
    return "avx512_bf16" in flags or "amx_bf16" in flags or "bf16" in flags.split()
