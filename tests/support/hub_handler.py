"""The calls of the Hub's HTTP interface that `hub_server` answers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from hub_cards import card_errors
from hub_faults import FaultyHandler, Refusal

if TYPE_CHECKING:
    from hub_server import Repo

OWNER = "tester"
LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".png", ".pt", ".pth")
SDKS = ("gradio", "docker", "static")
REGULAR_LIMIT = 10 * 2**20


class Handler(FaultyHandler):
    """One method for each call."""

    kind = "model"  # of the repo that a call is about

    def _answer(self, path: str, query: dict[str, list[str]], body: bytes) -> object:
        # Spaces have the calls of models, at addresses of their own.
        space = re.match(r"/(api/)?spaces/", path)
        self.kind = "space" if space else "model"
        if space:
            path = f"/api/models/{path[space.end() :]}" if space[1] else f"/{path[space.end() :]}"
        routes = (
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", self._validate),
            ("GET", r"/api/whoami-v2", self._whoami),
            ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/auth-check(?P<write>/write)?", self._auth_check),
            ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/branch/(?P<branch>.+)", self._branch),
            ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/preupload/(?P<revision>.+)", self._preupload),
            ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/commit/(?P<revision>.+)", self._commit),
            ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", self._tree),
            ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/paths-info/(?P<revision>.+)", self._paths_info),
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
        raise Refusal(404, "Sorry, we can't find the page you are looking for.")

    def _role(self) -> str | None:
        header = self.headers.get("Authorization", "")
        if not header:
            return None
        if header.removeprefix("Bearer ") not in self.hub.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[header.removeprefix("Bearer ")]

    def _repo(self, name: str, write: bool = False) -> Repo:
        role, repo = self._role(), self.hub.repos.get(key_of(name, self.kind))
        if repo is None or repo.kind != self.kind or (repo.private and role is None):
            raise Refusal(401 if role is None else 404, "Repository not found", "RepoNotFound")
        if write and (role != "write" or not name.startswith(f"{OWNER}/")):
            raise Refusal(401 if role is None else 403, "you must use a write token to do that")
        return repo

    def _revision(self, repo: Repo, revision: str) -> str:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def _create(self, body: bytes) -> object:
        wanted, role = json.loads(body), self._role()
        if role is None:
            raise Refusal(401, "Invalid username or password.")
        owner = wanted.get("organization") or OWNER
        if role != "write" or owner != OWNER:
            raise Refusal(403, "You don't have the rights to create a model under this namespace")
        name = f"{owner}/{wanted['name']}"
        kind = wanted.get("type", "model")
        if kind == "space" and wanted.get("sdk") not in SDKS:
            raise Refusal(400, "a Space needs an SDK")
        found = self.hub.repos.get(key_of(name, kind))
        kind = found.kind if found else kind
        url = f"{self.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
        if found:
            return 409, {"error": f"You already created this {kind} repo", "url": url}, {}
        self.hub.make_repo(name, kind, wanted.get("visibility") == "private" or bool(wanted.get("private")))
        return {"url": url, "name": name, "id": name}

    def _validate(self, body: bytes) -> object:
        card = json.loads(body)
        errors = list(card_errors(card["content"], card.get("repoType", "model")))
        problems = [{"message": error} for error in errors]
        return (400 if errors else 200), {"errors": problems, "warnings": []}, {}

    def _whoami(self, body: bytes) -> object:
        role = self._role()
        if role is None:
            raise Refusal(401, "Invalid username or password.")
        token = {"displayName": "test", "role": role}
        return {"type": "user", "name": OWNER, "orgs": [], "auth": {"type": "access_token", "accessToken": token}}

    def _auth_check(self, body: bytes, name: str, write: str = "") -> object:
        self._repo(name, write=bool(write))
        return {}

    def _branch(self, body: bytes, name: str, branch: str) -> object:
        repo = self._repo(name, write=True)
        if branch in repo.branches:
            raise Refusal(409, f"Reference already exists: {branch}")
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

    def _paths_info(self, body: bytes, name: str, revision: str) -> object:
        wanted = parse_qs(body.decode()).get("paths", [])
        return [entry for entry in self._tree(b"", name, revision) if entry["path"] in wanted]

    def _preupload(self, body: bytes, name: str, revision: str) -> object:
        repo = self._repo(name, write=True)
        there = repo.commits[self._revision(repo, revision)]
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": upload_mode(file["path"], file["size"], base64.b64decode(file["sample"])),
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
            raise Refusal(422, "only uploads of sha256 objects by the basic transfer")
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
            raise Refusal(400, "the content is not what was announced")
        self.hub.large[oid] = body
        return b""

    def _stored(self, body: bytes, oid: str) -> object:
        self._require_signature()
        return 200, self.hub.large[oid], {}

    def _require_signature(self) -> None:
        if "signature=secret" not in self.path or "Authorization" in self.headers:
            raise Refusal(403, "only by the signed address, and without a token")

    def _lfs_verify(self, body: bytes, name: str) -> object:
        self._repo(name, write=True)
        item = json.loads(body)
        if len(self.hub.large.get(item["oid"], b"")) != item["size"]:
            raise Refusal(422, "the object has not arrived")
        return {}

    def _commit(self, body: bytes, name: str, revision: str) -> object:
        repo = self._repo(name, write=True)
        if revision not in repo.branches:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["key"] != "header" or not header["value"]["summary"]:
            raise Refusal(400, "a commit starts with its header")
        files = dict(repo.commits[repo.branches[revision]])
        stored = {}
        for operation in operations:
            key, value = operation["key"], operation["value"]
            if key == "file":
                content = base64.b64decode(value["content"], validate=True)
                if upload_mode(value["path"], len(content), content[:512]) == "lfs":
                    raise Refusal(400, f"{value['path']} is binary or large: upload it by LFS")
                if value["path"] == "README.md" and (errors := list(card_errors(content.decode(), self.kind))):
                    raise Refusal(400, "; ".join(errors))
                oid = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
                stored[oid] = content
                files[value["path"]] = ("regular", oid)
            elif key == "lfsFile":
                if value["algo"] != "sha256" or value["oid"] not in self.hub.large:
                    raise Refusal(400, f"the LFS object of {value['path']} has not arrived")
                files[value["path"]] = ("lfs", value["oid"])
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise Refusal(400, f"unknown operation {key}")
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


def key_of(name: str, kind: str) -> str:
    """What `HubServer.repos` has a repo under: a Space may have the name of a model."""
    return f"spaces/{name}" if kind == "space" else name


def upload_mode(path: str, size: int, sample: bytes) -> str:
    return "lfs" if path.endswith(LFS_SUFFIXES) or size > REGULAR_LIMIT or b"\0" in sample else "regular"
