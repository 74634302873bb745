"""VQ-VAE: an autoencoder whose hidden vector is cut into slots, each replaced by the nearest of a codebook's codes.

van den Oord et al., "Neural Discrete Representation Learning" (2017, arXiv 1711.00937). With encoder E, decoder D and
slots z_1, ..., z_M of E(x), c_m = argmin_k |z_m - e_k|, training minimises, where sg stops gradients,

    |x - D(e_{c_1}, ..., e_{c_M})|^2 + sum_m |sg[z_m] - e_{c_m}|^2 + beta |z_m - sg[e_{c_m}]|^2

and passes the decoder's gradient straight through to E(x). The middle term goes where codes are moving averages. One
slot is the classic form; several are a learnt product quantizer, whose slots may share their codebook, as the places of
a picture do in the paper.

Published settings: codebook_size=512 components=null linear=false with ema for the paper's later results (decay .99).
For click-through rates, github.com/Hsyy04/WWW25MMCTR (2025) has for each modality 512 slots that share 1,024 codes of
256 numbers, and both penalties as means over the hidden vector, the codes' by half, the other by .1: `mmctr_vqvae`.
"""

from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from modalrec.quantizers._autoencoder import Autoencoder, Coded
from modalrec.quantizers._codebooks import CodebookConfig, Codebooks

# N items of a batch, M slots, W width of a slot, V codes of a codebook.


class VQVAEConfig(CodebookConfig):
    """Shape and losses.

    Attributes:
        slots: Codes per item, M.
        width: Length of a slot, W (the paper's 64).
        shared: One codebook for all slots instead of one for each.
        penalty: Penalties are sums over the hidden vector's numbers (van den Oord et al.) or means (MMCTR).
        codebook_weight: Of the codes' penalty (MMCTR .5); AdamW's steps hardly depend on a gradient's scale.
    """

    name: Literal["vqvae"] = "vqvae"
    slots: PositiveInt = 4
    width: PositiveInt = 16
    shared: bool = False
    penalty: Literal["sum", "mean"] = "sum"
    codebook_weight: float = Field(1.0, gt=0)


class VQVAE(Autoencoder):
    """An autoencoder whose hidden vector is the codes of its slots."""

    Config = VQVAEConfig

    def __init__(self, config: VQVAEConfig, dimension: int) -> None:
        super().__init__(config, dimension, config.slots * config.width)
        self.config: VQVAEConfig = config
        self.codebooks = Codebooks(config, 1 if config.shared else config.slots, config.width)

    @property
    def codebook_sizes(self) -> list[int]:
        """V of every slot."""
        return [self.config.codebook_size] * self.config.slots

    @property
    def shares_codebook(self) -> bool:
        """Whether `shared` is set."""
        return self.config.shared

    def fit_codes(self, hidden_NW: Tensor) -> None:
        """Clusters each slot, or all of them together."""
        for book, inputs_NW in enumerate(self._by_codebook(hidden_NW)):
            self.codebooks.fit(book, inputs_NW)

    def code(self, hidden_NW: Tensor) -> Coded:
        """The nearest codes, slot by slot; codebook and commitment terms have equal values but for their weights."""
        config = self.config
        weight = config.codebook_weight if config.learning == "gradient" else 0.0
        inputs, codes = self._by_codebook(hidden_NW), self.codebooks.codes_LVW
        labels = torch.stack([self.codebooks.nearest(book, part) for book, part in enumerate(inputs.detach())])
        coded, squares = _Nearest.apply(inputs, codes, labels, weight, config.commitment)
        chosen = list(zip(inputs.detach(), labels, strict=True))
        self.codebooks.learn(chosen)
        scale = self.inputs.width / self.width if config.penalty == "mean" else 1.0
        penalty = squares * (scale / len(hidden_NW))
        return Coded(self._joined(coded, len(hidden_NW)), penalty, self.codebooks.diversity(chosen))

    def choose(self, hidden_NW: Tensor) -> Tensor:
        """The nearest code of each slot."""
        labels = [self.codebooks.nearest(book, part) for book, part in enumerate(self._by_codebook(hidden_NW))]
        if self.config.shared:
            return labels[0].view(len(hidden_NW), self.config.slots)
        return torch.stack(labels, 1)

    def stand_for(self, codes_NL: Tensor) -> Tensor:
        """The codes, each in its slot."""
        if self.config.shared:
            return self._joined(self.codebooks.codes_LVW[0][codes_NL.reshape(-1)], len(codes_NL))
        books = torch.arange(self.config.slots, device=codes_NL.device)
        return self._joined(self.codebooks.codes_LVW[books[:, None], codes_NL.T], len(codes_NL))

    def _by_codebook(self, hidden_NW: Tensor) -> Tensor:
        """Slots [M, N, W], or [1, N x M, W] where they share a codebook.

        A slot takes every M-th number where the leading components come first, so that they are dealt out evenly;
        otherwise consecutive ones, which need not be moved.
        """
        n, slots, width = len(hidden_NW), self.config.slots, self.config.width
        slots_NMW = hidden_NW.view(n, width, slots).mT if self._dealt else hidden_NW.view(n, slots, width)
        return slots_NMW.reshape(1, -1, width) if self.config.shared else slots_NMW.transpose(0, 1)

    def _joined(self, parts: Tensor, n: int) -> Tensor:
        slots, width = self.config.slots, self.config.width
        slots_NMW = parts.view(n, slots, width) if self.config.shared else parts.view(slots, n, width).transpose(0, 1)
        return (slots_NMW.mT if self._dealt else slots_NMW).reshape(n, -1)

    @property
    def _dealt(self) -> bool:
        return self.config.linear and self.config.components is not None


class _Nearest(torch.autograd.Function):
    """Codes in place of inputs, and the squares of their differences, weighted, summed.

    The gradient of the codes goes through to the inputs. What is kept for it, the decoder keeps anyhow.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs_LNW: Tensor, codes_LVW: Tensor, labels_LN: Tensor, codebook: float, commitment: float
    ) -> tuple[Tensor, Tensor]:
        coded_LNW = torch.stack([codes_VW[labels_N] for codes_VW, labels_N in zip(codes_LVW, labels_LN, strict=True)])
        ctx.save_for_backward(inputs_LNW, coded_LNW, labels_LN)
        ctx.weights, ctx.codes = (codebook, commitment), codes_LVW.shape
        return coded_LNW, (codebook + commitment) * F.mse_loss(inputs_LNW, coded_LNW, reduction="sum")

    @staticmethod
    def backward(ctx: Any, through_LNW: Tensor, factor: Tensor) -> Any:
        inputs_LNW, coded_LNW, labels_LN = ctx.saved_tensors
        codebook, commitment = ctx.weights
        gaps_LNW = inputs_LNW - coded_LNW
        codes_grad = None
        if ctx.needs_input_grad[1]:
            codes_grad = gaps_LNW.new_zeros(ctx.codes)
            for grad_VW, gaps_NW, labels_N in zip(codes_grad, gaps_LNW, labels_LN, strict=True):
                grad_VW.index_add_(0, labels_N, gaps_NW)
            codes_grad.mul_(-2 * codebook * factor)
        return gaps_LNW.mul_(2 * commitment * factor).add_(through_LNW), codes_grad, None, None, None
