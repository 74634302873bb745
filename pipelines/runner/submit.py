"""Submitting a recipe to a Kubeflow Pipelines server."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3

from modalrec.errors import ConfigError, UpstreamError
from pipelines.runner import recipes
from pipelines.runner.compile import compile_recipe


def submit(name: str, arguments: Mapping[str, Any], *, endpoint: str, experiment: str, run_name: str) -> str:
    """Compiles a recipe and starts a run of it.

    Args:
        name: The recipe.
        arguments: The pipeline's parameters.
        endpoint: Address of the Kubeflow Pipelines API or UI.
        experiment: Experiment that the run belongs to; created when missing.
        run_name: The run's name in the UI.

    Returns:
        The run's id.

    Raises:
        ConfigError: The recipe or a parameter is unknown, one is missing, or the server refuses them.
        UpstreamError: The server does not answer.
    """
    recipes.check_arguments(recipes.load(name).pipeline, arguments)
    with tempfile.TemporaryDirectory(prefix="modalrec-") as folder:
        package = compile_recipe(name, Path(folder))
        try:
            client = kfp.Client(host=endpoint)
            run = client.create_run_from_pipeline_package(
                str(package), arguments=dict(arguments), run_name=run_name, experiment_name=experiment
            )
        except kfp_server_api.ApiException as error:
            said = f"{error.status} {error.reason}: {error.body}"
            raise ConfigError(f"{endpoint}: refuses the run ({said}); correct the parameters or the address") from None
        except (urllib3.exceptions.HTTPError, OSError, RuntimeError, ValueError) as error:
            raise UpstreamError(
                f"{endpoint}: does not answer as a Kubeflow Pipelines server ({error}); check the address, for example "
                "with `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80` and http://localhost:8080"
            ) from None
    return str(run.run_id)
