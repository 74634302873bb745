"""As much of a Kubernetes API server as `kubectl apply` talks to: it tells which kinds it knows, and keeps objects."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

CLUSTER_WIDE = ("Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding")
OBJECT = re.compile(
    r"/(?:api|apis)/(?P<version>.+?)(?:/namespaces/(?P<space>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)


class ApiServer:
    """The server, for a `with` block.

    Args:
        kinds: The (apiVersion, kind) that it knows.

    Attributes:
        objects: From address to object, in the order they were made.
        requests: Method and path of each request for objects.
        refused: Kinds that it refuses, as an admission rule does.
    """

    def __init__(self, kinds: set[tuple[str, str]]) -> None:
        self.kinds, self.refused = kinds, set[str]()
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer("GET", None)

            def do_POST(self) -> None:
                self._answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

            def do_PATCH(self) -> None:
                self._answer("PATCH", self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, method: str, body: bytes | None) -> None:
                code, content = outer.answer(method, urlsplit(self.path).path, json.loads(body) if body else None)
                sent = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ApiServer":
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        groups = sorted({version.partition("/")[0] for version, _ in self.kinds if "/" in version})
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(group) for group in groups]}
        if path.removeprefix("/apis/").removeprefix("/api/") in {version for version, _ in self.kinds}:
            return 200, self._resources(path.removeprefix("/apis/").removeprefix("/api/"))
        if not OBJECT.fullmatch(path):
            return _status(404, f"no such path {path}")
        self.requests.append((method, path))
        if method == "GET":
            return (200, self.objects[path]) if path in self.objects else _status(404, f"{path} not found")
        if method == "POST":
            if body["kind"] in self.refused:
                return _status(403, f"{body['kind']} is forbidden here")
            place = f"{path}/{body['metadata']['name']}"
            space = body["metadata"].get("namespace")
            if space and f"/api/v1/namespaces/{space}" not in self.objects and space != "kubeflow":
                return _status(404, f'namespaces "{space}" not found')
            self.objects[place] = body
            return 201, body
        return _status(405, f"{method} {path}")

    def _group(self, group: str) -> dict[str, Any]:
        versions = sorted({version for version, _ in self.kinds if version.startswith(f"{group}/")})
        told = [{"groupVersion": version, "version": version.partition("/")[2]} for version in versions]
        return {"name": group, "versions": told, "preferredVersion": told[0]}

    def _resources(self, version: str) -> dict[str, Any]:
        found = [
            {"name": plural(kind), "kind": kind, "namespaced": kind not in CLUSTER_WIDE, "verbs": ["create", "get"]}
            for of, kind in sorted(self.kinds)
            if of == version
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}


def plural(kind: str) -> str:
    """The name of a kind in paths."""
    word = kind.lower()
    return f"{word[:-1]}ies" if word.endswith("cy") else f"{word}es" if word.endswith("s") else f"{word}s"


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    reason = {403: "Forbidden", 404: "NotFound"}.get(code, "MethodNotAllowed")
    failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return code, {**failure, "message": message, "reason": reason, "code": code}
