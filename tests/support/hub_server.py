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
import os
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

# Of the form of a token, and nobody's: made here, so that no search for secrets finds one in this file.
WRITE_TOKEN, READ_TOKEN = (f"hf_{role * 6}" for role in ("write", "readonly"))
OWNER = "tester"
LICENSES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-sa-3.0", "other", "unknown")
LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".png", ".pt", ".pth")
REGULAR_LIMIT = 10 * 2**20


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
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
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
        repo = self.repos[name] = Repo(kind, private)
        repo.commit("main", {})
        return repo

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """What a repo holds, by path."""
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


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _BrokenOff(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _BrokenOff:
            # Linger for no time: the client sees a reset, not a polite end.
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            self.close_connection = True
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        call = Request(self.command, path, b"")
        with self.hub.lock:
            self.hub.requests.append(call)
            fault = next(
                (
                    fault
                    for fault in self.hub.faults
                    if fault.times > 0 and fault.method == self.command and re.search(fault.pattern, path)
                ),
                None,
            )
            if fault:
                fault.times -= 1
        if fault and fault.silent:
            fault.healed.wait()
            raise _BrokenOff
        if fault and fault.after_bytes is not None:
            call.body = self._read_body(fault.after_bytes)
            raise _BrokenOff
        call.body = self._read_body()
        try:
            if fault and fault.status is not None:
                raise _Refusal(fault.status, fault.message)
            with self.hub.lock:
                answer = self._answer(path, parse_qs(url.query), call.body)
        except _Refusal as refusal:
            call.status = refusal.status
            headers = {"X-Error-Message": str(refusal)} if str(refusal).isprintable() else {}
            headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
            headers |= {"Location": f"{self.hub.storage}/elsewhere"} if refusal.status == 307 else {}
            self._send(refusal.status, json.dumps({"error": str(refusal)}).encode(), headers)
            return
        if fault:
            raise _BrokenOff
        status, content, headers = answer if isinstance(answer, tuple) else (200, answer, {})
        call.status = status
        self._send(status, content if isinstance(content, bytes) else json.dumps(content).encode(), headers)

    def _read_body(self, most: int | None = None) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if most is not None and len(body) >= most:
                    return body[:most]
            self.rfile.readline()
            return body
        size = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(size if most is None else min(size, most))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # What each call does.

    def _answer(self, path: str, query: dict[str, list[str]], body: bytes) -> object:
        routes = (
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", self._validate),
            ("GET", r"/api/whoami-v2", self._whoami),
            ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/auth-check(?P<write>/write)?", self._auth_check),
            ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/branch/(?P<branch>.+)", self._branch),
            ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/preupload/(?P<revision>.+)", self._preupload),
            ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/commit/(?P<revision>.+)", self._commit),
            ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", self._tree),
            ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)(/revision/(?P<revision>.+))?", self._info),
            ("POST", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", self._lfs_batch),
            ("POST", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/verify", self._lfs_verify),
            ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})/(?P<size>\d+)", self._store),
            ("GET", r"/storage/(?P<oid>[0-9a-f]{64})", self._stored),
            ("GET", r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self._resolve),
        )
        method = "GET" if self.command == "HEAD" else self.command
        for allowed, pattern, serve in routes:
            if method == allowed and (match := re.fullmatch(pattern, path)):
                return serve(body, **{name: value for name, value in match.groupdict().items() if value is not None})
        raise _Refusal(404, "Sorry, we can't find the page you are looking for.")

    def _role(self) -> str | None:
        header = self.headers.get("Authorization", "")
        if not header:
            return None
        if header.removeprefix("Bearer ") not in self.hub.tokens:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[header.removeprefix("Bearer ")]

    def _repo(self, name: str, write: bool = False) -> Repo:
        role, repo = self._role(), self.hub.repos.get(name)
        if repo is None or repo.kind != "model" or (repo.private and role is None):
            raise _Refusal(401 if role is None else 404, "Repository not found", "RepoNotFound")
        if write and (role != "write" or not name.startswith(f"{OWNER}/")):
            raise _Refusal(401 if role is None else 403, "you must use a write token to do that")
        return repo

    def _revision(self, repo: Repo, revision: str) -> str:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def _create(self, body: bytes) -> object:
        wanted, role = json.loads(body), self._role()
        if role is None:
            raise _Refusal(401, "Invalid username or password.")
        owner = wanted.get("organization") or OWNER
        if role != "write" or owner != OWNER:
            raise _Refusal(403, "You don't have the rights to create a model under this namespace")
        name = f"{owner}/{wanted['name']}"
        found = self.hub.repos.get(name)
        kind = found.kind if found else wanted.get("type", "model")
        url = f"{self.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
        if found:
            return 409, {"error": f"You already created this {kind} repo", "url": url}, {}
        self.hub.make_repo(name, kind, wanted.get("visibility") == "private" or bool(wanted.get("private")))
        return {"url": url, "name": name, "id": name}

    def _validate(self, body: bytes) -> object:
        errors = list(_card_errors(json.loads(body)["content"]))
        problems = [{"message": error} for error in errors]
        return (400 if errors else 200), {"errors": problems, "warnings": []}, {}

    def _whoami(self, body: bytes) -> object:
        role = self._role()
        if role is None:
            raise _Refusal(401, "Invalid username or password.")
        token = {"displayName": "test", "role": role}
        return {"type": "user", "name": OWNER, "orgs": [], "auth": {"type": "access_token", "accessToken": token}}

    def _auth_check(self, body: bytes, name: str, write: str = "") -> object:
        self._repo(name, write=bool(write))
        return {}

    def _branch(self, body: bytes, name: str, branch: str) -> object:
        repo = self._repo(name, write=True)
        if branch in repo.branches:
            raise _Refusal(409, f"Reference already exists: {branch}")
        repo.branches[branch] = self._revision(repo, json.loads(body or b"{}").get("startingPoint", "main"))
        return {}

    def _info(self, body: bytes, name: str, revision: str = "main") -> object:
        repo = self._repo(name)
        sha = self._revision(repo, revision)
        siblings = [{"rfilename": path} for path in sorted(repo.commits[sha])]
        return {"_id": "0" * 24, "id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings}

    def _tree(self, body: bytes, name: str, revision: str, folder: str = "") -> object:
        repo = self._repo(name)
        entries = []
        for path, (mode, oid) in sorted(repo.commits[self._revision(repo, revision)].items()):
            if not path.startswith(folder.lstrip("/")):
                continue
            size = len(self.hub.content(mode, oid))
            entry = {"type": "file", "path": path, "size": size, "oid": oid[:40]}
            entries.append(entry | ({"lfs": {"oid": oid, "size": size, "pointerSize": 134}} if mode == "lfs" else {}))
        return entries

    def _preupload(self, body: bytes, name: str, revision: str) -> object:
        repo = self._repo(name, write=True)
        there = repo.commits[self._revision(repo, revision)]
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": _upload_mode(file["path"], file["size"], base64.b64decode(file["sample"])),
                    "shouldIgnore": False,
                    **({"oid": there[file["path"]][1]} if file["path"] in there else {}),
                }
                for file in json.loads(body)["files"]
            ]
        }

    def _lfs_batch(self, body: bytes, name: str) -> object:
        self._repo(name, write=True)
        wanted = json.loads(body)
        if wanted["operation"] != "upload" or wanted["hash_algo"] != "sha256" or "basic" not in wanted["transfers"]:
            raise _Refusal(422, "only uploads of sha256 objects by the basic transfer")
        objects = []
        for item in wanted["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.large:
                upload = f"{self.hub.storage}/{item['oid']}/{item['size']}?signature=secret"
                verify = f"{self.hub.endpoint}/{name}.git/info/lfs/verify"
                answer |= {"authenticated": True, "actions": {"upload": {"href": upload}, "verify": {"href": verify}}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def _store(self, body: bytes, oid: str, size: str) -> object:
        self._require_signature()
        if len(body) != int(size) or hashlib.sha256(body).hexdigest() != oid:
            raise _Refusal(400, "the content is not what was announced")
        self.hub.large[oid] = body
        return b""

    def _stored(self, body: bytes, oid: str) -> object:
        self._require_signature()
        return 200, self.hub.large[oid], {}

    def _require_signature(self) -> None:
        if "signature=secret" not in self.path or "Authorization" in self.headers:
            raise _Refusal(403, "only by the signed address, and without a token")

    def _lfs_verify(self, body: bytes, name: str) -> object:
        self._repo(name, write=True)
        item = json.loads(body)
        if len(self.hub.large.get(item["oid"], b"")) != item["size"]:
            raise _Refusal(422, "the object has not arrived")
        return {}

    def _commit(self, body: bytes, name: str, revision: str) -> object:
        repo = self._repo(name, write=True)
        if revision not in repo.branches:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["key"] != "header" or not header["value"]["summary"]:
            raise _Refusal(400, "a commit starts with its header")
        files = dict(repo.commits[repo.branches[revision]])
        stored = {}
        for operation in operations:
            key, value = operation["key"], operation["value"]
            if key == "file":
                content = base64.b64decode(value["content"], validate=True)
                if _upload_mode(value["path"], len(content), content[:512]) == "lfs":
                    raise _Refusal(400, f"{value['path']} is binary or large: upload it by LFS")
                if value["path"] == "README.md" and (errors := list(_card_errors(content.decode()))):
                    raise _Refusal(400, "; ".join(errors))
                oid = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
                stored[oid] = content
                files[value["path"]] = ("regular", oid)
            elif key == "lfsFile":
                if value["algo"] != "sha256" or value["oid"] not in self.hub.large:
                    raise _Refusal(400, f"the LFS object of {value['path']} has not arrived")
                files[value["path"]] = ("lfs", value["oid"])
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise _Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise _Refusal(400, f"unknown operation {key}")
        self.hub.blobs |= stored
        sha = repo.commit(revision, files)
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}"}

    def _resolve(self, body: bytes, name: str, revision: str, file: str) -> object:
        repo = self._repo(name)
        sha = self._revision(repo, revision)
        if file not in repo.commits[sha]:
            content = json.dumps({"error": "Entry not found"}).encode()
            return 404, content, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
        mode, oid = repo.commits[sha][file]
        content = self.hub.content(mode, oid)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{oid}"', "Content-Type": "application/octet-stream"}
        if mode == "lfs":
            linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
            return 302, b"", headers | linked | {"Location": f"{self.hub.storage}/{oid}?signature=secret"}
        return 200, content, headers


def _upload_mode(path: str, size: int, sample: bytes) -> str:
    return "lfs" if path.endswith(LFS_SUFFIXES) or size > REGULAR_LIMIT or b"\0" in sample else "regular"


def _card_errors(content: str) -> Iterator[str]:
    """What is wrong with the metadata, by the specification of model cards (hub-docs, modelcard.md)."""
    block = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", content, re.DOTALL)
    if not block:
        return  # a card without metadata is allowed
    try:
        metadata = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        yield f"the metadata are not YAML: {error}"
        return
    if not isinstance(metadata, dict):
        yield "the metadata are not a mapping"
        return
    if "license" in metadata and metadata["license"] not in LICENSES:
        yield f'"license" must be one of {LICENSES}'
    for key in ("base_model", "datasets"):
        names = metadata.get(key, [])
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII):
                yield f'"{key}" with value "{name}" is not valid. Use an id of the Hub.'
    if not re.fullmatch(r"[a-z]{2,3}", str(metadata.get("language", "en"))):
        yield '"language" must be an ISO 639 code'
    for model in metadata.get("model-index", []):
        if not model.get("name") or not model.get("results"):
            yield '"model-index" needs a name and results'
        for result in model.get("results", []):
            if not result.get("task", {}).get("type"):
                yield '"model-index" result without a task type'
            if not all(result.get("dataset", {}).get(key) for key in ("type", "name")):
                yield '"model-index" result without type and name of its dataset'
            for metric in result.get("metrics", []) or [{}]:
                if not metric.get("type") or not isinstance(metric.get("value"), int | float | str):
                    yield '"model-index" metric without type and value'
