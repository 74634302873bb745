"""TensorBoard while training: a line an epoch, below the folder that MODALREC_TENSORBOARD names.

An artifact gets its events when it is whole (`artifacts.events`); these are for who watches.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from modalrec.artifacts.events import numbers_of
from modalrec.run import Run

FOLDER = "MODALREC_TENSORBOARD"
SECONDS = 1
"""Time until what was noted is in the file."""


@contextmanager
def live_events(run: Run, fingerprint: str, epoch: int, leads: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yields what takes the entry of an epoch; it does nothing where nobody watches.

    Args:
        run: Its stage and the fingerprint name the run in TensorBoard, so that a resumed one goes on in its own curve.
        fingerprint: Of this training run.
        epoch: Epochs that are done; what was written of later ones is taken back.
        leads: Whether this process writes, of those that train together.
    """
    place = os.environ.get(FOLDER)
    if not place or not leads:
        yield lambda entry: None
        return
    from tensorboardX import SummaryWriter

    folder = f"{place.rstrip('/')}/{run.stage}-{fingerprint[:12]}"
    with SummaryWriter(folder, purge_step=epoch + 1, flush_secs=SECONDS) as writer:

        def show(entry: Mapping[str, float]) -> None:
            for name, value in numbers_of(entry, "epoch").items():
                writer.add_scalar(f"curves/{name}", value, int(entry["epoch"]))

        yield show
