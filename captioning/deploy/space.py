"""The Space on the hub, read and changed through the hub's own client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from captioning.core.errors import CaptioningError, DeployError, HubError
from captioning.deploy.manifest import LocalFile
from captioning.deploy.plan import Change, RemoteFile, SpaceState
from captioning.deploy.spacefile import VISIBILITIES, Spacefile, Volume

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

_COMMIT_MESSAGE = "Deployed by python -m captioning deploy"
_REQUIRED_METHODS = ("get_space_secrets", "get_space_variables", "set_space_volumes", "delete_space_volumes")
_ADVICE = {
    400: "the hub does not accept it",
    401: "the hub does not accept the token; sign in again with `hf auth login`, or set HF_TOKEN to a valid one",
    402: "the owner's plan does not include it; choose other hardware, or extend the plan",
    403: "the token may not do this; use one with write access to the owner's Spaces",
    404: "the hub does not find it",
    412: "the Space was changed while this ran",
    429: "the hub has had too many requests; wait some minutes",
}


def has_token() -> bool:
    """Return whether a Hugging Face token is at hand."""
    from huggingface_hub import get_token

    return bool(get_token())


def url_of(space_id: str) -> str:
    """Return the address of a Space on the hub."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/spaces/{space_id}"


class Space:
    """One Space, named OWNER/NAME, or NAME alone for a Space of the account that signed in.

    `secrets` holds the values to set, by name. No message contains one of them.
    """

    def __init__(self, space_id: str, secrets: Mapping[str, str]) -> None:
        from huggingface_hub import HfApi, get_token

        if not all(hasattr(HfApi, name) for name in _REQUIRED_METHODS):
            raise DeployError("Deploying needs a newer client of the hub: `pip install --upgrade huggingface_hub`.")
        token = get_token()
        if not token:
            raise DeployError(
                "There is no Hugging Face token here; run `hf auth login`, or set HF_TOKEN to one with write access."
            )
        self.space_id = space_id
        self._secrets = secrets
        self._secret_values = tuple(value for value in (token, *secrets.values()) if value)
        self._api = HfApi(token=token)
        if "/" not in space_id:
            with self._explain_errors("asking whose token this is"):
                self.space_id = f"{self._api.whoami()['name']}/{space_id}"

    @property
    def url(self) -> str:
        """Return the address of the Space on the hub."""
        return url_of(self.space_id)

    def read(self) -> SpaceState:
        """Return the state of the Space. Raises `HubError`, and `DeployError` for a token that can only read."""
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        with self._explain_errors("reading the Space"):
            # With a token that lacks rights, the hub reports that there is no such Space.
            if self._api.whoami().get("auth", {}).get("accessToken", {}).get("role") == "read":
                raise DeployError("The token here can only read; make one with write access, and sign in with it.")
            try:
                info = self._api.space_info(self.space_id)
            except RepositoryNotFoundError:
                return SpaceState()
            runtime = self._api.get_space_runtime(self.space_id)
            entries = self._api.list_repo_tree(self.space_id, recursive=True, repo_type="space", revision=info.sha)
            return SpaceState(
                exists=True,
                commit=info.sha,
                visibility=_visibility_of(info),
                hardware=_hardware_name(runtime.requested_hardware or runtime.hardware),
                sleep_time=runtime.sleep_time,
                variables={
                    name: variable.value for name, variable in self._api.get_space_variables(self.space_id).items()
                },
                secrets=frozenset(self._api.get_space_secrets(self.space_id)),
                volumes=tuple(_read_volume(volume) for volume in runtime.volumes or ()),
                files={
                    entry.path: RemoteFile(entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
                    for entry in entries
                    if isinstance(entry, RepoFile)
                },
            )

    def apply(
        self,
        changes: Sequence[Change],
        spacefile: Spacefile,
        files: Mapping[str, LocalFile],
        commit: str | None,
        report: Callable[[str], None],
    ) -> None:
        """Apply the changes in order; `commit` is the one that they were compared with.

        Raises `HubError`. Earlier changes then remain, and the next run finds only the remaining ones.
        """
        for kind, group in groupby(changes, key=lambda change: change.kind):
            some = list(group)
            if kind == "file":
                report(f"{len(some)} files")
                with self._explain_errors("sending the files"):
                    self._send(some, files, commit)
            elif kind == "volume":  # the hub sets all volumes in one call
                report("volumes")
                with self._explain_errors("setting the volumes"):
                    self._set_volumes(spacefile.volumes)
            else:
                for change in some:
                    report(str(change))
                    with self._explain_errors(f"setting {change.kind} {change.name}".rstrip()):
                        self._change(change, spacefile)

    def _change(self, change: Change, spacefile: Spacefile) -> None:
        api, space = self._api, self.space_id
        removes = change.action == "remove"
        if change.kind == "space":
            api.create_repo(space, repo_type="space", space_sdk="gradio", visibility="private", exist_ok=True)
        elif change.kind == "visibility":
            api.update_repo_settings(space, repo_type="space", visibility=spacefile.visibility)  # type: ignore[arg-type]
        elif change.kind == "variable" and removes:
            api.delete_space_variable(space, change.name)
        elif change.kind == "variable":
            api.add_space_variable(space, change.name, spacefile.variables[change.name])
        elif change.kind == "secret" and removes:
            api.delete_space_secret(space, change.name)
        elif change.kind == "secret":
            with _logging_disabled():
                api.add_space_secret(space, change.name, self._secrets[change.name])
        elif change.kind == "hardware":
            api.request_space_hardware(space, spacefile.hardware)  # type: ignore[arg-type]
        else:
            assert change.kind == "sleep_time"
            assert spacefile.sleep_time is not None
            api.set_space_sleep_time(space, spacefile.sleep_time)

    def _set_volumes(self, volumes: tuple[Volume, ...]) -> None:
        if volumes:
            self._api.set_space_volumes(self.space_id, [_write_volume(volume) for volume in volumes])
        else:
            self._api.delete_space_volumes(self.space_id)

    def _send(self, changes: Sequence[Change], files: Mapping[str, LocalFile], commit: str | None) -> None:
        """Send all files in one commit, so that the Space is never built from old and new files together.

        Content that an interrupted commit already uploaded is not sent again.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationDelete(change.name, is_folder=False)
            if change.action == "remove"
            else CommitOperationAdd(change.name, files[change.name].path)
            for change in changes
        ]
        self._api.create_commit(
            self.space_id, operations, commit_message=_COMMIT_MESSAGE, repo_type="space", parent_commit=commit
        )

    @contextmanager
    def _explain_errors(self, step: str) -> Iterator[None]:
        """Turn any error of the client into a `HubError` that says what to do and contains no secret."""
        try:
            yield
        except CaptioningError:
            raise
        except Exception as error:
            # Drop the cause: it holds the request, which may contain a secret.
            raise HubError(f"{self.space_id}: {step} failed: {self._describe_error(error)}") from None

    def _describe_error(self, error: Exception) -> str:
        status = getattr(getattr(error, "response", None), "status_code", None)
        again = "What was done before stays; run the same command again to do the rest."
        if status is None:
            from huggingface_hub.errors import OfflineModeIsEnabled

            if isinstance(error, OfflineModeIsEnabled):
                return "HF_HUB_OFFLINE forbids asking the hub; unset it."
            if isinstance(error, ValueError):  # the client or the hub rejects README.md
                return f"{self._redact(str(error))} {again}"
            return f"the hub cannot be reached ({type(error).__name__}); connect to the internet. {again}"
        message = self._redact(str(getattr(error, "server_message", None) or "").strip().rstrip("."))
        advice = _ADVICE.get(status, f"the hub answers with error {status}; try again in a few minutes")
        return f"{advice}{f' (it says: {message})' if message else ''}. {again}"

    def _redact(self, text: str) -> str:
        for value in self._secret_values:
            text = text.replace(value, "***")
        return text


@contextmanager
def _logging_disabled() -> Iterator[None]:
    """Disable logging while a secret is sent: with HF_DEBUG the client logs whole requests."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _hardware_name(hardware: object) -> str | None:
    return None if hardware is None else str(getattr(hardware, "value", hardware))


def _visibility_of(info: Any) -> str:
    """Return the Space's visibility.

    The client knows only whether a Space is private. It keeps a visibility that the hub sends as an extra field.
    """
    visibility = getattr(info, "visibility", None)
    if visibility in VISIBILITIES:
        return str(visibility)
    return "private" if info.private else "public"


def _read_volume(volume: Any) -> Volume:
    is_repo = volume.type != "bucket"
    revision = None if volume.revision == "main" else volume.revision
    read_only = is_repo or bool(volume.read_only)
    return Volume(volume.type, volume.source, volume.mount_path, revision, volume.path or None, read_only)


def _write_volume(volume: Volume) -> Any:
    from huggingface_hub import Volume as HubVolume

    return HubVolume(
        type=volume.type,
        source=volume.source,
        mount_path=volume.mount_path,
        revision=volume.revision,
        read_only=volume.read_only,
        path=volume.path,
    )
