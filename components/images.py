"""Names of the container images, from a registry and a tag."""

import os

from modalrec import __version__


def image(name: str) -> str:
    """The full name of one of the project's images.

    Args:
        name: A folder of `images/`: base, embed or train.

    Returns:
        `<MODALREC_REGISTRY>/<name>:<MODALREC_TAG>`, by default `modalrec/<name>:<release>`. Tags never move: Kubeflow's
        cache knows an image by its tag.
    """
    registry = os.environ.get("MODALREC_REGISTRY") or "modalrec"
    tag = os.environ.get("MODALREC_TAG") or __version__
    return f"{registry.rstrip('/')}/{name}:{tag}"
