"""The decorator that makes a Kubeflow component of a stage's function."""

from collections.abc import Callable
from typing import Any

import docstring_parser
from kfp import dsl

from components.images import image


def stage(function: Callable[..., Any]) -> Any:
    """Makes a lightweight component that runs in the project's image, where modalrec and kfp are installed.

    Kubeflow describes inputs from the docstring's `Args`, but not the outputs among them; this adds those.

    Args:
        function: What runs in the container. Only its source travels there, so it imports what it uses.

    Returns:
        The component.
    """
    container = "embed" if function.__name__.startswith("embed_") else "train"
    component = dsl.component(function, base_image=image(container), install_kfp_package=False)
    documented = {entry.arg_name: entry.description for entry in docstring_parser.parse(function.__doc__ or "").params}
    for name, output in (component.component_spec.outputs or {}).items():
        output.description = output.description or documented.get(name)
    return component
