"""The limits of a server."""

from pydantic import Field

from modalrec import config as configs


class ServeConfig(configs.Config):
    """What a server takes on.

    Attributes:
        max_body_bytes: Longest body of a request.
        max_k: Longest list.
        max_history: Items of a history.
        max_instances: Histories of one request.
        max_batch: Histories that the model answers at a time.
        max_waiting: Histories that may wait; beyond them a request is refused at once, instead of late.
        wait_milliseconds: How long a batch waits for company. With 0 it takes what came while the one before it was
            answered, which delays nobody.
        max_seconds: How long a request may wait for its answer.
        drain_seconds: How long requests that are being answered may take when the server is told to end.
    """

    max_body_bytes: int = Field(1 << 20, ge=1)
    max_k: int = Field(100, ge=1)
    max_history: int = Field(1000, ge=1)
    max_instances: int = Field(256, ge=1)
    max_batch: int = Field(64, ge=1)
    max_waiting: int = Field(1024, ge=1)
    wait_milliseconds: float = Field(0.0, ge=0)
    max_seconds: float = Field(10.0, gt=0)
    drain_seconds: int = Field(20, ge=0)
