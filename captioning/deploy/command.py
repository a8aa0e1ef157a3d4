"""The command `deploy`: read the Spacefile, compare it with the Space, and change the Space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from captioning.core.errors import DeployError
from captioning.deploy.manifest import LocalFile, collect_files
from captioning.deploy.plan import Change, SpaceState, plan_changes
from captioning.deploy.space import Space, has_token, url_of
from captioning.deploy.spacefile import Spacefile, read_spacefile


@dataclass(frozen=True, slots=True)
class DeployResult:
    """The differences that a run found, and whether it applied them; `compared` is false for a run without a token."""

    space: str
    url: str
    applied: bool
    changes: tuple[Change, ...]
    files: Mapping[str, LocalFile]
    compared: bool = True

    def as_document(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {
            "space": self.space,
            "url": self.url,
            "applied": self.applied,
            "compared": self.compared,
            "changes": [
                {
                    "kind": change.kind,
                    "name": change.name,
                    "action": change.action,
                    "before": change.before,
                    "after": change.after,
                }
                for change in self.changes
            ],
            "files": {"count": len(self.files), "bytes": sum(file.num_bytes for file in self.files.values())},
        }


def deploy(
    file: Path,
    environment: Mapping[str, str],
    *,
    dry_run: bool = False,
    renew_secrets: bool = False,
    report: Callable[[str], None],
) -> DeployResult:
    """Change a Space to match its Spacefile, or only compare both where `dry_run` is set.

    `environment` holds the values of secrets by name. `report` receives a line before each change. A dry run without a
    token shows what a new Space would get. Raises `DeployError` before anything is changed, and `HubError` where the
    hub refuses or cannot be reached.
    """
    spacefile = read_spacefile(file)
    files = collect_files(spacefile)
    secrets = {name: environment[name] for name in spacefile.secrets if environment.get(name)}
    if dry_run and not has_token():
        changes = plan_changes(spacefile, files, SpaceState())
        return DeployResult(spacefile.space, url_of(spacefile.space), False, changes, files, compared=False)
    space = Space(spacefile.space, secrets)
    spacefile = replace(spacefile, space=space.space_id)
    deployed = space.read()
    changes = plan_changes(spacefile, files, deployed, renew_secrets)
    if changes and not dry_run:
        _check_secrets(spacefile, changes, secrets)
        space.apply(changes, spacefile, files, deployed.commit, report)
    return DeployResult(spacefile.space, space.url, bool(changes) and not dry_run, changes, files)


def _check_secrets(spacefile: Spacefile, changes: tuple[Change, ...], secrets: Mapping[str, str]) -> None:
    needed = [change.name for change in changes if change.kind == "secret" and change.action != "remove"]
    missing = [name for name in needed if name not in secrets]
    if missing:
        lines = (f"{spacefile.at(name)}: {name} is not in the environment; set it and run again." for name in missing)
        raise DeployError("\n".join(lines))
