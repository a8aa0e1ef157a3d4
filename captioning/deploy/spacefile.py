"""A reader of Spacefiles: Captionscope's own declarative description of its Space, in YAML.

One reading finds every mistake and reports it with its line and how to correct it. The text is parsed to YAML nodes and
never to objects: nodes know their lines, and a value stays as it was written (`no` stays "no").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from captioning.core.errors import DeployError, OptionsError
from captioning.core.settings import PREFIX, Settings

VERSION = "1"
VISIBILITIES = ("public", "protected", "private")
VOLUME_TYPES = ("bucket", "model", "dataset", "space")
NEVER_SLEEPS = -1
FIXED_SLEEP = ("cpu-basic", "zero-a10g")
"""Hardware whose sleep time the hub sets."""

_NAME_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_SPACE_ID, _SPACE_NAME = re.compile(f"{_NAME_PART}/{_NAME_PART}"), re.compile(_NAME_PART)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"(hf_|api_org_|sk-|gh[opsu]_|github_pat_|AKIA|xox[abp]-)[A-Za-z0-9_-]{12,}|-----BEGIN ")
"""Matches values that look like keys to well-known services."""
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN$|_KEY$|CREDENTIAL", re.IGNORECASE)
"""Matches names of variables whose values are likely to be secret."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A bucket or repository of the hub that the Space mounts as a folder; only a bucket can be writable."""

    type: str
    source: str
    mount_path: str
    revision: str | None = None
    path: str | None = None
    read_only: bool = True

    def __str__(self) -> str:
        within = f"/{self.path}" if self.path else ""
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.type} {self.source}{within}{at} at {self.mount_path}{'' if self.read_only else ', writable'}"


