"""The processes that train one model together: those of a `torchrun`, or this one alone.

The results do not depend on their number but for rounding (`training.groups`): what an optimizer step learns from is a
matter of the settings (`TrainingConfig.accumulate`), and the processes only share its batches out.
"""

import datetime
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as processes

from modalrec.errors import ConfigError
from modalrec.run import place_in_team

PATIENCE = datetime.timedelta(hours=6)
"""How long a process waits for another: the first one validates and writes checkpoints while the others wait."""


@dataclass(frozen=True)
class Team:
    """Who is in it.

    Attributes:
        rank: The number of this process; 0 leads: it validates, writes checkpoints and results.
        size: How many there are.
        device: Where tensors that are exchanged must be.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    def join(cls, device: str) -> "Team":
        """The team that `torchrun` made of the processes: over NCCL on GPUs, over gloo on CPUs."""
        if place_in_team()[1] == 1:
            return cls()
        if not processes.is_initialized():
            processes.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
        return cls(processes.get_rank(), processes.get_world_size(), device)

    @property
    def leads(self) -> bool:
        """Whether this process does what only one may do."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Adds floating-point tensors up over the processes, in place."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        processes.all_reduce(flat)
        begin = 0
        for tensor in tensors:
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()

    def any(self, flag: bool) -> bool:
        """Whether it holds for any of the processes."""
        if self.size == 1:
            return flag
        number = torch.tensor([float(flag)], device=self.device)
        processes.all_reduce(number)
        return bool(number.item() > 0)

    def tell(self, content: Any) -> Any:
        """What the leader has, for all: tensors, numbers, texts, and lists and dictionaries of them."""
        if self.size == 1:
            return content
        buffer = io.BytesIO()
        if self.leads:
            torch.save(content, buffer)
        length = torch.tensor([buffer.tell()], device=self.device)
        processes.broadcast(length, 0)
        sent = torch.zeros(int(length), dtype=torch.uint8)
        if self.leads:
            sent = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        sent = sent.to(self.device)
        processes.broadcast(sent, 0)
        return torch.load(io.BytesIO(sent.cpu().numpy().tobytes()), map_location="cpu", weights_only=True)

    def gather(self, rows: Tensor) -> list[Tensor]:
        """The rows of each process, however many; of one width and type."""
        if self.size == 1:
            return [rows]
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.size)]
        processes.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        longest = max(int(count) for count in counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts]
        processes.all_gather(found, padded)
        return [part[: int(count)] for part, count in zip(found, counts, strict=True)]


ALONE = Team()
"""A process by itself."""


def refuse_uneven(team: Team, accumulate: int) -> None:
    """Checks that all processes get the same number of batches of a step.

    Raises:
        ConfigError: They do not.
    """
    if accumulate % team.size:
        raise ConfigError(
            f"training.accumulate: {accumulate} batches a step cannot be shared out evenly among {team.size} "
            f"processes; set it to a multiple of {team.size}, or start fewer"
        )
