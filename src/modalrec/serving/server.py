"""The process: uvicorn around the application. SIGTERM ends it when what is being answered has been answered."""

import uvicorn

from modalrec.serving.app import create_app
from modalrec.serving.config import ServeConfig
from modalrec.stages.recommend import Server


def serve(server: Server, host: str, port: int, name: str, config: ServeConfig, *, access_log: bool) -> None:
    """Answers until it is told to end.

    Args:
        server: The model.
        host: The address to listen at.
        port: The port.
        name: What KServe's protocol calls the model.
        config: Limits.
        access_log: Print a line a request.
    """
    uvicorn.run(
        create_app(server, name, config),
        host=host,
        port=port,
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=config.drain_seconds,
    )
