"""Fetching a model from the hub: which files, resumably, and what went wrong in one sentence.

The hub's own client keeps nothing of a file whose download was cut off. Weights take minutes and hundreds of
megabytes, so they are fetched here into the place where that client looks for them; it does the rest.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from captioning.core.errors import CaptioningError, HubError, ModelFilesError
from captioning.models.files import SAFETENSORS, describe_format

_PICKLES = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
_NEVER_FETCHED = ("*.h5", "*.msgpack", "*.py")
_CHUNK_BYTES = 2**20
_TIMEOUT_SECONDS = 30.0
_RETRY_SECONDS = (1.0, 3.0, 10.0)  # pauses between attempts that bring nothing new


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How much of a model has come, in bytes; what an earlier attempt brought counts."""

    done_bytes: int
    total_bytes: int


Report = Callable[[DownloadProgress], None]


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository; `sha256` is known of large ones only."""

    name: str
    num_bytes: int
    sha256: str | None


def storage_folder(repo_id: str) -> Path:
    """Where the hub's client keeps a repository: `blobs`, `refs` and `snapshots`, as its documentation says."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo_id.replace('/', '--')}"


def known_commit(repo_id: str) -> str | None:
    """The commit that a name meant at the last download; where that was not noted, the only one that is here."""
    storage = storage_folder(repo_id)
    reference = storage / "refs" / "main"
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    snapshots = storage / "snapshots"
    commits = [folder.name for folder in snapshots.iterdir() if folder.is_dir()] if snapshots.is_dir() else []
    return commits[0] if len(commits) == 1 else None


def fetch_snapshot(
    repo_id: str, commit: str, wanted: Sequence[HubFile], title: str, report: Report | None = None
) -> Path:
    """Fetch files of a repository and return their folder; what an interrupted attempt fetched is kept and used.

    Progress goes to `report` and to the terminal; `report` may raise `Stopped` to end the download.
    """
    from huggingface_hub import constants, snapshot_download

    storage = storage_folder(repo_id)
    snapshot = storage / "snapshots" / commit
    _drop_damaged(snapshot, wanted)
    with _Meter(title, wanted, snapshot, report) as meter:
        _check_space(storage, meter)
        for file in wanted:
            if file.sha256 and not (snapshot / file.name).exists():
                _fetch_blob(repo_id, commit, file, storage / "blobs", meter)
        folder = snapshot_download(
            repo_id,
            revision=commit,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=[file.name for file in wanted],
            ignore_patterns=list(_NEVER_FETCHED),
            tqdm_class=_silent_bar(),
            endpoint=constants.ENDPOINT,
        )
        meter.finish()
    return Path(folder)


def list_files(repo_id: str, revision: str | None) -> tuple[str, list[HubFile], str]:
    """The commit that a revision stands for, its files, and the licence on the model's card."""
    from huggingface_hub import HfApi, constants

    info = HfApi(endpoint=constants.ENDPOINT).model_info(
        repo_id, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
    )
    files = [HubFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None) for s in info.siblings or ()]
    license_name = info.card_data.get("license") if info.card_data else None
    return info.sha or revision or "main", files, str(license_name or "not stated")


def choose_files(files: Sequence[HubFile], patterns: Sequence[str], repo_id: str, allow_pickle: bool) -> list[HubFile]:
    """The files to fetch: what the family asks for, its weights in one safe format."""

    def matching(*wanted: str) -> list[HubFile]:
        return [file for file in files if any(fnmatchcase(file.name, pattern) for pattern in wanted)]

    weights = [pattern for pattern in patterns if ".safetensors" in pattern]
    others = matching(*(pattern for pattern in patterns if pattern not in weights))
    if not any(file.name == "config.json" for file in others):
        described = describe_format((file.name for file in files), {})
        raise ModelFilesError(f"{repo_id} {described or 'is no model: it has no config.json; check the name'}.")
    found = matching(SAFETENSORS) or matching(*weights)
    if not found and allow_pickle:
        found = matching(*_PICKLES)
    if not found:
        raise ModelFilesError(f"{repo_id} has no weights in the safe format ({SAFETENSORS}); choose another model.")
    return [*others, *found]


def _drop_damaged(folder: Path, wanted: Sequence[HubFile]) -> None:
    """Remove files of the wrong length from the cache: the client takes what exists for good."""
    for file in wanted:
        path = folder / file.name
        if path.is_file() and path.stat().st_size != file.num_bytes:
            path.resolve().unlink()
            path.unlink(missing_ok=True)


class _Meter:
    """Counts the bytes of a download, for `report` and on the terminal."""

    def __init__(self, title: str, wanted: Sequence[HubFile], folder: Path, report: Report | None) -> None:
        from huggingface_hub.utils.tqdm import tqdm

        self.total = sum(file.num_bytes for file in wanted)
        self.done = sum(file.num_bytes for file in wanted if (folder / file.name).is_file())
        self._report = report
        # `None` shows a bar on a terminal only.
        make_bar: Any = tqdm
        self._bar = make_bar(desc=title, total=self.total, initial=self.done, unit="B", unit_scale=True, disable=None)

    def __enter__(self) -> _Meter:
        self.add(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, num_bytes: int) -> None:
        """Count what came; a negative number takes back what has to come again."""
        self.done += num_bytes
        self._bar.update(num_bytes)
        if self._report is not None:
            self._report(DownloadProgress(min(self.done, self.total), self.total))

    def finish(self) -> None:
        """Count the small files, which come unmetered."""
        self.add(self.total - self.done)


def _silent_bar() -> Any:
    """A progress bar class that shows nothing: the meter has the only bar."""
    from huggingface_hub.utils.tqdm import tqdm

    class SilentBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

    return SilentBar


