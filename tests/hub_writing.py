"""The write requests of the fake hub: login, new repositories and branches, uploads and commits.

The protocol is that of huggingface_hub's `create_repo`, `create_branch` and `upload_folder`: small files go inside the
commit, large ones first to a store of objects by their SHA-256 (Git LFS), which the commit then names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from tests.hub_server import Hub

_WRITES = re.compile(
    r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<what>preupload|commit|branch|settings|refs)(?:/(?P<revision>[^/]+))?"
)
_BATCH = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
_OBJECT = re.compile(r"/store/(?P<oid>[0-9a-f]{64})(?P<verify>/verify)?")


@dataclass
class Writing:
    """The users (by token), the folder of new repositories, the private repositories, and what was written.

    A user may write to repositories of their own name and of their organizations.
    """

    folder: Path
    users: dict[str, str]
    organizations: dict[str, list[str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    large: int = 2000
    """Files of at least this many bytes are uploaded to the store, which the real hub requires for weights."""
    objects: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)
    """For each commit: repo, revision, summary, and file → upload mode ("regular" or "lfs")."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def may_write(self, user: str | None, owner: str) -> bool:
        """Return whether `user` may write to the repositories of `owner`."""
        return user is not None and owner in (user, *self.organizations.get(user, []))

    def hidden(self, repo: str, token: str | None) -> bool:
        """Return whether `repo` is private and `token` gives no access to it."""
        return repo in self.private and not self.may_write(self.users.get(token or ""), repo.split("/")[0])


@dataclass(frozen=True)
class Answer:
    """A response: a status, and a JSON body or an error code of the hub."""

    status: int
    body: Any = None
    code: str = ""


FORBIDDEN = Answer(403, {"error": "You don't have the rights"}, "Forbidden")


def answer(hub: Hub, method: str, path: str, token: str | None, body: bytes) -> Answer | None:
    """Return the response to a write request; None for other requests."""
    writing = hub.writing
    if writing is None:
        return None
    user = writing.users.get(token or "")
    if path == "/api/whoami-v2":
        return _who(writing, user)
    if path == "/api/repos/create":
        return _create(hub, writing, user, json.loads(body))
    if path == "/api/validate-yaml":
        return Answer(200, {"errors": [], "warnings": []})
    if found := _OBJECT.fullmatch(path):
        return _store(writing, method, found["oid"], body, verify=found["verify"] is not None)
    if found := _BATCH.fullmatch(path):
        if not writing.may_write(user, found["repo"].split("/")[0]):
            return FORBIDDEN
        return _batch(hub, writing, json.loads(body))
    found = _WRITES.fullmatch(path)
    if found is None:
        return None
    repo, what, revision = found["repo"], found["what"], unquote(found["revision"] or "main")
    if hub.find(repo, None) is None or writing.hidden(repo, token):
        return Answer(404, {"error": "Repository not found"}, "RepoNotFound")
    if not writing.may_write(user, repo.split("/")[0]):
        return FORBIDDEN
    if what == "settings":
        (writing.private.discard if json.loads(body)["visibility"] == "public" else writing.private.add)(repo)
        return Answer(200, {})
    if what == "branch":
        return _branch(hub, writing, repo, revision)
    if (place := hub.find(repo, revision)) is None:
        return Answer(404, code="RevisionNotFound")
    if what == "preupload":
        return Answer(200, {"files": [_mode(file, writing.large) for file in json.loads(body)["files"]]})
    if what == "commit":
        return _commit(hub, writing, repo, revision, place[0], body)
    return None


def _who(writing: Writing, user: str | None) -> Answer:
    if user is None:
        return Answer(401, {"error": "Invalid credentials in Authorization header"}, "Unauthorized")
    organizations = [{"name": name} for name in writing.organizations.get(user, [])]
    return Answer(200, {"name": user, "type": "user", "orgs": organizations})


def _create(hub: Hub, writing: Writing, user: str | None, request: dict[str, Any]) -> Answer:
    owner = request.get("organization") or user
    repo = f"{owner}/{request['name']}"
    if not writing.may_write(user, str(owner)):
        return FORBIDDEN
    address = {"url": f"{hub.endpoint}/{repo}"}
    if hub.find(repo, None) is not None:
        return Answer(409, address | {"error": "You already created this model repo"})
    folder = writing.folder / repo
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("*.msgpack filter=lfs\n")
    hub.repositories[repo] = folder
    if request.get("visibility") == "private":
        writing.private.add(repo)
    return Answer(200, address)


def _branch(hub: Hub, writing: Writing, repo: str, branch: str) -> Answer:
    if hub.find(repo, branch) is not None:
        return Answer(409, {"error": "Reference already exists"})
    if " " in branch:
        return Answer(400, {"error": "Invalid reference name"})
    place = hub.find(repo, None)
    assert place
    hub.repositories[f"{repo}@{branch}"] = shutil.copytree(place[0], writing.folder / f"{repo}@{branch}")
    return Answer(201, {})


def _mode(file: dict[str, Any], large: int) -> dict[str, Any]:
    mode = "lfs" if file["size"] >= large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def _batch(hub: Hub, writing: Writing, request: dict[str, Any]) -> Answer:
    objects = []
    for wanted in request["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in writing.objects:
            at = f"{hub.endpoint}/store/{wanted['oid']}"
            entry["actions"] = {"upload": {"href": at}, "verify": {"href": f"{at}/verify"}}
        objects.append(entry)
    return Answer(200, {"transfer": "basic", "objects": objects})


def _store(writing: Writing, method: str, oid: str, body: bytes, *, verify: bool) -> Answer:
    if verify:
        held = writing.objects.get(oid)
        return Answer(200 if held is not None and len(held) == json.loads(body)["size"] else 404, {})
    if method != "PUT" or hashlib.sha256(body).hexdigest() != oid:
        return Answer(400, {"error": "The content has another SHA-256"})
    with writing.lock:
        writing.objects[oid] = body
    return Answer(200, {})


def _commit(hub: Hub, writing: Writing, repo: str, revision: str, folder: Path, body: bytes) -> Answer:
    lines = [json.loads(line) for line in body.splitlines()]
    assert lines[0]["key"] == "header"
    contents: dict[str, tuple[str, bytes]] = {}
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "file":
            contents[value["path"]] = ("regular", base64.b64decode(value["content"]))
        elif value["oid"] not in writing.objects:
            return Answer(400, {"error": f"{value['path']} is not in the store"})
        else:
            contents[value["path"]] = ("lfs", writing.objects[value["oid"]])
    for path, (_, content) in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    ways = {path: way for path, (way, _) in contents.items()}
    summary = lines[0]["value"]["summary"]
    writing.commits.append({"repo": repo, "revision": revision, "summary": summary, "files": ways})
    oid = hashlib.sha1(f"{repo} {revision} {len(writing.commits)}".encode()).hexdigest()
    hub.heads[repo if revision == "main" else f"{repo}@{revision}"] = oid
    return Answer(200, {"commitUrl": f"{hub.endpoint}/{repo}/commit/{oid}", "commitOid": oid})
