"""VQ-VAE: an autoencoder whose hidden vector is cut into slots, each replaced by the nearest of a codebook's codes.

van den Oord et al., "Neural Discrete Representation Learning" (2017, arXiv 1711.00937). With encoder E, decoder D and
slots z_1, ..., z_M of E(x), c_m = argmin_k |z_m - e_k|, training minimises, where sg stops gradients,

    |x - D(e_{c_1}, ..., e_{c_M})|^2 + sum_m |sg[z_m] - e_{c_m}|^2 + beta |z_m - sg[e_{c_m}]|^2

and passes the decoder's gradient straight through to E(x). The middle term goes where codes are moving averages. One
slot is the classic form; several are a learnt product quantizer, whose slots may share their codebook, as the places of
a picture do in the paper.

Published settings: codebook_size=512 components=null with ema for the paper's later results (decay .99); one slot of
1,024 codes per modality for click-through rates.
"""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from modalrec.quantizers._autoencoder import Autoencoder, Coded
from modalrec.quantizers._codebooks import CodebookConfig, Codebooks

# N items of a batch, M slots, W width of a slot, V codes of a codebook.


class VqvaeConfig(CodebookConfig):
    """Shape and losses.

    Attributes:
        slots: Codes per item, M.
        width: Length of a slot, W (the paper's 64).
        shared: One codebook for all slots instead of one for each.
    """

    name: Literal["vqvae"] = "vqvae"
    slots: PositiveInt = 4
    width: PositiveInt = 16
    shared: bool = False


class Vqvae(Autoencoder):
    """An autoencoder whose hidden vector is the codes of its slots."""

    Config = VqvaeConfig

    def __init__(self, config: VqvaeConfig, dimension: int) -> None:
        super().__init__(config, dimension, config.slots * config.width)
        self.config: VqvaeConfig = config
        self.codebooks = Codebooks(config, 1 if config.shared else config.slots, config.width)

    @property
    def codebook_sizes(self) -> list[int]:
        """V of every slot."""
        return [self.config.codebook_size] * self.config.slots

    @property
    def shares_codebook(self) -> bool:
        """As set."""
        return self.config.shared

    def fit_codes(self, hidden_NW: Tensor) -> None:
        """Clusters each slot, or all of them together."""
        for book, inputs_NW in enumerate(self._by_codebook(hidden_NW)):
            self.codebooks.fit(book, inputs_NW)

    def code(self, hidden_NW: Tensor) -> Coded:
        """The nearest codes, slot by slot; codebook and commitment terms have equal values."""
        by_gradient = self.config.learning == "gradient"
        codebooks = self.codebooks.codes_LVW.unbind(0)
        penalty, coded, chosen = hidden_NW.new_zeros(()), [], []
        for book, inputs_NW in enumerate(self._by_codebook(hidden_NW)):
            labels_N = self.codebooks.nearest(book, inputs_NW.detach())
            codes_NW = codebooks[book].index_select(0, labels_N)
            chosen.append((inputs_NW.detach(), labels_N))
            if by_gradient:
                penalty = penalty + (inputs_NW.detach() - codes_NW).pow(2).sum()
            penalty = penalty + self.config.commitment * (inputs_NW - codes_NW.detach()).pow(2).sum()
            coded.append(codes_NW.detach())
        self.codebooks.learn(chosen)
        summed = self._joined(torch.stack(coded), len(hidden_NW))
        through_NW = hidden_NW + (summed - hidden_NW).detach()
        return Coded(through_NW, penalty / len(hidden_NW), self.codebooks.diversity(chosen))

    def choose(self, hidden_NW: Tensor) -> Tensor:
        """The nearest code of each slot."""
        labels = [self.codebooks.nearest(book, part) for book, part in enumerate(self._by_codebook(hidden_NW))]
        return torch.stack(labels).view(self.config.slots, len(hidden_NW)).T

    def stand_for(self, codes_NL: Tensor) -> Tensor:
        """The codes, each in its slot."""
        books = torch.arange(self.config.slots, device=codes_NL.device) * (not self.config.shared)
        return self._joined(self.codebooks.codes_LVW[books[:, None], codes_NL.T], len(codes_NL))

    def _by_codebook(self, hidden_NW: Tensor) -> Tensor:
        """Slots [M, N, W], or [1, M x N, W] where they share a codebook.

        A slot takes every M-th number: the leading components, which come first, are dealt out evenly.
        """
        slots_MNW = hidden_NW.view(len(hidden_NW), self.config.width, self.config.slots).permute(2, 0, 1)
        return slots_MNW.reshape(len(self.codebooks.codes_LVW), -1, self.config.width)

    def _joined(self, parts: Tensor, n: int) -> Tensor:
        return parts.view(self.config.slots, n, self.config.width).permute(1, 2, 0).reshape(n, -1)
