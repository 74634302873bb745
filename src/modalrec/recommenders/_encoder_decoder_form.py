"""What both forms of `encoder_decoder` are: an encoder of histories and a decoder that beams and tries can drive."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace
from modalrec.recommenders._content import Content

# B histories, N items, L levels, V codes of a level, D width, W prefixes of codes (beams or nodes of a trie).


class Form(nn.Module, ABC):
    """An encoder-decoder over semantic IDs; a softmax is over the codes of one level alone."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Cross-entropy of the next item's codes, summed over levels: nats per item."""

    @abstractmethod
    def encode(self, histories: Sequence[NDArray[np.int32]]) -> Any:
        """What decoding needs of histories: computed once, shared by all prefixes."""

    @abstractmethod
    def rows(self, states: Any, begin: int, end: int) -> Any:
        """What `encode` gave, of some of the histories."""

    @abstractmethod
    def begin(self, states: Any) -> tuple[Tensor, Any]:
        """Log-probabilities [B, 1, V] of the first code, and the cache of the empty prefix."""

    @abstractmethod
    def advance(self, level: int, codes_BW: Tensor, parents_BW: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Lengthens prefixes by a code each.

        Args:
            level: Of the code that comes next, from 1.
            codes_BW: The last codes of the new prefixes, of level `level - 1`.
            parents_BW: The prefixes that they lengthen, as numbered in `cache`.
            cache: Of the prefixes before.

        Returns:
            Log-probabilities [B, W, V] of the codes of `level`, and the cache of the new prefixes.
        """


class ItemCodes(nn.Module):
    """Embeddings of items' codes, one table for all levels, and their content where it is used."""

    def __init__(self, items: ItemSpace, width: int, std: float, *, content: bool) -> None:
        """Keeps the codes.

        Args:
            items: With codes.
            width: Of the embeddings.
            std: Of their first values; the projected content begins with the same.
            content: Use the items' vectors.

        Raises:
            ConfigError: There are no codes, or no vectors where they are to be used.
        """
        super().__init__()
        if items.codes is None:
            raise ConfigError("encoder_decoder: needs semantic IDs; give --codes, the output of `quantize`")
        self.sizes = items.codebook_sizes
        self.starts = [0, *np.cumsum(self.sizes).tolist()]
        self.table = nn.Embedding(self.starts[-1], width)
        nn.init.normal_(self.table.weight, std=std)
        codes_NL = torch.tensor(items.codes, dtype=torch.int64)
        self.register_buffer("codes_NL", codes_NL, persistent=False)
        self.register_buffer("tokens_NL", codes_NL + torch.tensor(self.starts[:-1]), persistent=False)
        self.content: Content | None = None
        if content:
            if items.content is None:
                raise ConfigError("recommender.content=sum: needs the items' vectors; give --embeddings")
            self.content = Content(items.content, width, std=std)

    def forward(self, items: Tensor) -> Tensor:
        """Embeddings [..., L, D] of items' codes; the content is in each of them."""
        embedded: Tensor = self.table(self.tokens_NL[items])  # type: ignore[index]
        return embedded if self.content is None else embedded + self.content(items)[..., None, :]

    def summed(self, items: Tensor) -> Tensor:
        """Embeddings [..., D] of items: the sum over their codes, and their content."""
        return self.coded(items) if self.content is None else self.coded(items) + self.content(items)

    def coded(self, items: Tensor) -> Tensor:
        """Embeddings [..., D] of items: the sum over their codes alone."""
        tokens_PL = self.tokens_NL[items.flatten()]  # type: ignore[index]
        return F.embedding_bag(tokens_PL, self.table.weight, mode="sum").view(*items.shape, self.table.embedding_dim)

    def of(self, level: int, codes: Tensor) -> Tensor:
        """Embeddings [..., D] of codes of a level."""
        embedded: Tensor = self.table(codes + self.starts[level])
        return embedded

    def band(self, level: int) -> Tensor:
        """The embeddings [V, D] of a level's codes."""
        return self.table.weight[self.starts[level] : self.starts[level + 1]]
