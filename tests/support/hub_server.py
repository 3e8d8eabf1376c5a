"""A Hub on loopback, as far as publishing and loading models goes, for the real `huggingface_hub` client to talk to.

It keeps what the real one promises: tokens have roles and owners, large files arrive by git-LFS and are checked by
size and sha256, a commit names only large files that have arrived, cards must be valid, and a revision is what a commit
made it. Faults come on demand, with `fail`, `drop`, `hang` and `lose_answer`. What was received is kept byte by byte,
to be looked through.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer

from hub_handler import OWNER, Handler, key_of

# Of the form of a token, and nobody's: made here, so that no search for secrets finds one in this file.
WRITE_TOKEN, READ_TOKEN = (f"hf_{role * 6}" for role in ("write", "readonly"))
__all__ = ["OWNER", "READ_TOKEN", "WRITE_TOKEN", "HubServer"]


@dataclass
class Request:
    """One call as it arrived. `body` holds as much of it as was read."""

    method: str
    path: str
    body: bytes
    status: int | None = None


@dataclass
class Fault:
    method: str
    pattern: str
    times: int
    status: int | None = None
    after_bytes: int | None = None  # then the connection breaks off; None: once the call was served
    message: str = ""
    silent: bool = False
    healed: threading.Event = field(default_factory=threading.Event)


@dataclass
class Repo:
    """Files of each branch by path; a large one is held by its sha256."""

    kind: str = "model"
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)  # sha → path → (mode, object id)

    def commit(self, branch: str, files: dict[str, tuple[str, str]]) -> str:
        content = json.dumps([self.branches.get(branch), len(self.commits), sorted(files.items())])
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha


class HubServer:
    """Runs in a thread of its own from `start` to `stop`. `endpoint` is what HF_ENDPOINT should be."""

    def __init__(self) -> None:
        self.tokens = {WRITE_TOKEN: "write", READ_TOKEN: "read"}
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}  # small files by git's sha1
        self.large: dict[str, bytes] = {}  # large files by sha256
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.hub = self
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"
        # Large files lie with another host, which must not see the token.
        self.storage = f"http://localhost:{self._http.server_port}/storage"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.heal()
        self._http.shutdown()
        self._http.server_close()

    def fail(self, method: str, pattern: str, status: int, times: int = 10**9, message: str = "asked for") -> None:
        """Answer calls whose path matches `pattern` with `status` and `message`."""
        self.faults.append(Fault(method, pattern, times, status, message=message))

    def send_elsewhere(self, method: str, pattern: str, times: int = 10**9) -> None:
        """Redirect calls whose path matches `pattern` to another host, where nothing is found."""
        self.faults.append(Fault(method, pattern, times, 307))

    def drop(self, method: str, pattern: str, after_bytes: int = 0, times: int = 10**9) -> None:
        """Break off the connection of calls whose path matches `pattern`, that many bytes into their body."""
        self.faults.append(Fault(method, pattern, times, after_bytes=after_bytes))

    def lose_answer(self, method: str, pattern: str, times: int = 1) -> None:
        """Do what calls whose path matches `pattern` ask for, and break off the connection instead of an answer."""
        self.faults.append(Fault(method, pattern, times))

    def hang(self, method: str, pattern: str, times: int = 10**9) -> None:
        """Take calls whose path matches `pattern`, and do not answer; `heal` breaks their connections off."""
        self.faults.append(Fault(method, pattern, times, silent=True))

    def heal(self) -> None:
        healed, self.faults = self.faults, []
        for fault in healed:
            fault.healed.set()

    def make_repo(self, name: str, kind: str = "model", private: bool = False) -> Repo:
        repo = self.repos[key_of(name, kind)] = Repo(kind, private)
        repo.commit("main", {})
        return repo

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """What a repo holds, by path; the name of a Space is `spaces/OWNER/NAME`."""
        repo = self.repos[name]
        files = repo.commits[repo.branches[revision]]
        return {path: self.content(*entry) for path, entry in files.items()}

    def content(self, mode: str, oid: str) -> bytes:
        return self.large[oid] if mode == "lfs" else self.blobs[oid]

    def calls(self, method: str, pattern: str) -> list[Request]:
        return [call for call in self.requests if call.method == method and re.search(pattern, call.path)]

    def received(self) -> bytes:
        """All bytes that ever came in as bodies, with base64 inside commits taken out of it."""
        parts = []
        for call in self.requests:
            parts += [call.path.encode(), call.body]
            if "/commit/" in call.path:
                lines = (json.loads(line) for line in call.body.splitlines())
                parts += [base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"]
            if "/preupload/" in call.path and call.body:
                parts += [base64.b64decode(file["sample"]) for file in json.loads(call.body)["files"]]
        return b"\n".join(parts)

    def receive(self, method: str, path: str) -> tuple[Request, Fault | None]:
        """Note a call, and the fault that was asked for where there is one."""
        call = Request(method, path, b"")
        with self.lock:
            self.requests.append(call)
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.pattern, path):
                    fault.times -= 1
                    return call, fault
        return call, None
