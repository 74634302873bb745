"""Fuser `clip_align`: text and image are brought into one space, and the fused vector is both of them there."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from modalrec.fusers import ModalityBatch
from modalrec.fusers._aligned import Aligned, AlignedConfig, unit

# B items of a batch, M modalities, P length of the common space; fused vectors have M * P numbers.


class CLIPAlignConfig(AlignedConfig):
    """Settings of the fuser.

    Attributes:
        name: clip_align.
        dimension: Length of the fused vectors; each modality's projection is an equal part of it.
    """

    name: Literal["clip_align"] = "clip_align"
    dimension: int = Field(default=512, ge=2, le=65536, multiple_of=2)


class CLIPAlign(Aligned):
    """z = [u_1; ...; u_M] / sqrt(M), the modalities' unit projections [B, P] side by side, trained by InfoNCE.

        loss = InfoNCE(text, image) + bridge

    InfoNCE is that of `Aligned`: an item's text against the pictures of all items of the batch, and the other way
    round. In the common space a missing modality is nearly its partner, up to the gap between modalities: a learnt
    vector b_m, so that unit(u_other + b_m) stands in for u_m, and bridge = mean (1 - cos(unit(u_other + b_m), u_m))
    over items that have both trains b alone. With a single modality there is nothing to align: its principal axes stay.
    """

    Config = CLIPAlignConfig

    @staticmethod
    def lengths(dimension: int, modalities: int) -> tuple[int, int]:
        """Length of the fused vectors and of the common space."""
        return dimension // modalities * modalities, dimension // modalities

    def build_layers(self, config: Any, dimensions: Mapping[str, int]) -> None:
        """The gaps, which begin at none."""
        self.gap_MP = nn.Parameter(torch.zeros(len(dimensions), self.width))

    def join(self, projected_BMP: Tensor, kept_BM: Tensor) -> Tensor:
        """Both projections side by side; a missing one is bridged from the others."""
        kept_BM1 = kept_BM[:, :, None]
        unit_BMP = unit(projected_BMP) * kept_BM1
        known_B1P = unit_BMP.sum(1, keepdim=True) / kept_BM1.sum(1, keepdim=True).clamp(min=1)
        return unit(torch.where(kept_BM1, unit_BMP, unit(known_B1P + self.gap_MP)).flatten(1))

    def learns(self, batch: ModalityBatch) -> bool:
        """Two items with two modalities, to tell one from the other."""
        return bool((self.present(batch).sum(1) > 1).sum() > 1)

    def loss(self, batch: ModalityBatch) -> dict[str, Tensor]:
        """`loss` and its two parts; see the class."""
        projected_BMP, present_BM = self.projected(self.inputs(batch)), self.present(batch)
        contrast, bridge = self.contrast(projected_BMP, present_BM), self._bridge(projected_BMP, present_BM)
        return {"loss": contrast + bridge, "contrast": contrast, "bridge": bridge}

    @torch.no_grad()
    def held_out_loss(self, batch: ModalityBatch) -> float:
        """The loss on items that are not learnt from."""
        return self.loss(batch)["loss"].item()

    def _bridge(self, projected_BMP: Tensor, present_BM: Tensor) -> Tensor:
        whole_BMP = unit(projected_BMP[present_BM.all(1)].detach())
        modalities = len(self.names)
        if not len(whole_BMP) or modalities < 2:
            return self.gap_MP.sum() * 0
        others_BMP = (whole_BMP.sum(1, keepdim=True) - whole_BMP) / (modalities - 1)
        return (1 - (unit(others_BMP + self.gap_MP) * whole_BMP).sum(2)).mean()