def _check_space(storage: Path, meter: _Meter) -> None:
    storage.mkdir(parents=True, exist_ok=True)
    partial = sum(path.stat().st_size for path in storage.glob("blobs/*.part"))
    missing = meter.total - meter.done - partial
    if shutil.disk_usage(storage).free < missing:
        raise OSError(errno.ENOSPC, f"{missing / 1e6:,.0f} MB more are needed")


def _fetch_blob(repo_id: str, commit: str, file: HubFile, blobs: Path, meter: _Meter) -> None:
    """Fetch one large file to where the client looks for it, going on where an earlier attempt ended."""
    assert file.sha256 is not None
    target, partial = blobs / file.sha256, blobs / f"{file.sha256}.part"
    blobs.mkdir(parents=True, exist_ok=True)
    with _alone(blobs, file.sha256, meter):
        if target.is_file() and target.stat().st_size == file.num_bytes:
            meter.add(file.num_bytes)
            return
        _fetch_rest(repo_id, commit, file, partial, meter)
        if _sha256(partial) != file.sha256:
            partial.unlink()
            raise HubError(f"{file.name} of {repo_id} arrived damaged and was thrown away; try again.")
        partial.replace(target)


@contextmanager
def _alone(blobs: Path, name: str, meter: _Meter) -> Iterator[None]:
    """Wait until nobody else on this machine fetches the same file; `report` may stop the wait."""
    from filelock import FileLock, Timeout

    locks = blobs.parents[1] / ".locks" / blobs.parent.name
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{name}.part.lock")
    while not lock.is_locked:
        with suppress(Timeout):
            lock.acquire(timeout=1)
        meter.add(0)
    try:
        yield
    finally:
        lock.release()


def _fetch_rest(repo_id: str, commit: str, file: HubFile, partial: Path, meter: _Meter) -> None:
    """Append to `partial` until it is complete; give up after attempts in a row that bring nothing."""
    pauses = iter(_RETRY_SECONDS)
    size = partial.stat().st_size if partial.is_file() else 0
    meter.add(size)
    while size < file.num_bytes:
        error: Exception = ConnectionError(f"{file.name} ended early")
        try:
            _append(repo_id, commit, file, partial, meter)
        except (CaptioningError, OSError):
            raise  # the caller's wish, the hub's answer, or the disk: another attempt changes nothing
        except Exception as transport_error:  # the client's transport errors share no base class across versions
            error = transport_error
        before, size = size, partial.stat().st_size if partial.is_file() else 0
        if size > before:
            pauses = iter(_RETRY_SECONDS)
            continue
        pause = next(pauses, None)
        if pause is None:
            raise error
        time.sleep(pause)
    if size > file.num_bytes:
        partial.unlink()
        raise HubError(f"{file.name} of {repo_id} arrived longer than announced and was thrown away; try again.")


def _append(repo_id: str, commit: str, file: HubFile, partial: Path, meter: _Meter) -> None:
    """One request for what is missing of a file; every chunk is on disk before it counts."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    size = partial.stat().st_size if partial.is_file() else 0
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
    url = hf_hub_url(repo_id, file.name, revision=commit, endpoint=constants.ENDPOINT)
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_SECONDS) as response:
        hf_raise_for_status(response)
        appends = response.status_code == 206
        if size and not appends:
            meter.add(-size)  # the server sends everything again
        with partial.open("ab" if appends else "wb") as output:
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                output.write(chunk)
                output.flush()
                meter.add(len(chunk))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def explained(
    repo_id: str, revision: str | None, hint: str = "", instead: str = "choose `embedded`, which needs no network"
) -> Iterator[None]:
    """Turn whatever the hub's client raises into a `HubError` that says what to do.

    `hint` may follow a wrong name, and `instead` is what to do where the hub cannot be asked.
    """
    try:
        yield
    except CaptioningError:
        raise
    except Exception as error:
        raise HubError(_explain(error, repo_id, revision or "main", hint, instead)) from error


def _explain(error: BaseException, repo_id: str, revision: str, hint: str, instead: str) -> str:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.LocalEntryNotFoundError):
        # The client's own guess; what it guessed from says more.
        if error.__cause__ is None:
            return _unreachable(repo_id, instead)
        return _explain(error.__cause__, repo_id, revision, hint, instead)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return (
            f"{repo_id} is only for people who accepted its terms; do so at https://huggingface.co/{repo_id} and sign "
            "in with `hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"The hub has no revision {revision} of {repo_id}; update this program, or choose another model."
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repo_id} lacks a file that it needs ({_file_of(error)}); choose another model, or try again later."
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return f"The hub has no model {repo_id}, or it is private{hint}; check the name or sign in (`hf auth login`)."
    if status is not None:
        return f"The hub answers with error {status}; try again in a few minutes (what has come so far is kept)."
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo_id} is not here and HF_HUB_OFFLINE forbids fetching it; unset that, or {instead}."
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
        return _explain_disk(error, repo_id)
    return _unreachable(repo_id, instead)


def _unreachable(repo_id: str, instead: str) -> str:
    return (
        f"The hub cannot be reached, so {repo_id} cannot be fetched; connect to the internet and try again (what has "
        f"come so far is kept), give a folder with a copy of the model, or {instead}."
    )


def _explain_disk(error: OSError, repo_id: str) -> str:
    from huggingface_hub import constants

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is too full for {repo_id}; free some space, or set HF_HOME to a folder on another disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{constants.HF_HUB_CACHE} cannot be written to; allow that, or set HF_HOME to a folder of yours."
    return f"{repo_id} could not be stored ({error.strerror}); try again, or set HF_HOME to another folder."


def _file_of(error: BaseException) -> str:
    url = str(getattr(getattr(error, "response", None), "url", ""))
    return url.rsplit("/", 1)[-1] or "not named"
