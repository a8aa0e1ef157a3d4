"""The differences between a Spacefile and its Space, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from captioning.deploy.manifest import LocalFile
from captioning.deploy.spacefile import VISIBILITIES, Spacefile, Volume

HUB_FILES = frozenset({".gitattributes"})
"""Files that the hub writes itself: they say which files are stored by git LFS."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the hub; `sha256` is the hash of its content where git LFS stores it."""

    blob_id: str
    sha256: str | None = None

    def has_content_of(self, file: LocalFile) -> bool:
        """Return whether the content equals that of a local file."""
        return file.sha256 == self.sha256 if self.sha256 else file.blob_id == self.blob_id


@dataclass(frozen=True, slots=True)
class SpaceState:
    """The state of a Space; the defaults are those of a new one, which is created as private."""

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
    """One difference. `before` and `after` are for people; for a secret they only say that it is set."""

    kind: str
    name: str
    before: str | None
    after: str | None

    @property
    def action(self) -> str:
        """Return `add`, `change` or `remove`."""
        if self.before is None:
            return "add"
        return "remove" if self.after is None else "change"

    def __str__(self) -> str:
        sign = {"add": "+", "change": "~", "remove": "-"}[self.action]
        if self.kind in ("file", "secret", "space"):
            return f"{sign} {self.kind:10} {self.name}"
        values = " → ".join(value for value in (self.before, self.after) if value is not None)
        return f"{sign} {self.kind:10} {self.name + ': ' if self.name else ''}{values}"


def plan_changes(
    spacefile: Spacefile, files: Mapping[str, LocalFile], deployed: SpaceState, renew_secrets: bool = False
) -> tuple[Change, ...]:
    """Return the changes in order: restricting visibility, then settings, then files, and last widening visibility.

    This order never shows a Space without its password or with only some of its settings. The hub does not return the
    values of secrets, so a secret that is set counts as right unless `renew_secrets`.
    """
    return tuple(_changes(spacefile, files, deployed, renew_secrets))


def _changes(
    spacefile: Spacefile, files: Mapping[str, LocalFile], deployed: SpaceState, renew_secrets: bool
) -> Iterator[Change]:
    if not deployed.exists:
        yield Change("space", spacefile.space, None, "created")
    visibility = Change("visibility", "", deployed.visibility, spacefile.visibility)
    hides = VISIBILITIES.index(spacefile.visibility) > VISIBILITIES.index(deployed.visibility)
    if hides:
        yield visibility
    yield from _value_changes("variable", deployed.variables, spacefile.variables)
    for name in sorted(deployed.secrets | set(spacefile.secrets)):
        is_set, wanted = name in deployed.secrets, name in spacefile.secrets
        if is_set != wanted or renew_secrets:
            yield Change("secret", name, "set" if is_set else None, "set" if wanted else None)
    yield from _value_changes("volume", _by_path(deployed.volumes), _by_path(spacefile.volumes))
    if spacefile.hardware != deployed.hardware:
        yield Change("hardware", "", deployed.hardware or "none", spacefile.hardware)
    if spacefile.sleep_time not in (None, deployed.sleep_time):
        yield Change("sleep_time", "", _describe_sleep(deployed.sleep_time), _describe_sleep(spacefile.sleep_time))
    for name in sorted({*files, *deployed.files} - (HUB_FILES - files.keys())):
        local, remote = files.get(name), deployed.files.get(name)
        if local is None or remote is None or not remote.has_content_of(local):
            before = None if remote is None else remote.sha256 or remote.blob_id
            yield Change("file", name, before, None if local is None else local.sha256)
    if not hides and spacefile.visibility != deployed.visibility:
        yield visibility


def _value_changes(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield Change(kind, name, before.get(name), after.get(name))


def _by_path(volumes: tuple[Volume, ...]) -> dict[str, str]:
    return {volume.mount_path: str(volume) for volume in volumes}


def _describe_sleep(seconds: int | None) -> str:
    if seconds is None:
        return "the hub's default"
    return "never" if seconds < 0 else f"after {seconds} s"
