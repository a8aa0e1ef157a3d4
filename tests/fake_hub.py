"""A hub on this machine: as much of the hub's HTTP interface as downloading a model takes, and its faults."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 20_000
"""Files from this size on are served as large ones: with a SHA-256, by way of a redirect."""


def commit_of(repo_id: str) -> str:
    """The commit that a repository of that name is at."""
    return hashlib.sha1(repo_id.encode()).hexdigest()


@dataclass
class Repository:
    """Files by name, and what goes wrong when they are asked for."""

    repo_id: str
    files: dict[str, bytes]
    commit: str
    is_gated: bool = False
    break_after: int | None = None
    """Drop the connection after so many bytes of a large file, once."""
    stall_after: int | None = None
    """Say nothing more after so many bytes of a file that is larger, once, until the hub closes."""
    ignores_ranges: bool = False
    unlisted: set[str] = field(default_factory=set)
    """Files that are listed and then cannot be had."""


class FakeHub:
    """Serves repositories on a port of its own while the `with` block lasts."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path, and the range asked for."""
        self.status: int | None = None
        """Answer everything with this status."""
        self.closed = threading.Event()
        hub = self

        class Handler(_Handler):
            fake_hub = hub

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; further requests find nobody."""
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo_id: str, folder: Path, commit: str | None = None, **faults: Any) -> Repository:
        """Offer the files of a folder as a repository."""
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.repositories[repo_id] = Repository(repo_id, files, commit or commit_of(repo_id), **faults)
        return self.repositories[repo_id]

    def bytes_of(self, suffix: str) -> list[str | None]:
        """The ranges of all GET requests for the content of a file."""
        return [span for method, path, span in self.requests if method == "GET" and path.endswith(suffix)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake_hub: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.fake_hub.requests.append((self.command, path, self.headers.get("Range")))
        if self.fake_hub.status is not None:
            self._fail(self.fake_hub.status, "", "The hub is having a bad day")
            return
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._answer_api("/".join(parts[2:4]), parts[4:])
        elif parts[0] == "content" and len(parts) >= 4:
            self._send_content("/".join(parts[1:3]), "/".join(parts[3:]))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._answer_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._fail(404, "", "No such page")

    def _repository(self, repo_id: str, revision: str) -> Repository | None:
        repository = self.fake_hub.repositories.get(repo_id)
        if repository is None:
            # As the hub answers people who are not signed in.
            self._fail(401, "RepoNotFound", "Invalid username or password.")
        elif revision not in ("main", repository.commit):
            self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repository
        return None

    def _answer_api(self, repo_id: str, rest: list[str]) -> None:
        revision = rest[1] if len(rest) >= 2 else "main"
        repository = self._repository(repo_id, revision)
        if repository is None:
            return
        if rest[:1] == ["tree"]:
            self._send_json([self._tree_entry(name, data) for name, data in repository.files.items()])
            return
        siblings = [self._sibling(name, data) for name, data in repository.files.items()]
        card = {"license": "bsd-3-clause"}
        self._send_json({"id": repo_id, "sha": repository.commit, "siblings": siblings, "cardData": card})

    @staticmethod
    def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if len(data) >= LARGE_BYTES:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    @staticmethod
    def _sibling(name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
        if len(data) >= LARGE_BYTES:
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _answer_file(self, repo_id: str, revision: str, name: str) -> None:
        repository = self._repository(repo_id, revision)
        if repository is None:
            return
        if repository.is_gated:
            self._fail(403, "GatedRepo", "Access to this model is restricted")
            return
        if name not in repository.files or name in repository.unlisted:
            self._fail(404, "EntryNotFound", f"Entry not found: {name}")
            return
        data = repository.files[name]
        headers = {"X-Repo-Commit": repository.commit}
        if len(data) < LARGE_BYTES:
            headers["ETag"] = f'"{hashlib.sha1(data).hexdigest()}"'
            self._send(200, data, headers)
            return
        headers |= {
            "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
            # Another host, as on the hub: the client follows redirects within one host by itself.
            "Location": f"{self.fake_hub.url.replace('127.0.0.1', 'localhost')}/content/{repo_id}/{name}",
        }
        self._send(302, b"", headers)

    def _send_content(self, repo_id: str, name: str) -> None:
        repository = self.fake_hub.repositories[repo_id]
        data = repository.files[name]
        span = self.headers.get("Range")
        start = int(span.removeprefix("bytes=").split("-")[0]) if span and not repository.ignores_ranges else 0
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if repository.stall_after is not None and len(data) > repository.stall_after:
            so_many, repository.stall_after = repository.stall_after, None
            self._send(206 if start else 200, data[start:], headers, so_many)
            self.fake_hub.closed.wait()
            return
        keep, repository.break_after = repository.break_after, None
        self._send(206 if start else 200, data[start:], headers, keep)

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message} if code else {})

    def _send(self, status: int, data: bytes, headers: dict[str, str], keep: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[:keep])
        if keep is not None:
            self.wfile.flush()
            self.close_connection = True
