"""Submitting a recipe to a Kubeflow Pipelines server."""

import contextlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3

from modalrec.errors import ConfigError, UpstreamError
from pipelines.runner import recipes
from pipelines.runner.compile import compile_recipe, version_name

TOKEN = "KFP_TOKEN"  # noqa: S105  (the name of a variable)


@dataclass(frozen=True)
class Server:
    """A Kubeflow Pipelines server and who asks it.

    Attributes:
        endpoint: Address of the API or the UI.
        namespace: Where runs go, on a server with several users; it decides itself where there is none.
        service_account: Account of the run's pods; the server's default where there is none.
        timeout: Seconds to wait for each answer.
    """

    endpoint: str
    namespace: str | None = None
    service_account: str | None = None
    timeout: float = 30.0

    def submit(self, name: str, arguments: Mapping[str, Any], *, experiment: str, run_name: str) -> str:
        """Compiles a recipe, uploads it as a version of the recipe's pipeline, and starts a run of that version.

        A version is named after its content, so that the same recipe is uploaded once.

        Args:
            name: The recipe.
            arguments: The pipeline's parameters.
            experiment: Experiment that the run belongs to; created when missing.
            run_name: The run's name in the UI.

        Returns:
            The run's id.

        Raises:
            ConfigError: The recipe or a parameter is unknown, one is missing, or the server refuses them or the token.
            UpstreamError: The server does not answer, or not as it should.
        """
        recipes.check_arguments(recipes.load(name).pipeline, arguments)
        with tempfile.TemporaryDirectory(prefix="modalrec-") as folder, self._told():
            package = compile_recipe(name, Path(folder))
            client = self._client()
            made = client.create_experiment(experiment, namespace=self.namespace)
            pipeline, version = self._version(client, name, package)
            run = client.run_pipeline(
                made.experiment_id,
                run_name,
                params=dict(arguments),
                pipeline_id=pipeline,
                version_id=version,
                service_account=self.service_account,
            )
            return str(run.run_id)

    def _client(self) -> kfp.Client:
        """The client, once the server has answered: the client itself would wait and ask again for half a minute."""
        token = os.environ.get(TOKEN)
        address = f"{self.endpoint.rstrip('/')}/apis/v2beta1/healthz"
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = urllib3.PoolManager().request(
            "GET", address, headers=headers, timeout=self.timeout, retries=False, redirect=False
        )
        if answer.status != 200:
            raise kfp_server_api.ApiException(http_resp=_Answer(answer))
        json.loads(answer.data)
        client = kfp.Client(host=self.endpoint, namespace=self.namespace or "kubeflow", existing_token=token)
        rest = client._run_api.api_client.rest_client  # one for all parts of the API, and without any timeout
        rest.request = _limited(rest.request, self.timeout)
        return client

    def _version(self, client: kfp.Client, name: str, package: Path) -> tuple[str, str]:
        """The pipeline of the recipe and its version with this content, uploaded where they are not there."""
        version = version_name(name, package.read_text(encoding="utf-8"))
        wanted = {"predicates": [{"operation": 1, "key": "display_name", "stringValue": name}]}
        found = client.list_pipelines(filter=json.dumps(wanted), namespace=self.namespace).pipelines
        if found:
            pipeline = str(found[0].pipeline_id)
        else:
            pipeline = str(client.upload_pipeline(str(package), name, namespace=self.namespace).pipeline_id)
        known = client.list_pipeline_versions(pipeline, page_size=100, sort_by="created_at desc").pipeline_versions
        for one in known or []:
            if one.display_name == version:
                return pipeline, str(one.pipeline_version_id)
        made = client.upload_pipeline_version(str(package), version, pipeline_id=pipeline)
        return pipeline, str(made.pipeline_version_id)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what goes wrong into messages; what the client prints and warns of is not for the user."""
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except kfp_server_api.ApiException as error:
            said = f"{error.status} {error.reason}: {_message(error.body)}"
            if error.status in (401, 403):
                raise ConfigError(
                    f"{self.endpoint}: does not let you in ({said}); put a token that is valid now into {TOKEN}, and "
                    "check --namespace"
                ) from None
            if error.status and 400 <= error.status < 500 and error.status != 404:
                raise ConfigError(f"{self.endpoint}: refuses the run ({said}); correct the parameters") from None
            raise UpstreamError(
                f"{self.endpoint}: is there, but does not work as a Kubeflow Pipelines server ({said}); check the "
                "address, and `kubectl -n kubeflow logs deployment/ml-pipeline`"
            ) from None
        except (urllib3.exceptions.HTTPError, OSError, RuntimeError, ValueError) as error:
            cause = getattr(error, "reason", error)  # of requests that were tried several times
            if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
                raise UpstreamError(
                    f"{self.endpoint}: took the connection and did not answer within {self.timeout:g} s; look at "
                    "`kubectl -n kubeflow get pods`, or wait longer with --timeout"
                ) from None
            raise UpstreamError(
                f"{self.endpoint}: does not answer as a Kubeflow Pipelines server ({error}); check the address, for "
                "example with `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80` and http://localhost:8080"
            ) from None


class _Answer:
    """An answer of urllib3 in the form that the client's exceptions read."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self.status, self.reason, self.data = answer.status, answer.reason, answer.data.decode(errors="replace")
        self.getheaders = lambda: answer.headers


def _limited(request: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """The client's function for requests, which waits for an answer forever, with an end to it."""

    def limited(*arguments: Any, **options: Any) -> Any:
        return request(*arguments, **{**options, "_request_timeout": (seconds, seconds)})

    return limited


def _message(body: Any) -> str:
    """What an error's body says: its `message` where it is the API's."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return str(body or "")[:300]
