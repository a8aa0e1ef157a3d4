"""Threads, switches, device and precision. Imported before everything heavy, because torch reads some of these once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.errors import OptionsError

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
}
for _name, _value in _SWITCHES.items():
    os.environ.setdefault(_name, _value)

PRECISIONS = ("float32", "bfloat16", "float16")


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or for `auto` the accelerator where there is one. Raises `OptionsError` for one not here."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    here = ["cpu"] + ([accelerator.type] if accelerator else [])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionsError(f"There is no device {name!r}; choose from auto, {', '.join(here)}.") from error
    if device.type not in here:
        raise OptionsError(f"This machine has no {name}; choose from auto, {', '.join(here)}.")
    return device


def choose_precision(device: torch.device, name: str = "auto") -> torch.dtype:
    """The named precision, or for `auto` bfloat16 where the device multiplies it natively, else float32."""
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


def cpu_has_bfloat16() -> bool:
    """Whether the processor has bfloat16 products; elsewhere they are emulated and slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False  # not Linux: float32 is always right
    return "avx512_bf16" in flags or "amx_bf16" in flags or "bf16" in flags.split()
