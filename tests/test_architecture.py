"""Imports point down only: who may import whom, held by reading the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for p in [ROOT / "app.py", *(ROOT / "captioning").rglob("*.py")] if "__pycache__" not in p.parts)

# What each part of the package may import of the others. Everyone may import the first line's modules.
COMMON = {"types", "errors", "settings", "contract", "prompts", "runtime", "assets", "wanted", "whole_files"}
ANALYSIS = {
    "images",
    "video",
    "clip",
    "animation",
    "collection",
    "attention",
    "attention_files",
    "faithfulness",
    "image_map",
    "render",
    "export",
    "model_report",
    "explorer",
    "map_page",
    "one_file",
}
MAY_IMPORT = {
    "app": {"ui", "tabs", "cache", *ANALYSIS},
    "ui": {"ui", "tabs", "cache", "models", *ANALYSIS},
    "tabs": {"tabs", "ui", "cache", "models", *ANALYSIS},
    "__main__": {"commands"},
    "commands": {"commands", "cache", "models", "training", "bench", "deploy", *ANALYSIS},
    "__init__": {"cache", "models", "images", "video"},
    "cache": {"models", "batching"},
    "batching": set(),
    "models": {"models"},
    "training": {"training", "models", "cache", "images", "attention", "faithfulness", "image_map"},
    "bench": {"models", "cache", *ANALYSIS},
    "deploy": set(),
} | dict.fromkeys(ANALYSIS, ANALYSIS)
HEAVY = {"torch": {"models", "cache", "runtime", "training", "bench"}, "gradio": {"app", "ui", "tabs"}}
HEAVY["transformers"] = HEAVY["torch"]


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.stem if len(relative.parts) <= 2 else relative.parts[1]


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every imported module, the ones inside functions too; not what is imported for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module in ("captioning", "captioning.models"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module
        yield from imports_of(node)


def top_level_imports(tree: ast.Module) -> set[str]:
    statements = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    return {name.split(".")[0] for name in imports_of(ast.Module(body=list(statements), type_ignores=[]))}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    part = part_of(path)
    allowed = COMMON | MAY_IMPORT.get(part, set()) | {part}
    for name in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
        top, _, rest = name.partition(".")
        if top == "captioning" and rest and rest[0].islower():
            assert rest.split(".")[0] in allowed or rest in ("load_captioner", "list_models"), (
                f"{path.name} imports {name}"
            )
        if top in HEAVY:
            assert part in HEAVY[top], f"{path.name} imports {top}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if part_of(p) in ("types", "errors", "settings", "contract", "images")]
)
def test_the_light_modules_load_no_framework(path: Path) -> None:
    assert not top_level_imports(ast.parse(path.read_text(encoding="utf-8"))) & {"torch", "transformers", "gradio"}


def test_every_source_file_says_what_it_is() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"


def test_listing_models_loads_no_framework() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from captioning import list_models; list_models();"
        "print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
