from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from captioning.core.errors import OptionsError
from captioning.core.runtime import choose_device, choose_precision, free_bytes


def test_auto_device_is_one_that_is_here() -> None:
    assert torch.zeros(1, device=choose_device("auto")).sum() == 0


@pytest.mark.parametrize("name", ["tpu9", "vulkan", "nonsense"])
def test_device_that_is_not_here_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(OptionsError, match="choose from auto, cpu"):
        choose_device(name)


@pytest.mark.parametrize(("count", "choices"), [(1, "cuda"), (2, "cuda, cuda:0, cuda:1")])
def test_a_device_beyond_those_that_are_here_is_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, choices: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    assert choose_device("cuda") == torch.device("cuda")
    assert choose_device(f"cuda:{count - 1}").index == count - 1
    for name in (f"cuda:{count}", "cuda:7"):
        with pytest.raises(OptionsError, match=f"This machine has no {name}; choose from auto, cpu, {choices}.$"):
            choose_device(name)


def test_free_memory_is_unknown_where_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert free_bytes(cpu) > 0

    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert free_bytes(cpu) > 0
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "sysconf")
    assert free_bytes(cpu) == 0


def test_named_precision_is_taken_and_an_unknown_one_refused() -> None:
    cpu = torch.device("cpu")
    assert choose_precision(cpu, "float32") is torch.float32
    assert choose_precision(cpu, "auto") in (torch.float32, torch.bfloat16)
    with pytest.raises(OptionsError, match="choose from auto, float32"):
        choose_precision(cpu, "float8")


def test_switches_are_set_before_anything_heavy_and_respect_the_user() -> None:
    names = "os.environ['GRADIO_ANALYTICS_ENABLED'], os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules"
    code = f"import captioning, os, sys; print({names})"
    environment = {k: v for k, v in os.environ.items() if k != "GRADIO_ANALYTICS_ENABLED"} | {
        "OMP_WAIT_POLICY": "ACTIVE"
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.split() == ["False", "ACTIVE", "False"]


_READ_SOURCES = """
import contextlib, inspect, pathlib
from captioning.core.runtime import no_interface_files
found, read, find = [], pathlib.Path.read_text, inspect.getfile
def watch(path, *args, **kwargs):
    found.append(path.suffix in (".py", ".pyi") and "gradio" in path.parts)
    return read(path, *args, **kwargs)
pathlib.Path.read_text = watch
with {context}():
    import gradio
print(any(found), callable(gradio.Button().click), inspect.getfile is find)
"""


@pytest.mark.parametrize(("context", "reads"), [("contextlib.nullcontext", "True"), ("no_interface_files", "False")])
def test_gradio_does_not_parse_its_components_when_the_page_starts(context: str, reads: str) -> None:
    code = _READ_SOURCES.format(context=context)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == [reads, "True", "True"]


@pytest.mark.skipif(find_spec("openvino") is None, reason="the `fast` extra is not installed")
def test_openvino_reports_to_nobody() -> None:
    code = "import captioning, openvino, sys; print([n for n in sys.modules if n.startswith('openvino_telemetry.')])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
