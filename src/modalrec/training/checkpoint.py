"""Checkpoints: everything a training run needs to go on as if it had never stopped.

They lie in a folder or a bucket, under stage and fingerprint, so that a retried pod with an empty disk finds them, and
a run with another config, input or program does not. A file's name carries the digest of its content.
"""

import hashlib
import io
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pickle import UnpicklingError
from typing import Any

import torch

from modalrec.artifacts import Manifest, code_version
from modalrec.artifacts.files import sha256_json
from modalrec.artifacts.store import Location, open_location
from modalrec.config import Config, dump
from modalrec.run import Run
from modalrec.training.lease import Lease


def fingerprint(stage: str, config: Config, seed: int, inputs: Mapping[str, Manifest]) -> str:
    """The identity of a training run: stage, resolved config, seed, input digests and code version."""
    return sha256_json(
        {
            "stage": stage,
            "config": dump(config),
            "seed": seed,
            "inputs": {edge: manifest.digest for edge, manifest in inputs.items()},
            "code_version": code_version(),
        }
    )


def open_place(run: Run, fingerprint: str) -> tuple[Location | None, Lease | None]:
    """Where a run keeps what it can go on from, and the right to write there; nothing where it keeps none."""
    if not run.checkpoints:
        return None, None
    place = f"{run.checkpoints.rstrip('/')}/{run.stage}/{fingerprint[:32]}"
    location = open_location(place)
    return location, Lease(location, place)


class Checkpoints:
    """The checkpoints of one training run; does nothing where the run keeps none."""

    kept = 2

    def __init__(self, run: Run, fingerprint: str) -> None:
        self.run = run
        self.location, self.lease = open_place(run, fingerprint)

    def alone(self) -> AbstractContextManager[None]:
        """Holds the place against other runs while the block is at work.

        Raises:
            UpstreamError: Another run is at work there.
        """
        return self.lease.held() if self.lease else nullcontext()

    def save(self, step: int, epoch: int, state: dict[str, Any]) -> None:
        """Stores a state atomically and drops all but the newest two.

        The last step of an epoch and the end of the epoch have the same number of steps; the epoch tells them apart.
        """
        if self.location is None:
            return
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        if self.lease and self.lease.name:
            self.lease.check()
        self.location.put(f"step-{step:010d}-{epoch:06d}-{hashlib.sha256(content).hexdigest()}.pt", content)
        for name in self._names()[self.kept :]:
            self.location.delete(name)

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole, or None. A damaged one is reported and the one before it used."""
        for name in self._names():
            content = self.location.get(name) if self.location else None
            if self.location is None or content is None:
                continue
            if hashlib.sha256(content).hexdigest() == name.removesuffix(".pt").rpartition("-")[2]:
                with suppress(UnpicklingError, RuntimeError, EOFError):  # a digest that fits, and no checkpoint
                    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                    return state
            self.run.say(f"checkpoint {name} is damaged; trying the one before")
            # It would take the place of a whole one among those that are kept.
            self.location.delete(name)
        return None

    def last(self) -> str:
        """How a message names the newest checkpoint."""
        names = self._names()
        return f"The last good checkpoint is {names[0].rsplit('-', 1)[0]}" if names else "There is no checkpoint yet"

    def _names(self) -> list[str]:
        names = self.location.names() if self.location else []
        return sorted((name for name in names if name.startswith("step-")), reverse=True)
