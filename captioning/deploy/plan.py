"""What differs between a Spacefile and what is deployed, in the order in which it is to be changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from captioning.deploy.manifest import DeployedFile
from captioning.deploy.spacefile import VISIBILITIES, Spacefile, Volume

KEPT = frozenset({".gitattributes"})
"""The hub's own; it says which files are large."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the hub; `sha256` is that of its content where it is stored as a large one."""

    blob_id: str
    sha256: str | None = None

    def holds(self, file: DeployedFile) -> bool:
        """Whether its content is that of a file here."""
        return file.sha256 == self.sha256 if self.sha256 else file.blob_id == self.blob_id


@dataclass(frozen=True, slots=True)
class Deployed:
    """A Space as it is; the defaults are those of one that is yet to be created, out of everybody's sight."""

    exists: bool = False
    commit: str | None = None
    visibility: str = "private"
    hardware: str | None = "cpu-basic"
    sleep_time: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    volumes: tuple[Volume, ...] = ()
    files: Mapping[str, RemoteFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `before` and `after` are for people; of a secret they never say more than that it is there."""

    kind: str
    name: str
    before: str | None
    after: str | None

    @property
    def action(self) -> str:
        """`add`, `change` or `remove`."""
        if self.before is None:
            return "add"
        return "remove" if self.after is None else "change"

    def __str__(self) -> str:
        sign = {"add": "+", "change": "~", "remove": "-"}[self.action]
        if self.kind in ("file", "secret", "space"):
            return f"{sign} {self.kind:10} {self.name}"
        values = " → ".join(value for value in (self.before, self.after) if value is not None)
        return f"{sign} {self.kind:10} {self.name + ': ' if self.name else ''}{values}"


def compare(
    spacefile: Spacefile, files: Mapping[str, DeployedFile], deployed: Deployed, renew_secrets: bool = False
) -> tuple[Change, ...]:
    """What is to be done, in order: whatever hides comes first, then what the files need, the files, what shows last.

    So nobody ever sees a Space without its password or with half of its settings. Values of secrets cannot be read
    back, so those that are there count as right unless `renew_secrets`.
    """
    return tuple(_changes(spacefile, files, deployed, renew_secrets))


def _changes(
    spacefile: Spacefile, files: Mapping[str, DeployedFile], deployed: Deployed, renew_secrets: bool
) -> Iterator[Change]:
    if not deployed.exists:
        yield Change("space", spacefile.space, None, "created")
    visibility = Change("visibility", "", deployed.visibility, spacefile.visibility)
    hides = VISIBILITIES.index(spacefile.visibility) > VISIBILITIES.index(deployed.visibility)
    if hides:
        yield visibility
    yield from _values("variable", deployed.variables, spacefile.variables)
    for name in sorted(deployed.secrets | set(spacefile.secrets)):
        there, wanted = name in deployed.secrets, name in spacefile.secrets
        if there != wanted or renew_secrets:
            yield Change("secret", name, "set" if there else None, "set" if wanted else None)
    yield from _values("volume", _by_path(deployed.volumes), _by_path(spacefile.volumes))
    if spacefile.hardware != deployed.hardware:
        yield Change("hardware", "", deployed.hardware or "none", spacefile.hardware)
    if spacefile.sleep_time not in (None, deployed.sleep_time):
        yield Change("sleep_time", "", _describe_sleep(deployed.sleep_time), _describe_sleep(spacefile.sleep_time))
    for name in sorted({*files, *deployed.files} - (KEPT - files.keys())):
        here, there_file = files.get(name), deployed.files.get(name)
        if here is None or there_file is None or not there_file.holds(here):
            before = None if there_file is None else there_file.sha256 or there_file.blob_id
            yield Change("file", name, before, None if here is None else here.sha256)
    if not hides and spacefile.visibility != deployed.visibility:
        yield visibility


def _values(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Change(kind, name, before.get(name), after.get(name))


def _by_path(volumes: tuple[Volume, ...]) -> dict[str, str]:
    return {volume.mount_path: str(volume) for volume in volumes}


def _describe_sleep(seconds: int | None) -> str:
    if seconds is None:
        return "the hub's default"
    return "never" if seconds < 0 else f"after {seconds} s"
