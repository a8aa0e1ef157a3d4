"""The command `deploy`: read, compare, show, and change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from captioning.core.errors import DeployError
from captioning.deploy.manifest import DeployedFile, collect_files
from captioning.deploy.plan import Change, Deployed, compare
from captioning.deploy.space import Space, has_token, url_of
from captioning.deploy.spacefile import Spacefile, read_spacefile


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a run found to change, and whether it did; not `compared` means that it could not see what is deployed."""

    space: str
    url: str
    applied: bool
    changes: tuple[Change, ...]
    files: Mapping[str, DeployedFile]
    compared: bool = True

    def as_document(self) -> dict[str, Any]:
        """The same for JSON."""
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
) -> Deployment:
    """Bring a Space to what its Spacefile says; values of secrets come from `environment` by their names.

    `report` hears what is about to be changed. A dry run only looks; without a token it shows what a new Space would
    get. Raises `DeployError` before anything is changed, and `HubError`.
    """
    spacefile = read_spacefile(file)
    files = collect_files(spacefile)
    secrets = {name: environment[name] for name in spacefile.secrets if environment.get(name)}
    if dry_run and not has_token():
        changes = compare(spacefile, files, Deployed())
        return Deployment(spacefile.space, url_of(spacefile.space), False, changes, files, compared=False)
    space = Space(spacefile.space, secrets)
    spacefile = replace(spacefile, space=space.space_id)
    deployed = space.read()
    changes = compare(spacefile, files, deployed, renew_secrets)
    if changes and not dry_run:
        _check_secrets(spacefile, changes, secrets)
        space.apply(changes, spacefile, files, deployed.commit, report)
    return Deployment(spacefile.space, space.url, bool(changes) and not dry_run, changes, files)


def _check_secrets(spacefile: Spacefile, changes: tuple[Change, ...], secrets: Mapping[str, str]) -> None:
    needed = [change.name for change in changes if change.kind == "secret" and change.action != "remove"]
    missing = [name for name in needed if name not in secrets]
    if missing:
        lines = (f"{spacefile.at(name)}: {name} is not in the environment; set it and run again." for name in missing)
        raise DeployError("\n".join(lines))
