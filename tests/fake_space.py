"""A hub on this machine with one account's Spaces: what describing, changing and filling a Space takes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_goodtokengoodtokengoodtoken"
LARGE_SUFFIX = ".safetensors"


@dataclass
class FakeSpace:
    """A Space as the hub keeps it."""

    visibility: str = "public"
    hardware: str = "cpu-basic"
    sleep_time: int | None = None
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    commits: int = 0

    @property
    def commit(self) -> str:
        """The newest commit."""
        return hashlib.sha1(str(self.commits).encode()).hexdigest()

    @property
    def runtime(self) -> dict[str, Any]:
        """What the hub says about the machine."""
        return {
            "stage": "RUNNING",
            "hardware": {"current": self.hardware, "requested": self.hardware},
            "gcTimeout": self.sleep_time,
            "storage": None,
            "volumes": self.volumes or None,
        }


class SpaceHub:
    """Serves Spaces on a port of its own while the `with` block lasts."""

    def __init__(self) -> None:
        self.spaces: dict[str, FakeSpace] = {}
        self.requests: list[tuple[str, str]] = []
        self.role = "write"
        self.fail_at: int | None = None
        """The how manieth writing request, from 0, fails."""
        self.failure: tuple[int, str] = (500, "")
        self.blobs: dict[str, bytes] = {}
        hub = self

        class Handler(_Handler):
            space_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def writes(self) -> list[tuple[str, str]]:
        """All requests that may change something."""
        return [request for request in self.requests if request[0] != "GET"]

    def __enter__(self) -> SpaceHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    space_hub: SpaceHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.space_hub
        path = unquote(urlsplit(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        number = len(hub.writes)
        hub.requests.append((self.command, path))
        if self.command != "GET" and number == hub.fail_at:
            self._fail(*hub.failure)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}" and not path.startswith("upload/"):
            self._fail(401, "Invalid credentials in Authorization header")
        else:
            self._route(path, body)

    def _route(self, path: str, body: bytes) -> None:
        hub = self.space_hub
        parts = path.split("/")
        if path == "api/whoami-v2":
            self._send({"name": "someone", "auth": {"accessToken": {"role": hub.role}}})
        elif path == "api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif path == "api/repos/create":
            wish = json.loads(body)
            name = f"{wish['organization']}/{wish['name']}"
            hub.spaces[name] = FakeSpace(visibility=wish["visibility"])
            self._send({"url": f"{hub.url}/spaces/{name}"})
        elif parts[0] == "upload":
            hub.blobs[parts[1]] = body
            self._send({})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._send({"transfer": "basic", "objects": [self._object(o) for o in json.loads(body)["objects"]]})
        elif parts[:2] == ["api", "spaces"] and "/".join(parts[2:4]) in hub.spaces:
            self._answer_space(hub.spaces["/".join(parts[2:4])], "/".join(parts[2:4]), parts[4:], body)
        else:
            self._send({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _object(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.space_hub.blobs:
            return wanted  # it is there
        return wanted | {"actions": {"upload": {"href": f"{self.space_hub.url}/upload/{wanted['oid']}"}}}

    def _answer_space(self, space: FakeSpace, name: str, rest: list[str], body: bytes) -> None:
        what = (self.command, *rest[:1])
        wish = json.loads(body) if body and what != ("POST", "commit") else {}
        if what in (("GET",), ("GET", "revision")):
            private = space.visibility == "private"
            answer = {"id": name, "sha": space.commit, "private": private, "visibility": space.visibility}
            self._send(answer | {"siblings": [], "tags": [], "runtime": space.runtime})
            return
        if what == ("GET", "tree"):
            self._send([_entry(path, content) for path, content in space.files.items()])
            return
        if what == ("GET", "secrets"):
            self._send({key: {"description": None} for key in space.secrets})
            return
        if what == ("POST", "preupload"):
            self._send({"files": [_upload_mode(file["path"]) for file in wish["files"]]})
            return
        if what == ("POST", "commit"):
            self._commit(space, name, [json.loads(line) for line in body.splitlines()])
            return
        if what == ("PUT", "settings"):
            space.visibility = wish["visibility"]
        elif what[0] != "GET" and what[1] in ("variables", "secrets"):
            table: dict[str, str] = getattr(space, what[1])
            if what[0] == "POST":
                table[wish["key"]] = wish["value"]
            else:
                del table[wish["key"]]
        elif what == ("POST", "hardware"):
            space.hardware = wish["flavor"]
        elif what == ("POST", "sleeptime"):
            space.sleep_time = wish["seconds"]
        elif what == ("PUT", "volumes"):
            space.volumes = wish["volumes"]
        elif what == ("DELETE", "volumes"):
            space.volumes = []
        elif what not in (("GET", "runtime"), ("GET", "variables")):
            self._fail(404, "No such page")
            return
        if what[1:] == ("variables",):
            self._send({key: {"value": value} for key, value in space.variables.items()})
        else:
            self._send(space.runtime)

    def _commit(self, space: FakeSpace, name: str, lines: list[dict[str, Any]]) -> None:
        header, *operations = lines
        if header["value"].get("parentCommit") not in (None, space.commit):
            self._fail(412, "A commit has happened since")
            return
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                space.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                space.files[value["path"]] = self.space_hub.blobs[value["oid"]]
            else:
                del space.files[value["path"]]
        space.commits += 1
        url = f"{self.space_hub.url}/spaces/{name}/commit/{space.commit}"
        self._send({"commitUrl": url, "commitOid": space.commit, "pullRequestUrl": None})

    def _fail(self, status: int, message: str) -> None:
        self._send({"error": message}, status)

    def _send(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {**(headers or {}), "Content-Type": "application/json", "Content-Length": len(data)}.items():
            self.send_header(key, str(text))
        self.end_headers()
        self.wfile.write(data)


def _upload_mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(LARGE_SUFFIX) else "regular", "shouldIgnore": False}


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith(LARGE_SUFFIX):
        entry["oid"] = "0" * 40  # that of the pointer
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry
