"""States after histories, where many histories are prefixes of each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from modalrec.recommenders.gru4rec import GRU4Rec

# B histories, R runs: histories that no other one goes on with.


@torch.inference_mode()
def last_states(model: "GRU4Rec", histories: Sequence[NDArray[np.int32]]) -> Tensor:
    """The last layer's state [B, D] after each history, every session walked through once.

    Args:
        model: The model, out of training mode.
        histories: Items, oldest first, none empty; prefixes of a history stand right before it, in order.
    """
    lengths_B = np.array([len(history) for history in histories])
    run_B, runs = _runs(histories, lengths_B)
    order = np.argsort(-lengths_B[runs], kind="stable")
    place_of = np.empty_like(order)
    place_of[order] = np.arange(len(order))
    longest = [histories[runs[run]] for run in order]
    lengths_R = np.array([len(history) for history in longest])
    wanted = np.lexsort((lengths_B,))
    starts = np.searchsorted(lengths_B[wanted], np.arange(1, lengths_R[0] + 2))
    device = model.item_bias.device
    hidden = model.fresh(len(longest))
    states_BD = hidden[-1].new_empty(len(histories), model.config.layers[-1])
    for step in range(lengths_R[0]):
        running = int(np.searchsorted(-lengths_R, -step, side="left"))
        items = torch.from_numpy(np.array([history[step] for history in longest[:running]])).to(device)
        top_RD, hidden = model.advance(model.input_rows(items), [state[:running] for state in hidden])
        ended = wanted[starts[step] : starts[step + 1]]
        if len(ended):
            states_BD[torch.from_numpy(ended).to(device)] = top_RD[torch.from_numpy(place_of[run_B[ended]]).to(device)]
    return states_BD


def _runs(
    histories: Sequence[NDArray[np.int32]], lengths_B: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each history's run, and each run's longest history, which is its last one."""
    goes_on = np.zeros(len(histories), np.bool_)
    for row in range(1, len(histories)):
        before, here = histories[row - 1], histories[row]
        goes_on[row] = lengths_B[row] >= lengths_B[row - 1] and np.array_equal(here[: len(before)], before)
    run_B = np.cumsum(~goes_on) - 1
    return run_B, np.flatnonzero(np.append(~goes_on[1:], True))