@dataclass(frozen=True, slots=True)
class Spacefile:
    """The settings that a Space is to have.

    `sleep_time` is in seconds; -1 means never and `None` leaves it to the hub. `include` and `exclude` are `fnmatch`
    patterns of paths below `folder`, where `*` matches slashes too. `lines` holds the line of each secret and pattern,
    for errors that are found later.
    """

    file: Path
    space: str
    visibility: str
    hardware: str
    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    sleep_time: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Return the folder to deploy: the one that holds the Spacefile."""
        return self.file.resolve().parent

    def at(self, item: str) -> str:
        """Return the file and line of a secret or a pattern."""
        return f"{self.file}:{self.lines[item]}"


def read_spacefile(file: Path) -> Spacefile:
    """Read and check a Spacefile.

    Raises one `DeployError` that lists all mistakes, each with file, line and correction.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DeployError(f"There is no {file}; write one, or name another with --file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{file} cannot be read as UTF-8 text; check that it is a Spacefile.") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        # Without the parser's own message, which may quote a secret from the file.
        mark = getattr(error, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        raise DeployError(f"{file}:{line}: this is no YAML; check indentation, quotes and brackets here.") from None
    except ValueError:  # the text holds characters that YAML forbids
        raise DeployError(f"{file} holds characters that text does not; check that it is a Spacefile.") from None
    return _SpacefileReader(file).read(root)


class _SpacefileReader:
    """A reader of YAML nodes that collects mistakes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mistakes: list[tuple[int, str]] = []
        self._lines: dict[str, int] = {}

    def read(self, root: Node | None) -> Spacefile:
        """Read the whole file. Raises one `DeployError` for all mistakes."""
        found: dict[str, Any] = {}
        if root is None:
            self._mistakes.append((1, f"the file is empty; begin with `version: {VERSION}`."))
        else:
            readers: dict[str, Callable[[Node], Any]] = {
                "version": self._version,
                "space": self._own_space,
                "visibility": lambda node: self._choice(node, VISIBILITIES),
                "hardware": lambda node: self._choice(node, _hardware_names()),
                "sleep_time": self._sleep_time,
                "variables": self._variables,
                "secrets": self._secrets,
                "volumes": self._volumes,
                "files": self._files,
            }
            required = ("version", "space", "visibility", "hardware", "files")
            found = self._mapping(root, "a Spacefile", readers, required)
            self._check_together(root, found)
        if self._mistakes:
            raise DeployError("\n".join(f"{self._file}:{line}: {text}" for line, text in sorted(self._mistakes)))
        include, exclude = found.pop("files")
        del found["version"]
        return Spacefile(file=self._file, include=include, exclude=exclude, lines=self._lines, **found)

    def _check_together(self, root: Node, found: Mapping[str, Any]) -> None:
        nodes = {key.value: node for key, node in root.value} if isinstance(root, MappingNode) else {}
        if found.get("sleep_time") is not None and found.get("hardware") in FIXED_SLEEP:
            self._add_mistake(
                nodes["sleep_time"], f"{found['hardware']} sleeps when the hub decides; remove sleep_time."
            )
        for name in found.get("secrets") or ():
            if name in (found.get("variables") or {}):
                self._add_mistake(
                    nodes["variables"],
                    f"{name} is a secret and may not stand among the variables, which are public; remove it "
                    "here, and change it if it was ever real.",
                )

    def _add_mistake(self, node: Node, text: str) -> None:
        self._mistakes.append((node.start_mark.line + 1, text))

    def _mapping(
        self, node: Node, what: str, readers: Mapping[str, Callable[[Node], Any]], required: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return the known keys of a mapping, each read by its reader; a value with a mistake is left out."""
        found: dict[str, Any] = {}
        if not isinstance(node, MappingNode):
            self._add_mistake(node, f"{what} must be keys with values, such as `{required[0]}: …`.")
            return found
        for key, value in self._pairs(node):
            if key not in readers:
                near = get_close_matches(key, readers, 1)
                cure = f"did you mean {near[0]}?" if near else f"choose from {', '.join(readers)}."
                self._add_mistake(value, f"{what} has no key of that name ({key}); {cure}")
            elif (read := readers[key](value)) is not None:
                found[key] = read
        present = {key.value for key, _ in node.value}
        for key in required:
            if key not in present:
                self._add_mistake(node, f"{what} needs {key}; add it.")
        return found

    def _pairs(self, node: MappingNode) -> list[tuple[str, Node]]:
        pairs: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._add_mistake(key, "a key must be a plain word.")
            elif key.value in pairs:
                self._add_mistake(key, f"{key.value} stands here a second time; keep one of them.")
            else:
                pairs[key.value] = value
        return list(pairs.items())

    def _text(self, node: Node, what: str) -> str | None:
        if isinstance(node, ScalarNode) and not node.tag.endswith(":null") and node.value:
            return str(node.value)
        self._add_mistake(node, f"{what} must be one plain value.")
        return None

    def _items(self, node: Node, what: str) -> list[Node]:
        if isinstance(node, SequenceNode):
            return list(node.value)
        self._add_mistake(node, f"{what} must be a list, one item a line, each behind a dash.")
        return []

    def _choice(self, node: Node, choices: tuple[str, ...]) -> str | None:
        text = self._text(node, "this")
        if text is None or text in choices:
            return text
        near = get_close_matches(text, choices, 1, cutoff=0.75)
        hint = f"did you mean {near[0]}? There are" if near else "choose from"
        self._add_mistake(node, f"{text} is none of the choices; {hint} {', '.join(choices)}.")
        return None

    def _version(self, node: Node) -> str | None:
        text = self._text(node, "version")
        if text not in (None, VERSION):
            self._add_mistake(node, f"this program reads version {VERSION} of the format; write `version: {VERSION}`.")
        return text

    def _own_space(self, node: Node) -> str | None:
        """Read the name of the Space to deploy to; NAME alone belongs to the account that signed in."""
        return self._space(node, owner_may_lack=True)

    def _space(self, node: Node, owner_may_lack: bool = False) -> str | None:
        text = self._text(node, "space")
        if text is None:
            return None
        is_name = _SPACE_ID.fullmatch(text) or (owner_may_lack and _SPACE_NAME.fullmatch(text))
        if is_name and ".." not in text and "--" not in text:
            return text
        alone = ", or NAME for one of your own," if owner_may_lack else ""
        self._add_mistake(
            node,
            f"{text} is no name of a Space; write OWNER/NAME{alone} in letters, digits, dots, dashes and underscores, "
            "as in its address.",
        )
        return None

    def _sleep_time(self, node: Node) -> int | None:
        text = self._text(node, "sleep_time")
        if text == "never":
            return NEVER_SLEEPS
        if text is None or (text.isdecimal() and int(text) > 0):
            return None if text is None else int(text)
        self._add_mistake(node, "sleep_time must be a whole number of seconds, or never.")
        return None

    def _variables(self, node: Node) -> dict[str, str]:
        variables: dict[str, str] = {}
        if not isinstance(node, MappingNode):
            self._add_mistake(node, "variables must be names with values, such as `CAPTIONSCOPE_MODEL: embedded`.")
            return variables
        for name, value in self._pairs(node):
            if not isinstance(value, ScalarNode) or value.tag.endswith(":null"):
                self._add_mistake(value, f'{name} needs one plain value; write "" for an empty one.')
            elif value.value and (_TOKEN.search(value.value) or _SECRET_NAME.search(name)):
                self._add_mistake(
                    value,
                    f"the value of {name} is a secret, and variables are public; list {name} under secrets, "
                    "put the value into the environment, and revoke this one if it is real.",
                )
            elif self._is_name(value, name) and self._is_setting(value, name, value.value):
                variables[name] = value.value
        return variables

    def _secrets(self, node: Node) -> tuple[str, ...]:
        if isinstance(node, MappingNode):
            # Names may be quoted in a mistake; values never, because they may be secrets.
            for key, value in node.value:
                self._add_mistake(
                    value,
                    f"{key.value if isinstance(key, ScalarNode) and _NAME.fullmatch(key.value) else 'a secret'} has a "
                    "value here; list names only (`- NAME`), put the value into the environment, and revoke this one "
                    "if it is real.",
                )
            return ()
        names: list[str] = []
        for item in self._items(node, "secrets"):
            if not isinstance(item, ScalarNode) or not _NAME.fullmatch(item.value) or _TOKEN.search(item.value):
                # Do not quote it: it may be the secret itself.
                self._add_mistake(
                    item,
                    "this is no name of an environment variable; list names only (`- NAME`), put the value into the "
                    "environment, and revoke it if it stands here.",
                )
            elif item.value in names:
                self._add_mistake(item, f"{item.value} stands here a second time; keep one of them.")
            elif self._is_setting(item, item.value):
                names.append(item.value)
                self._lines[item.value] = item.start_mark.line + 1
        return tuple(names)

    def _is_name(self, node: Node, name: str) -> bool:
        if _NAME.fullmatch(name):
            return True
        self._add_mistake(node, f"{name} is no name of a variable; use letters, digits and underscores.")
        return False

    def _is_setting(self, node: Node, name: str, value: str | None = None) -> bool:
        """Return whether the program would accept the setting at its start; it refuses unknown ones."""
        known = {setting.name for setting in fields(Settings)}
        if not name.startswith(PREFIX) or (value is None and name.removeprefix(PREFIX).lower() in known):
            return True
        try:
            Settings.from_environment({name: value or ""})
        except OptionsError as error:
            self._add_mistake(node, str(error))
            return False
        return True

    def _volumes(self, node: Node) -> tuple[Volume, ...]:
        volumes: list[Volume] = []
        for item in self._items(node, "volumes"):
            readers: dict[str, Callable[[Node], Any]] = {
                "type": lambda value: self._choice(value, VOLUME_TYPES),
                "source": self._space,
                "mount_path": self._mount_path,
                "revision": lambda value: self._text(value, "revision"),
                "path": lambda value: self._text(value, "path"),
                "read_only": self._flag,
            }
            required = ("type", "source", "mount_path")
            found = self._mapping(item, "a volume", readers, required)
            if not all(key in found for key in required):
                continue
            if found["type"] != "bucket" and found.get("read_only") is False:
                self._add_mistake(item, "only a bucket can be written to; remove read_only, or mount a bucket.")
            volumes.append(Volume(**{"read_only": found["type"] != "bucket"} | found))
        paths = [volume.mount_path for volume in volumes]
        if len(set(paths)) < len(paths):
            self._add_mistake(node, "two volumes have one mount_path; give each its own.")
        return tuple(volumes)

    def _mount_path(self, node: Node) -> str | None:
        text = self._text(node, "mount_path")
        if text is None or re.fullmatch(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", text):
            return text
        self._add_mistake(node, "mount_path must be a folder from the root on, such as /data.")
        return None

    def _flag(self, node: Node) -> bool | None:
        text = self._choice(node, ("true", "false"))
        return None if text is None else text == "true"

    def _files(self, node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
        readers: dict[str, Callable[[Node], Any]] = {"include": self._patterns, "exclude": self._patterns}
        found = self._mapping(node, "files", readers, ("include",))
        return found.get("include", ()), found.get("exclude", ())

    def _patterns(self, node: Node) -> tuple[str, ...]:
        patterns: list[str] = []
        for item in self._items(node, "a list of patterns"):
            text = self._text(item, "a pattern")
            if text is None:
                continue
            if text.startswith("/") or "\\" in text or ".." in text.split("/"):
                self._add_mistake(item, f"{text} leaves the folder; write patterns from the Spacefile's folder on.")
                continue
            patterns.append(text)
            self._lines[text] = item.start_mark.line + 1
        return tuple(patterns)


def _hardware_names() -> tuple[str, ...]:
    from huggingface_hub import SpaceHardware

    return tuple(hardware.value for hardware in SpaceHardware)
