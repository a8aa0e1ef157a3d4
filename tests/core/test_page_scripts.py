"""The page's scripts as modules: what they import is there, and they become one text for a file without network."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from captioning.core import page_scripts
from captioning.core.page_scripts import bundle_scripts, events_of, imports_of, read_scripts, scripts_address

EXPORTED = re.compile(r"^export (?:async function|function|class|const) (\w+)", re.MULTILINE)
IMPORTED = re.compile(r"^import \{([^}]*)\} from '([^']+)';$", re.MULTILINE)


@pytest.mark.parametrize("name", read_scripts())
def test_what_a_script_imports_is_exported_and_used(name: str) -> None:
    text = read_scripts()[name]
    for (names, _), other in zip(IMPORTED.findall(text), imports_of(name), strict=True):
        for imported in (one.strip() for one in names.split(",")):
            assert imported in EXPORTED.findall(read_scripts()[other]), f"{other} exports no {imported}"
            assert len(re.findall(rf"\b{re.escape(imported)}\b", text)) > 1, f"{imported} is not used"
    assert len(re.findall(r"^\s*import\b(?!\()", text, re.MULTILINE)) == len(IMPORTED.findall(text))
    assert len(re.findall(r"^export\b", text, re.MULTILINE)) == len(EXPORTED.findall(text))


def test_what_a_script_exports_is_imported_or_mounted() -> None:
    imported = {
        (other, one.strip())
        for name, text in read_scripts().items()
        for (names, _), other in zip(IMPORTED.findall(text), imports_of(name), strict=True)
        for one in names.split(",")
    }
    exported = {(name, one) for name, text in read_scripts().items() for one in EXPORTED.findall(text)}
    called = {"mount", "makePart", "mountPart"}
    assert {(name, one) for name, one in exported - imported if one not in called} == set()


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    known = {
        "common/one.js": "export const ONE = 1;\nconst hidden = 2;\nexport function two() { return ONE + hidden; }\n",
        "tab/main.js": "import { ONE, two } from '../common/one.js';\nexport const mount = () => two() + ONE;\n",
        "tab/loud.js": "import { mount } from './main.js';\nexport const add = () => trigger('asked', mount);\n",
    }
    monkeypatch.setattr(page_scripts, "read_scripts", lambda: known)
    _forget()
    yield known
    _forget()


def _forget() -> None:
    for cached in (bundle_scripts, events_of, scripts_address):
        cached.cache_clear()


@pytest.mark.usefixtures("scripts")
def test_a_bundle_has_each_script_once_and_after_what_it_imports() -> None:
    text = bundle_scripts("tab/loud.js", "tab/main.js")
    assert re.findall(r"^modules\['([^']+)'\]", text, re.MULTILINE) == ["common/one.js", "tab/main.js", "tab/loud.js"]
    assert "const { ONE, two } = modules['common/one.js'];" in text
    assert "return { ONE, two };" in text
    assert "import" not in text
    assert "export" not in text


@pytest.mark.usefixtures("scripts")
def test_events_are_those_of_a_script_and_its_imports() -> None:
    assert events_of("tab/loud.js") == ("asked",)
    assert events_of("tab/main.js") == ()


def test_scripts_that_import_each_other_are_refused(scripts: dict[str, str]) -> None:
    scripts["common/one.js"] = "import { mount } from '../tab/main.js';\n"
    with pytest.raises(AssertionError, match="each other: common/one"):
        bundle_scripts("common/one.js")


def test_the_address_changes_with_the_content(scripts: dict[str, str]) -> None:
    before = scripts_address()
    scripts["common/one.js"] += "// more\n"
    scripts_address.cache_clear()
    assert scripts_address() != before
