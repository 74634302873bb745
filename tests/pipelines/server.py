"""A server that speaks as much of KFP's v2beta1 API as uploading pipelines and starting runs takes, and keeps state.

It is strict: bodies must parse into the client's generated models, packages into PipelineSpec, and the parameters of a
run must be those of its pipeline.
"""

import email
import json
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlparse

import kfp_server_api as api
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.runner.validate import read_documents, validate

PREFIX = "/apis/v2beta1"
MODELS = api.ApiClient()
KINDS = pipeline_spec_pb2.ParameterType


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Raw(NamedTuple):
    data: str


class Kubeflow(ThreadingHTTPServer):
    """The server.

    Attributes:
        token: What requests must bear; none is needed where it is empty.
        page: Not the API answers, but a web page.
        requests: Method and path of everything that was asked.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.page = "", False
        self.over = threading.Event()
        self.requests: list[str] = []
        self.experiments: dict[str, Any] = {}
        self.pipelines: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def get(self, path: list[str], query: Mapping[str, str]) -> Any:
        match path:
            case ["healthz"]:
                return api.V2beta1GetHealthzResponse(multi_user=False)
            case ["experiments"]:
                found = _filtered(self.experiments, query)
                return api.V2beta1ListExperimentsResponse(experiments=found, total_size=len(found))
            case ["pipelines"]:
                found = _filtered(self.pipelines, query)
                return api.V2beta1ListPipelinesResponse(pipelines=found, total_size=len(found))
            case ["pipelines", pipeline, "versions"]:
                found = [one for one in self.versions.values() if one.pipeline_id == pipeline]
                return api.V2beta1ListPipelineVersionsResponse(pipeline_versions=found, total_size=len(found))
            case ["pipelines", pipeline] if pipeline in self.pipelines:
                return self.pipelines[pipeline]
            case ["runs", run] if run in self.runs:
                return self.runs[run]
        raise Refused(404, f"there is no {'/'.join(path)}")

    def post(self, path: list[str], query: Mapping[str, str], content_type: str, body: bytes) -> Any:
        match path:
            case ["experiments"]:
                made = _parsed("V2beta1Experiment", body)
                return _kept(self.experiments, made, "experiment_id")
            case ["pipelines", "upload"]:
                package = _package(content_type, body)
                made = api.V2beta1Pipeline(display_name=query["name"])
                _kept(self.pipelines, made, "pipeline_id")
                self._keep_version(made.pipeline_id, query["name"], package)
                return made
            case ["pipelines", "upload_version"]:
                if query["pipelineid"] not in self.pipelines:
                    raise Refused(404, "no such pipeline")
                return self._keep_version(query["pipelineid"], query["name"], _package(content_type, body))
            case ["runs"]:
                return self._run(_parsed("V2beta1Run", body))
        raise Refused(404, f"there is no {'/'.join(path)}")

    def _keep_version(self, pipeline: str, name: str, package: dict[str, Any]) -> Any:
        made = api.V2beta1PipelineVersion(pipeline_id=pipeline, display_name=name, pipeline_spec=package)
        return _kept(self.versions, made, "pipeline_version_id")

    def _run(self, run: Any) -> Any:
        if run.experiment_id not in self.experiments:
            raise Refused(400, "no such experiment")
        reference = run.pipeline_version_reference
        package = self.versions[reference.pipeline_version_id].pipeline_spec if reference else run.pipeline_spec
        documents = [package["pipeline_spec"], package["platform_spec"]] if "pipeline_spec" in package else [package]
        inputs = validate(documents, "the run's pipeline").root.input_definitions.parameters
        given = run.runtime_config.parameters or {}
        for name, value in given.items():
            if name not in inputs:
                raise Refused(400, f"parameter {name} is not an input of the pipeline")
            if not _fits(value, inputs[name].parameter_type):
                raise Refused(
                    400,
                    f"parameter {name}: {value!r} is no {KINDS.ParameterTypeEnum.Name(inputs[name].parameter_type)}",
                )
        missing = [name for name, spec in inputs.items() if not spec.is_optional and name not in given]
        if missing:
            raise Refused(400, f"parameter {missing[0]} is missing")
        run.state, run.storage_state = "PENDING", "AVAILABLE"
        return _kept(self.runs, run, "run_id")


class Handler(BaseHTTPRequestHandler):
    """Requests to the server: who may ask, what is asked, and planted faults."""

    server: Kubeflow
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.requests.append(f"{self.command} {url.path.removeprefix(PREFIX)}")
        try:
            self._send(200, MODELS.sanitize_for_serialization(self._dispatch(url.path, query, body)))
        except Refused as refused:
            self._send(refused.status, {"code": 3, "message": str(refused), "details": []})

    def _dispatch(self, path: str, query: Mapping[str, str], body: bytes) -> Any:
        if self.server.page or not path.startswith(PREFIX):
            return "<html>Welcome</html>"
        if self.server.token and self.headers.get("authorization") != f"Bearer {self.server.token}":
            raise Refused(401, "the token is expired")
        steps = path.removeprefix(f"{PREFIX}/").split("/")
        if self.command == "GET":
            return self.server.get(steps, query)
        return self.server.post(steps, query, self.headers["Content-Type"], body)

    def _send(self, status: int, content: Any) -> None:
        page = isinstance(content, str)
        body = content.encode() if page else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _kept(place: dict[str, Any], made: Any, key: str) -> Any:
    identity = str(uuid.uuid4())
    setattr(made, key, identity)
    made.created_at = datetime.now(UTC)
    place[identity] = made
    return made


def _filtered(place: Mapping[str, Any], query: Mapping[str, str]) -> list[Any]:
    """What has the name that the filter asks for."""
    names = [one["stringValue"] for one in json.loads(query.get("filter", "{}")).get("predicates", [])]
    return [one for one in place.values() if all(one.display_name == name for name in names)]


def _parsed(model: str, body: bytes) -> Any:
    """The body as a model of the client; a field that the model lacks is refused, as the real server does."""
    known = {name for pair in getattr(api, model).attribute_map.items() for name in pair}
    unknown = set(json.loads(body)) - known
    if unknown:
        raise Refused(400, f"{model}: unknown {', '.join(sorted(unknown))}")
    return MODELS.deserialize(Raw(body.decode()), model)


def _package(content_type: str, body: bytes) -> dict[str, Any]:
    """The uploaded file, checked."""
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    (file,) = [part for part in message.get_payload() if part.get_filename()]
    documents = read_documents(file.get_payload(decode=True).decode())
    validate(documents, "the uploaded file")
    json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    return dict(zip(("pipeline_spec", "platform_spec"), documents, strict=False))


def _fits(value: Any, kind: int) -> bool:
    if kind == KINDS.STRING:
        return isinstance(value, str)
    if kind in (KINDS.NUMBER_INTEGER, KINDS.NUMBER_DOUBLE):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {KINDS.BOOLEAN: bool, KINDS.LIST: list, KINDS.STRUCT: dict}[kind])
