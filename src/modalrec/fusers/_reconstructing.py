"""The objective of fusers that learn to hold what every modality says."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from modalrec.fusers import ModalityBatch
from modalrec.fusers._aligned import Aligned, AlignedConfig, unit

# B items of a batch, M modalities, D length of a modality's vectors, F length of fused vectors and the common space.


class ReconstructingConfig(AlignedConfig):
    """Settings of fusers with this objective.

    Attributes:
        mask: Share of the items with several modalities that lose one of them in a training step.
        contrast: Weight of InfoNCE between the modalities' projections, beside the reconstruction's 1.
    """

    mask: float = Field(default=0.5, ge=0, le=1)
    contrast: float = Field(default=1.0, ge=0)


class Reconstructing(Aligned):
    """A fused vector of some modalities tells all of them.

    In training an item loses one modality at random; a learnt vector stands in for it, as for one that an item really
    lacks. From the fused vector z [B, F] of what is left, linear maps R_m reconstruct the inputs x_m [B, D] of all
    modalities that the item has, the lost one too:

        loss = mean_m mean_i |R_m z_i - x_mi|^2 + contrast * InfoNCE(text, image)

    x has a mean square of 1, so a fused vector that says nothing costs 1, and one that copies its own input still pays
    for the modality that was taken away. InfoNCE is over the projections that the fused vector is made of; see
    `Aligned`. Training stops by the same loss on held-out items, with all modalities and with each one alone.
    """

    def build_layers(self, config: Any, dimensions: Mapping[str, int]) -> None:
        """The learnt vectors, the reconstruction, and the layers of `build_join`."""
        self.mask, self.weight = config.mask, config.contrast
        self.missing_MP = nn.Parameter(torch.randn(len(dimensions), self.width) / self.width**0.5 / 10)
        self.decoders = nn.ModuleDict({name: nn.Linear(self.dimension, n) for name, n in dimensions.items()})
        self.build_join(config)

    @abstractmethod
    def build_join(self, config: Any) -> None:
        """Builds the modules of `combine`, from the global torch generator."""

    @abstractmethod
    def combine(self, tokens_BMP: Tensor) -> Tensor:
        """Fused vectors [B, F] of any length, from one vector per modality."""

    def join(self, projected_BMP: Tensor, kept_BM: Tensor) -> Tensor:
        """Fused unit vectors; learnt vectors stand in for the modalities that are not kept."""
        return unit(self.combine(torch.where(kept_BM[:, :, None], projected_BMP, self.missing_MP)))

    def learns(self, batch: ModalityBatch) -> bool:
        """Any item will do."""
        return bool(self.present(batch).any())

    def loss(self, batch: ModalityBatch) -> dict[str, Tensor]:
        """`loss` and its two parts; see the class."""
        present_BM = self.present(batch)
        lost_B = torch.randint(len(self.names), (len(present_BM),), device=present_BM.device)
        several_B = present_BM.sum(1) > 1
        masked_B = several_B & (torch.rand(len(present_BM), device=present_BM.device) < self.mask)
        kept_BM = present_BM.clone()
        rows = masked_B.nonzero().flatten()
        kept_BM[rows, lost_B[rows]] = False
        # One that lost what it lacked keeps the others; it always keeps at least one.
        inputs = self.inputs(batch)
        projected_BMP = self.projected(inputs)
        reconstruction = self._reconstruction(inputs, self.join(projected_BMP, kept_BM), present_BM)
        contrast = self.contrast(projected_BMP, present_BM)
        loss = reconstruction + self.weight * contrast
        return {"loss": loss, "reconstruction": reconstruction, "contrast": contrast}

    @torch.no_grad()
    def held_out_loss(self, batch: ModalityBatch) -> float:
        """The loss, the mean over all modalities being kept and each one alone."""
        inputs, present_BM = self.inputs(batch), self.present(batch)
        projected_BMP = self.projected(inputs)
        alone = torch.eye(len(self.names), dtype=torch.bool, device=present_BM.device)
        losses = [self._reconstruction(inputs, self.join(projected_BMP, present_BM), present_BM)]
        for only_M in alone:
            kept_BM = present_BM & only_M
            some_B1 = kept_BM.any(1, keepdim=True)
            losses.append(self._reconstruction(inputs, self.join(projected_BMP, kept_BM), present_BM & some_B1))
        return (torch.stack(losses).mean() + self.weight * self.contrast(projected_BMP, present_BM)).item()

    def _reconstruction(self, inputs: Mapping[str, Tensor], fused_BF: Tensor, wanted_BM: Tensor) -> Tensor:
        parts = []
        for name, wanted_B in zip(self.names, wanted_BM.unbind(1), strict=True):
            error_B = (self.decoders[name](fused_BF) - inputs[name]).pow(2).sum(1)
            parts.append((error_B * wanted_B).sum() / wanted_B.sum().clamp(min=1))
        return torch.stack(parts).mean()
