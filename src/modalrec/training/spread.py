"""Embedding tables whose rows are spread over the processes by TorchRec, for those that no single GPU holds.

TorchRec (Ivchenko et al. 2022) sends ids to the processes that hold their rows and vectors back, and FBGEMM updates the
rows within the backward pass. The whole table is put together in the leader's memory alone, to validate and to keep.
"""

import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn

from modalrec.errors import ConfigError
from modalrec.training.team import Team

# N rows of the whole table, P of the part of this process, B ids, D width.

EPSILON = 1e-8
TABLE, ID = "table", "id"
PASS = 1 << 18
"""Rows of each process that are brought together at a time."""


@runtime_checkable
class HasSpreadTables(Protocol):
    """A model that can spread tables over processes; it does so before it moves to its device."""

    def spread(self, config: Any, team: Team) -> None:
        """Puts a `SpreadTable` in the place of each table that is to be spread.

        Raises:
            ConfigError: The settings of training (`TrainingConfig`) do not allow it, or TorchRec is not installed.
        """


class SpreadTable(nn.Module):
    """Stands in for an embedding table in training by several processes: each holds as many of its rows as the others.

    In training it is looked up by all processes at once, and row-wise Adagrad updates it within `backward`: once a
    batch, by the sum of what all processes' losses say. In evaluation it is looked up in the memory of the leader, not
    of a GPU. Its state is that of the whole table, and nothing in processes that do not lead.

    Args:
        table: The table as it starts, the same in all processes.
        team: The processes; all make the table.

    Raises:
        ConfigError: TorchRec is not installed.
    """

    def __init__(self, table: nn.Embedding, team: Team) -> None:
        super().__init__()
        self.team = team
        whole_ND = table.weight.detach().cpu()
        spread = _spread(whole_ND, team)
        shard = spread.state_dict()[f"embeddings.{TABLE}.weight"].local_shards()[0]
        state = spread.fused_optimizer.state_dict()["state"][f"embeddings.{TABLE}.weight"]
        self.part_PD: Tensor = shard.tensor.detach()
        self.squares_P: Tensor = state[f"{TABLE}.momentum1"].local_shards()[0].tensor
        self.first: int = shard.metadata.shard_offsets[0]
        # No submodule: what it holds is a part, and never leaves its device.
        self._spread = (spread,)
        kept = len(whole_ND) if team.leads else 0
        self.weight = nn.Parameter(whole_ND[:kept].clone(), requires_grad=False)
        self.squares_N = torch.zeros(kept)
        self._take(whole_ND, self.part_PD)

    def forward(self, ids_B: Tensor) -> Tensor:
        """The rows [B, D] of ids; in training all processes ask at once."""
        if not self.training:
            return self.weight[ids_B.cpu()].to(ids_B.device)
        from torchrec import KeyedJaggedTensor

        asked = KeyedJaggedTensor.from_lengths_sync([ID], ids_B, torch.ones_like(ids_B))
        found_BD: Tensor = self._spread[0](asked).wait()[ID].values()
        return found_BD

    def set_rate(self, rate: float) -> None:
        """The learning rate of the batches to come."""
        optimizer = self._spread[0].fused_optimizer
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()  # which is what hands the rate on

    def bring_together(self) -> None:
        """Brings the whole table, and what Adagrad knows of it, into the memory of the leader; all processes do so."""
        pairs = [(self.part_PD, self.weight.data), (self.squares_P, self.squares_N)]
        longest = int(max(self.team.gather(torch.tensor([len(self.part_PD)], device=self.part_PD.device))))
        for begin in range(0, longest, PASS):
            for part, whole in pairs:
                for rank, rows in enumerate(self.team.gather(part[begin : begin + PASS].contiguous())):
                    if self.team.leads:
                        place = rank * longest + begin
                        whole[place : place + len(rows)] = rows.cpu()

    def state(self) -> dict[str, Tensor]:
        """What Adagrad knows of the rows, as it was brought together."""
        return {"squares": self.squares_N}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `state` gave, of the whole table."""
        if self.team.leads:
            self.squares_N.copy_(state["squares"])
        self._take(state["squares"], self.squares_P)

    def _take(self, whole: Tensor, part: Tensor) -> None:
        """This process's rows of a whole table."""
        part.copy_(whole[self.first : self.first + len(part)])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
        given: Tensor = state_dict[f"{prefix}weight"]
        if not len(given):  # kept by a process that does not lead
            return
        if self.team.leads:
            self.weight.data.copy_(given)
        self._take(given, self.part_PD)

    def _apply(self, *_: Any, **__: Any) -> "SpreadTable":
        """Stays where it is when the model moves."""
        return self


def _spread(whole_ND: Tensor, team: Team) -> Any:
    """TorchRec's module, whose rows are still to be filled in."""
    try:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from torchrec import EmbeddingCollection, EmbeddingConfig
        from torchrec.distributed import comm_ops
        from torchrec.distributed.embedding import EmbeddingCollectionSharder
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
        from torchrec.distributed.types import ShardingEnv
    except ImportError as error:
        raise ConfigError(
            f"placement=torchrec: TorchRec cannot be loaded ({error}); run `pip install 'modalrec[torchrec]'`, or set "
            "placement=local"
        ) from None
    comm_ops.set_gradient_division(False)  # losses are weighted already
    rows, width = whole_ND.shape
    table = EmbeddingConfig(name=TABLE, num_embeddings=rows, embedding_dim=width, feature_names=[ID])
    collection = EmbeddingCollection(tables=[table], device=torch.device("meta"))
    adagrad = {"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "eps": EPSILON, "learning_rate": 0.0}
    sharder = EmbeddingCollectionSharder(fused_params=adagrad)
    plan = construct_module_sharding_plan(
        collection,
        {TABLE: row_wise(compute_kernel="fused")},
        sharder=sharder,
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", team.size)),
        world_size=team.size,
        device_type=torch.device(team.device).type,
    )
    processes = ShardingEnv.from_process_group(distributed.group.WORLD)
    return sharder.shard(collection, plan, processes, torch.device(team.device))
