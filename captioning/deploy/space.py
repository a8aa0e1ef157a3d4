"""The Space on the hub: reading what it is, and changing it, through the hub's own client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from captioning.core.errors import CaptioningError, DeployError, HubError
from captioning.deploy.manifest import DeployedFile
from captioning.deploy.plan import Change, Deployed, RemoteFile
from captioning.deploy.spacefile import VISIBILITIES, Spacefile, Volume

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

_COMMIT_MESSAGE = "Deployed by python -m captioning deploy"
_NEEDED = ("get_space_secrets", "get_space_variables", "set_space_volumes", "delete_space_volumes")
_ADVICE = {
    400: "the hub does not accept it",
    401: "the hub does not accept the token; sign in again with `hf auth login`, or set HF_TOKEN to a valid one",
    402: "the owner's plan does not include it; choose other hardware, or extend the plan",
    403: "the token may not do this; use one with write access to the owner's Spaces",
    404: "the hub does not find it",
    412: "somebody else changed the Space at the same time",
    429: "the hub has had too many requests; wait some minutes",
}


def has_token() -> bool:
    """Whether a Hugging Face token is at hand."""
    from huggingface_hub import get_token

    return bool(get_token())


def url_of(space_id: str) -> str:
    """Where people find a Space."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/spaces/{space_id}"


class Space:
    """One Space, by OWNER/NAME or, where it belongs to whoever signed in, by NAME alone.

    `secrets` are the values at hand, by name; no message ever repeats one.
    """

    def __init__(self, space_id: str, secrets: Mapping[str, str]) -> None:
        from huggingface_hub import HfApi, get_token

        if not all(hasattr(HfApi, name) for name in _NEEDED):
            raise DeployError("Deploying needs a newer client of the hub: `pip install --upgrade huggingface_hub`.")
        token = get_token()
        if not token:
            raise DeployError(
                "There is no Hugging Face token here; run `hf auth login`, or set HF_TOKEN to one with write access."
            )
        self.space_id = space_id
        self._secrets = secrets
        self._hidden = tuple(value for value in (token, *secrets.values()) if value)
        self._api = HfApi(token=token)
        if "/" not in space_id:
            with self._explained("asking whose token this is"):
                self.space_id = f"{self._api.whoami()['name']}/{space_id}"

    @property
    def url(self) -> str:
        """Where people find it."""
        return url_of(self.space_id)

    def read(self) -> Deployed:
        """What is deployed. Raises `HubError`."""
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        with self._explained("reading the Space"):
            # To a wrong token the hub says that there is no such Space.
            if self._api.whoami().get("auth", {}).get("accessToken", {}).get("role") == "read":
                raise DeployError("The token here can only read; make one with write access, and sign in with it.")
            try:
                info = self._api.space_info(self.space_id)
            except RepositoryNotFoundError:
                return Deployed()
            runtime = self._api.get_space_runtime(self.space_id)
            entries = self._api.list_repo_tree(self.space_id, recursive=True, repo_type="space", revision=info.sha)
            return Deployed(
                exists=True,
                commit=info.sha,
                visibility=_visibility_of(info),
                hardware=_plain(runtime.requested_hardware or runtime.hardware),
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
        files: Mapping[str, DeployedFile],
        commit: str | None,
        report: Callable[[str], None],
    ) -> None:
        """Make the changes in their order; `commit` is the one they were compared with.

        Raises `HubError`; what was changed until then stays, and another run finds only the rest to do.
        """
        for kind, group in groupby(changes, key=lambda change: change.kind):
            some = list(group)
            if kind == "file":
                report(f"{len(some)} files")
                with self._explained("sending the files"):
                    self._send(some, files, commit)
            elif kind == "volume":  # they are set together
                report("volumes")
                with self._explained("setting the volumes"):
                    self._set_volumes(spacefile.volumes)
            else:
                for change in some:
                    report(str(change))
                    with self._explained(f"setting {change.kind} {change.name}".rstrip()):
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
            with _no_logs():
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

    def _send(self, changes: Sequence[Change], files: Mapping[str, DeployedFile], commit: str | None) -> None:
        """All files in one commit: the Space is built from the old ones or from the new ones, never from some of each.

        Content that a commit broken off has sent already is not sent again.
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
    def _explained(self, step: str) -> Iterator[None]:
        """Turn whatever the client raises into a `HubError` that says what to do and repeats no secret."""
        try:
            yield
        except CaptioningError:
            raise
        except Exception as error:
            # The error itself is left behind: it holds the request, and the request may hold a secret.
            raise HubError(f"{self.space_id}: {step} failed: {self._describe(error)}") from None

    def _describe(self, error: Exception) -> str:
        status = getattr(getattr(error, "response", None), "status_code", None)
        again = "What was done before stays; run the same command again to do the rest."
        if status is None:
            from huggingface_hub.errors import OfflineModeIsEnabled

            if isinstance(error, OfflineModeIsEnabled):
                return "HF_HUB_OFFLINE forbids asking the hub; unset it."
            if isinstance(error, ValueError):  # what the client or the hub objects to in README.md
                return f"{self._redact(str(error))} {again}"
            return f"the hub cannot be reached ({type(error).__name__}); connect to the internet. {again}"
        said = self._redact(str(getattr(error, "server_message", None) or "").strip().rstrip("."))
        advice = _ADVICE.get(status, f"the hub answers with error {status}; try again in a few minutes")
        return f"{advice}{f' (it says: {said})' if said else ''}. {again}"

    def _redact(self, text: str) -> str:
        for value in self._hidden:
            text = text.replace(value, "***")
        return text


@contextmanager
def _no_logs() -> Iterator[None]:
    """No logging while a secret is sent: with HF_DEBUG the client logs whole requests."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _plain(hardware: object) -> str | None:
    return None if hardware is None else str(getattr(hardware, "value", hardware))


def _visibility_of(info: Any) -> str:
    """The client knows only whether a Space is private; where the hub says more, it keeps that as an extra field."""
    said = getattr(info, "visibility", None)
    if said in VISIBILITIES:
        return str(said)
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
