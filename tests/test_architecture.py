"""Imports go from right to left only: who may import whom, held by reading the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "core", "media", "models", "serving", "captions", "attention", "image_map", "ui", "web", "tabs", "page", "launch",
)  # fmt: skip
"""A room imports only rooms before it."""
MODELS = (
    "files", "random_weights", "tokens", "pixels", "attention_layers", "pretrained", "network", "decoding", "explain",
    "accelerator", "captioner", "family", "families", "catalogue", "sources", "helpers",
)  # fmt: skip
"""The same inside `models`."""
BESIDE = {"training": "image_map", "bench": "image_map", "deploy": "core", "commands": "page"}
"""What stands beside the rooms, and the last of them that it may use; `commands` uses the others too."""
HEAVY = {
    "torch": {"models", "serving", "training", "bench"},
    "transformers": {"models", "serving", "training", "bench"},
    "gradio": {"ui", "web", "tabs", "page", "launch"},
}
"""Who may import a framework, besides `core.runtime`, and `core.types` for type checkers."""
FACE = {"captioning", "captioning.models"}
"""Packages whose `__init__` names what others may ask for; it counts as no file of its room."""


def read_imports(root: Path) -> dict[str, set[str]]:
    """What each file of `captioning` below `root` imports by dotted name, in functions and for type checkers too."""
    files = {_dotted(path, root): path for path in sorted((root / "captioning").rglob("*.py"))}
    return {name: set(_imports(path, set(files))) - {name} for name, path in files.items()}


def _dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path, files: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in files else node.module for name in names)


def faults(imports: Mapping[str, set[str]]) -> list[str]:
    """A sentence for every import that goes the wrong way, and for a circle of files."""
    found = [
        f"{name} imports {other}"
        for name, others in sorted(imports.items())
        for other in sorted(others)
        if not _is_allowed(name, other)
    ]
    own = {name: others & imports.keys() - FACE for name, others in imports.items() if name not in FACE}
    try:
        TopologicalSorter(own).prepare()
    except CycleError as error:
        found.append("a circle: " + " > ".join(error.args[1]))
    return found


def _is_allowed(name: str, other: str) -> bool:
    top, *parts = other.split(".")
    room = "".join(name.split(".")[1:2])
    if top in HEAVY:
        return room in HEAVY[top] or name in ("captioning.core.runtime", "captioning.core.types")
    if top != "captioning" or name in FACE or other in FACE or room == "__main__":
        return True
    if room == parts[0]:
        return room != "models" or _rank(MODELS, name.split(".")[2]) >= _rank(MODELS, parts[1])
    if parts[0] in BESIDE:
        return room == "commands"
    return _rank(ROOMS, BESIDE.get(room, room)) >= _rank(ROOMS, parts[0]) + (room in ROOMS)


def _rank(order: tuple[str, ...], part: str) -> int:
    assert part in order, f"{part} has no place in the order of imports"
    return order.index(part)


def test_imports_go_one_way() -> None:
    assert faults(read_imports(ROOT)) == []


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        (
            "core/types.py",
            "from captioning.media.images import open_image",
            "core.types imports captioning.media.images",
        ),
        ("media/images.py", "import captioning.media.collection", "a circle: "),
        (
            "core/errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from captioning.core.types import Caption",
            "a circle: ",
        ),
        ("image_map/options.py", "def late():\n    import torch", "image_map.options imports torch"),
        (
            "models/decoding/loop.py",
            "import captioning.models.sources.hub",
            "loop imports captioning.models.sources.hub",
        ),
    ],
)
def test_an_import_that_goes_the_wrong_way_is_found(file: str, line: str, told: str, tmp_path: Path) -> None:
    for path in (ROOT / "captioning").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    changed = tmp_path / "captioning" / file
    text = changed.read_text(encoding="utf-8")
    changed.write_text(f"{text}\n{line}\n", encoding="utf-8")
    assert any(told in fault for fault in faults(read_imports(tmp_path)))


def test_every_source_file_says_what_it_is() -> None:
    for path in [ROOT / "app.py", *(ROOT / "captioning").rglob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"


def test_listing_models_loads_no_framework() -> None:
    code = (
        "import sys; from captioning import list_models; list_models();"
        "print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
