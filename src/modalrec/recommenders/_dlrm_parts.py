"""What a DLRM is built from: layers that start as the published ones, a modality's projector, and interactions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modalrec.artifacts.embedding_lists import VectorLists

# B rows, U distinct items, N items, V length of an encoder's vectors, D width, F vectors of a row, X width of an input.


def start_table(table: nn.Embedding) -> None:
    """Uniform within 1 / sqrt(rows), as published; row 0 is what is unknown and says nothing at first."""
    reach = table.num_embeddings**-0.5
    nn.init.uniform_(table.weight, -reach, reach)
    nn.init.zeros_(table.weight[0])


def layers(inputs: int, widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU, and dropout if any: weights N(0, 2 / (in + out)), biases N(0, 1 / out), as published."""
    found: list[nn.Module] = []
    for width in widths:
        layer = nn.Linear(inputs, width)
        nn.init.normal_(layer.weight, std=(2 / (inputs + width)) ** 0.5)
        nn.init.normal_(layer.bias, std=width**-0.5)
        found += [layer, nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        inputs = width
    return nn.Sequential(*found)


class Modality(nn.Module):
    """Vectors of an encoder, frozen but for its last layers where these are trained, projected to D.

    An item without any has a learnt vector.

    A saved model has the projections, [N, D], in place of the vectors: it serves without them.

    Args:
        lists: Every item's vectors; several are averaged.
        width: D.
        hidden: Widths of hidden layers of the projector.
        seen_N: Items that training has seen: what vectors are centred and scaled by.
    """

    present: Tensor
    projected: Tensor
    vectors: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, lists: VectorLists, width: int, hidden: Sequence[int], seen_N: Tensor) -> None:
        super().__init__()
        given = len(lists.vectors_VD) > 0
        vectors_NV = torch.from_numpy(lists.means()) if given else torch.zeros(0, lists.dimension)
        present_N = torch.from_numpy(lists.counts > 0)
        known_NV = vectors_NV[present_N & seen_N] if given else vectors_NV
        centre_V, scale = torch.zeros(lists.dimension), torch.ones(())
        if len(known_NV):
            # One deviation for all directions: what hardly varies says hardly anything.
            centre_V = known_NV.mean(0)
            scale = (known_NV - centre_V).std().clamp(min=1e-6)
        self.register_buffer("centre", centre_V, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("vectors", (vectors_NV - centre_V) / scale, persistent=False)
        self.register_buffer("present", present_N)
        self.register_buffer("projected", torch.zeros(len(lists), width))
        body = layers(lists.dimension, hidden)
        last = nn.Linear([lists.dimension, *hidden][-1], width)
        nn.init.normal_(last.weight, std=0.1 * last.in_features**-0.5)
        nn.init.zeros_(last.bias)
        self.projector = nn.Sequential(*body, last)
        self.missing = nn.Parameter(torch.zeros(width))
        self.encoder: nn.Module | None = None
        self._states: Sequence[Tensor | None] = ()

    def fine_tune(self, encoder: nn.Module, states: Sequence[Tensor | None]) -> None:
        """Trains the last layers of the encoder, too: vectors are what they make of an item at the moment.

        Args:
            encoder: The last layers, from states to vectors.
            states: What the layers below made of each of the N items, once and for all; None where it has no content.
        """
        self.encoder, self._states = encoder, states

    def forward(self, items_U: Tensor) -> Tensor:
        """Vectors [U, D] of items: projected, or the learnt one where an item has no content."""
        if not len(self.vectors):
            return self.projected[items_U]
        found_UD = self.projector(self.vectors[items_U] if self.encoder is None else self.encoded(items_U))
        return torch.where(self.present[items_U, None], found_UD, self.missing)

    def encoded(self, items_U: Tensor) -> Tensor:
        """The vectors [U, V] of items by the trained layers, zeros where there is no content."""
        there = self.present[items_U].nonzero()[:, 0]
        vectors_UV = self.vectors.new_zeros(len(items_U), self.vectors.shape[1])
        if self.encoder is None or not len(there):
            return vectors_UV
        states = [self._states[item].to(items_U.device) for item in items_U[there].tolist()]
        said = nn.functional.normalize(self.encoder(states), dim=1)
        return vectors_UV.index_copy(0, there, (said - self.centre) / self.scale)

    @torch.no_grad()
    def settle(self) -> None:
        """Projects every item once, for the saved model; trained last layers and what they read are let go of."""
        if not len(self.vectors):
            return
        places = torch.arange(len(self.present), device=self.present.device)
        size = 4096 if self.encoder is None else 64
        self.projected.copy_(torch.cat([self(part) for part in places.split(size)]))
        if self.encoder is not None:
            self.encoder, self.vectors, self._states = None, self.vectors[:0], ()


class Dots(nn.Module):
    """The bottom vector, and the dot products of all pairs of vectors, each once and none with itself.

    The order of the pairs is that of the published code: by row of the lower triangle.
    """

    pairs: Tensor

    def __init__(self, vectors: int, width: int, has_bottom: bool) -> None:
        super().__init__()
        self.has_bottom = has_bottom
        self.register_buffer("pairs", torch.tril_indices(vectors, vectors, offset=-1), persistent=False)
        self.outputs = self.pairs.shape[1] + width * has_bottom

    def forward(self, vectors_BFD: Tensor) -> Tensor:
        """[B, F, D] to [B, D + F (F - 1) / 2]; without a bottom vector, which is the first, to [B, F (F - 1) / 2]."""
        dots_BFF = torch.bmm(vectors_BFD, vectors_BFD.transpose(1, 2))
        dots_BX = dots_BFF[:, self.pairs[0], self.pairs[1]]
        return torch.cat([vectors_BFD[:, 0], dots_BX], 1) if self.has_bottom else dots_BX


class Concat(nn.Module):
    """All vectors side by side."""

    def __init__(self, vectors: int, width: int) -> None:
        super().__init__()
        self.outputs = vectors * width

    def forward(self, vectors_BFD: Tensor) -> Tensor:
        """[B, F, D] to [B, F D]."""
        return vectors_BFD.flatten(1)


class Crosses(nn.Module):
    """Layers of crossed features of low rank: x' = x0 * (W (V x) + b) + x (Wang et al. 2021, arXiv 2008.13535)."""

    def __init__(self, vectors: int, width: int, count: int, rank: int) -> None:
        super().__init__()
        self.outputs = vectors * width
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for _ in range(count):
            down, up = nn.Linear(self.outputs, rank, bias=False), nn.Linear(rank, self.outputs)
            nn.init.xavier_normal_(down.weight)
            nn.init.xavier_normal_(up.weight)
            nn.init.zeros_(up.bias)
            self.down.append(down)
            self.up.append(up)

    def forward(self, vectors_BFD: Tensor) -> Tensor:
        """[B, F, D] to [B, F D]."""
        first_BX = crossed_BX = vectors_BFD.flatten(1)
        for down, up in zip(self.down, self.up, strict=True):
            crossed_BX = crossed_BX + first_BX * up(down(crossed_BX))
        return crossed_BX
