"""The files to send: those that git does not ignore and that the Spacefile's patterns include."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from captioning.core.errors import DeployError
from captioning.deploy.spacefile import Spacefile

NEVER_SENT = (
    ".git/*",
    ".venv/*",
    "tests/*",
    ".ci/*",
    "__pycache__/*",
    "*/__pycache__/*",
    "*.pyc",
    ".*_cache/*",
    ".env",
    ".env.*",
    "*/.env",
    "*/.env.*",
)
"""Patterns of files that are never sent, whatever the Spacefile says."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A local file with the ids that git and git LFS give its content. The hub stores a file under one of the two."""

    path: Path
    num_bytes: int
    blob_id: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> LocalFile:
        """Read a file and compute its ids."""
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return cls(path, len(content), blob.hexdigest(), hashlib.sha256(content).hexdigest())


def collect_files(spacefile: Spacefile) -> dict[str, LocalFile]:
    """Return the files to send by their paths in the Space, in order.

    Raises `DeployError` where the folder is no git checkout, a pattern of `include` matches no file, a file is a link
    that leaves the folder, or the files lack what a Space needs.
    """
    known = _list_git_files(spacefile.folder)
    allowed = [name for name in known if not _matches(name, (*NEVER_SENT, *spacefile.exclude))]
    for pattern in spacefile.include:
        if not any(_matches(name, [pattern]) for name in allowed):
            raise DeployError(
                f"{spacefile.at(pattern)}: {pattern} finds no file that may be sent; correct it, or remove it."
            )
    chosen = [name for name in allowed if _matches(name, spacefile.include)]
    for name in chosen:
        if not (spacefile.folder / name).resolve().is_relative_to(spacefile.folder):
            raise DeployError(f"{name} is a link that leaves the folder; replace it by a file, or exclude it.")
    _check_front_matter(spacefile, chosen)
    return {name: LocalFile.of(spacefile.folder / name) for name in chosen}


def read_front_matter(readme: Path) -> Mapping[str, Any]:
    """Return the YAML settings between the two lines of dashes at the top of a Space's README; empty where it has none.

    Raises `DeployError` where they are no YAML.
    """
    text = readme.read_text(encoding="utf-8")
    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        return {}
    try:
        head = yaml.safe_load(text[4:].split("\n---\n", 1)[0])
    except yaml.YAMLError as error:
        raise DeployError(f"The head of {readme.name} is no YAML; correct what stands between its dashes.") from error
    return head if isinstance(head, dict) else {}


def _list_git_files(folder: Path) -> list[str]:
    """Return the files below a folder that git tracks or would add. Raises `DeployError` outside a git checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)  # noqa: S603 - a fixed command
    except (OSError, subprocess.CalledProcessError) as error:
        raise DeployError(
            f"{folder} is no git checkout, so nothing says which files are yours alone; deploy from a clone."
        ) from error
    names = done.stdout.decode("utf-8", "surrogateescape").split("\0")
    return sorted(name for name in names if name and (folder / name).is_file())


def _matches(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    """Return whether a path matches a pattern; a pattern that ends with a slash matches all files in that folder."""
    return any(fnmatchcase(name, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)


def _check_front_matter(spacefile: Spacefile, names: list[str]) -> None:
    for needed in ("README.md", "requirements.txt"):
        if needed not in names:
            raise DeployError(f"A Space needs {needed}, which is not among the files; add it to include.")
    head = read_front_matter(spacefile.folder / "README.md")
    if head.get("sdk") != "gradio":
        raise DeployError("The head of README.md must say `sdk: gradio`, else the hub does not know how to run it.")
    if head.get("app_file") not in names:
        raise DeployError(
            f"The head of README.md names {head.get('app_file') or 'no file'} as app_file, which is not among the "
            "files; correct it, or add the file to include."
        )
    if spacefile.variables.get("CAPTIONSCOPE_LOGIN") == "huggingface" and head.get("hf_oauth") is not True:
        raise DeployError("Signing in with Hugging Face needs `hf_oauth: true` in the head of README.md; add it there.")
