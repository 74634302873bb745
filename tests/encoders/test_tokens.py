import numpy as np
import pytest
import torch

from modalrec.encoders import _tokens
from modalrec.encoders._tokens import in_passes


@pytest.mark.parametrize(("device", "limit"), [("cpu", 512), ("cuda", 16384)])
def test_passes_are_bounded_sorted_and_put_back_in_order(
    device: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_: self)  # no such device here
    lengths = np.random.default_rng(0).integers(0, 200, 4000)
    rows = [[7] * int(length) for length in lengths] + [[3] * (limit + 1)]
    shapes: list[torch.Size] = []

    def encode(tokens_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        shapes.append(tokens_BT.shape)
        assert (tokens_BT[mask_BT == 0] == 5).all()
        assert (mask_BT.sum(1) >= 1).all()
        return (tokens_BT * mask_BT).sum(1, keepdim=True).float()

    sums = in_passes(rows, 5, device, encode).squeeze(1).tolist()
    assert sums == [7 * length or 5 for length in lengths] + [3 * (limit + 1)]
    assert max(b * t for b, t in shapes[:-1]) <= limit
    assert shapes[-1] == (1, limit + 1), "a text longer than a pass goes alone"
    widths = [t for _, t in shapes]
    assert widths == sorted(widths)
    assert sum(b * t for b, t in shapes) < 1.2 * sum(map(len, rows)), "little is padding"
    assert (_tokens.CPU_TOKENS, _tokens.GPU_TOKENS) == (512, 16384)
