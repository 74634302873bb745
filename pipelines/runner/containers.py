"""Running stages in their images, as a cluster does: through the interface of Docker, which podman has too.

A container may do no more than a pod may: its root is read-only, it has no capabilities and gains none, and it runs as
the image's user, or as the user who started it, whose folders it writes to.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kfp import local

from modalrec.errors import UpstreamError

DRAIN_SECONDS = 5.0
"""In which the last output of a container that is gone arrives."""


def container_runner(environment: Mapping[str, str]) -> local.DockerRunner:
    """What kfp.local runs stages with.

    Args:
        environment: Variables of every container.

    Raises:
        UpstreamError: The package `docker` is not installed.
    """
    user = {"user": f"{os.getuid()}:{os.getgid()}"} if os.getuid() else {}
    try:
        return local.DockerRunner(
            environment=dict(environment),
            network_mode="host",  # the store listens on this machine alone
            read_only=True,
            tmpfs={"/tmp": "size=4g,mode=1777"},  # noqa: S108  (inside the container)
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            **user,
        )
    except ImportError:
        raise UpstreamError("--containers: the package docker is not installed; run `make setup`") from None


def run_container(
    on_line: Callable[[str], None],
    client: Any,
    image: str,
    command: list[str],
    volumes: Mapping[str, Any],
    **options: Any,
) -> int:
    """Runs a command in a container, hands over its output as it comes, and leaves no container behind.

    Args:
        on_line: Called with each line of its output, without the line's end.
        client: Of the `docker` package.
        image: The image, which must be there.
        command: Program and arguments.
        volumes: What it sees of this machine's folders.
        options: More of what `containers.run` takes.

    Returns:
        The exit code.

    Raises:
        UpstreamError: There is no such image, or it does not start.
    """
    from docker.errors import APIError

    try:
        container = client.containers.create(image, command, volumes=dict(volumes), **options)
    except APIError as error:
        raise UpstreamError(
            f"{image}: {error.explanation}; build it with `make images`, or give --registry and --tag"
        ) from None
    try:
        container.start()
        output, ended, waiting = container.logs(stream=True, follow=True), threading.Event(), ThreadPoolExecutor(1)
        code = waiting.submit(_wait, container, output, ended)
        waiting.shutdown(wait=False)  # an interrupted run removes the container, and that ends the wait
        try:
            for line in _lines(output):
                on_line(line)
        finally:
            ended.set()
        return code.result()
    except APIError as error:
        raise UpstreamError(f"{image}: {error.explanation}; `docker logs` and the engine's own log say more") from None
    finally:
        container.remove(force=True)


def _wait(container: Any, output: Any, ended: threading.Event) -> int:
    """The exit code; ends the output of a container that is gone where the engine does not, as podman 4 at times."""
    code = int(container.wait()["StatusCode"])
    if not ended.wait(DRAIN_SECONDS):
        output.close()
    return code


def _lines(chunks: Iterable[bytes]) -> Iterable[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
