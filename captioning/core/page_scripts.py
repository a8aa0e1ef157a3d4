"""The page's scripts: modules in `assets/`, as a server hands them out, and as one text for a file without network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import PurePosixPath

from captioning.core.assets import ASSETS

_IMPORT = re.compile(r"^import \{([^}]*)\} from '([^']+)';\n", re.MULTILINE)
_TRIGGER = re.compile(r"\btrigger\('(\w+)'")
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) (\w+))", re.MULTILINE)


@cache
def read_scripts() -> Mapping[str, str]:
    """Return the text of every script by its name below `assets/`, such as `common/dom.js`."""
    paths = sorted(ASSETS.rglob("*.js"))
    return {path.relative_to(ASSETS).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@cache
def scripts_address() -> str:
    """Return where a server has the scripts, relative to its root: the address changes whenever a script does."""
    content = "\0".join(f"{name}\0{text}" for name, text in read_scripts().items())
    return f"page-scripts/{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@cache
def bundle_scripts(*names: str) -> str:
    """Return scripts and everything that they import as the text of one plain script, which defines `modules`.

    `modules['common/dom.js']` then has what that script exports. Scripts are held to what this reads: imports of names
    in braces, and `export` in front of a function, a class or a constant.
    """
    parts = ["const modules = {};\n"]
    for name in _in_order(names):
        text = read_scripts()[name]
        for line in _IMPORT.finditer(text):
            text = text.replace(line[0], f"const {{{line[1]}}} = modules['{_resolve(name, line[2])}'];\n")
        exported = ", ".join(_EXPORT.findall(text))
        text = _EXPORT.sub("", text)
        parts.append(f"modules['{name}'] = (() => {{\n{text}\nreturn {{ {exported} }};\n}})();\n")
    return "".join(parts)


@cache
def events_of(name: str) -> tuple[str, ...]:
    """Return the names of the events that a script and its imports may raise."""
    texts = (read_scripts()[other] for other in _in_order((name,)))
    return tuple(sorted({event for text in texts for event in _TRIGGER.findall(text)}))


def _in_order(names: tuple[str, ...]) -> list[str]:
    """Return scripts with all that they import, each after what it imports."""
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"scripts import each other: {' > '.join((*above, name))}"
        if name not in order:
            for other in imports_of(name):
                visit(other, (*above, name))
            order.append(name)

    for name in names:
        visit(name, ())
    return order


def imports_of(name: str) -> Iterator[str]:
    """Yield the names of the scripts that a script imports."""
    for _, path in _IMPORT.findall(read_scripts()[name]):
        yield _resolve(name, path)


def _resolve(name: str, path: str) -> str:
    """Return the name of the script that `path` means in the script called `name`."""
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
