"""The process: uvicorn around the application. SIGTERM ends it when what is being answered has been answered."""

import gc

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
    app = create_app(server, name, config)
    gc.collect()
    gc.freeze()  # what is loaded by now stays; looking through it again would hold all answers up for .2 s
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=config.drain_seconds,
    )
