"""Function docstrings of the finished rooms begin with a verb."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "captioning"
FINISHED_ROOMS = (
    "attention",
    "bench",
    "captions",
    "commands",
    "core",
    "deploy",
    "image_map",
    "serving",
    "training",
    "web",
)
QUESTION_WORDS = ("What", "Whether", "How", "Where", "Who", "Which", "Why")


def question_docstrings(source: str) -> Iterator[str]:
    """Yield the name and first word of each function whose docstring begins with a question word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, *_ = [*(ast.get_docstring(node) or "").split(), ""]
            if first.strip(".,:;?") in QUESTION_WORDS:
                yield f"{node.name}: {first}"


@pytest.mark.parametrize("room", FINISHED_ROOMS)
def test_no_function_docstring_of_a_finished_room_begins_with_a_question_word(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    found = [f"{path.relative_to(ROOT)}: {name}" for path in files for name in question_docstrings(path.read_text())]
    assert files
    assert found == []


def test_the_check_sees_methods_and_nested_functions_and_leaves_verbs_alone() -> None:
    source = '''
class Map:
    """What a class says is not checked."""

    async def draw(self):
        """Whether a method is seen."""
        def inner():
            """Where, in here."""

def read():
    """Return what was read."""

def silent():
    pass
'''
    assert sorted(question_docstrings(source)) == ["draw: Whether", "inner: Where,"]
