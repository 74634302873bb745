"""GRU4Rec's steps over several streams of sessions at a time, shared out among processes.

Each stream has lanes, states and negatives of its own (`training.sessions.Streams`). An update takes the mean of the
streams' gradients: those of rows are gathered, in the order of the streams, those of the cells added up. So two
processes with a stream each train the same model to the bit as one process with both.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from modalrec.recommenders._gru4rec_torch import Gradients, TorchSteps, cut, done
from modalrec.training.groups import Group
from modalrec.training.steps import Done
from modalrec.training.team import Team

if TYPE_CHECKING:
    from modalrec.recommenders.gru4rec import GRU4Rec


class TogetherSteps(TorchSteps):
    """Adagrad on the mean gradient of several streams.

    Args:
        model: The model.
        batch_size: Lanes of a stream.
        streams: How many streams there are.
        seed: Of what is dropped out.
        team: The processes that share the streams.
    """

    def __init__(self, model: "GRU4Rec", batch_size: int, streams: int, seed: int, team: Team) -> None:
        super().__init__(model, batch_size)
        self.seed, self.team = seed, team
        self._states = [model.fresh(batch_size) for _ in range(streams)]

    def step(self, batch: Group, rate: float) -> Done:  # type: ignore[override]
        """Learns from the same steps of each stream."""
        group, team, bptt = batch, self.team, self.model.config.bptt
        mine = range(team.rank, group.count, team.size)
        chunks = [group.build(group.first + stream) for stream in mine]
        updates = [cut(chunk, bptt) for chunk in chunks]
        told = [torch.zeros(3, device=self.model.item_bias.device) for _ in mine]
        for chunk, counts in zip(chunks, told, strict=True):
            counts[1], counts[2] = len(chunk["inputs"]), len(chunk["lanes"])
        for number in range(-(-int(chunks[0]["rounds"]) // bptt)):
            found = []
            for place, stream in enumerate(mine):
                group.draw_from(self.seed, stream, number)
                if number < len(updates[place]):
                    one = self._gradients(updates[place][number], self._states[stream], 1 / group.count)
                    told[place][0] += one.total
                    self._states[stream] = one.hidden
                    found.append(one)
                else:
                    found.append(self._nothing())
            self._update_together(group, found, rate)
        self._exchange_states(group, mine)
        total, events, batches = torch.stack(group.in_order(team, told), 0).view(-1, 3).sum(0).tolist()
        return done(total, int(events), int(batches))

    def state_dict(self) -> dict[str, Any]:
        """Accumulators, velocities and the lanes' states of all streams."""
        return super().state_dict() | {"hidden": [list(states) for states in self._states]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        super().load_state_dict({**state, "hidden": []})
        device = self.model.item_bias.device
        self._states = [[part.to(device) for part in states] for states in state["hidden"]]

    def _update_together(self, group: Group, found: list[Gradients], rate: float) -> None:
        rows = {}
        for name in sorted(self.optimizers.keys() - {"dense"}):  # in one order, whatever ended
            ids = group.in_order(self.team, [one.rows[name][0].long() for one in found])
            grads = group.in_order(self.team, [one.rows[name][1] for one in found])
            rows[name] = (torch.cat(ids), torch.cat(grads))
        dense = [torch.stack(list(each)).sum(0) for each in zip(*(one.dense for one in found), strict=True)]
        self.team.add_up(dense)
        self._apply(rows, dense, rate)

    def _exchange_states(self, group: Group, mine: range) -> None:
        """Every process has the states of all streams between chunks, so that the leader's checkpoint has them."""
        if self.team.size == 1:
            return
        layers = [
            group.in_order(self.team, [self._states[stream][layer] for stream in mine])
            for layer in range(len(self.model.config.layers))
        ]
        self._states = [list(states) for states in zip(*layers, strict=True)]

    def _nothing(self) -> Gradients:
        """Of a stream that has ended."""
        zero = self.model.item_bias.new_zeros
        rows = {
            name: (torch.zeros(0, dtype=torch.int64, device=table.device), zero(0, *table.shape[1:]))
            for name, optimizer in self.optimizers.items()
            if name != "dense"
            for table in optimizer.parameters
        }
        return Gradients(rows, [torch.zeros_like(one) for one in self._dense], zero(()), [])
