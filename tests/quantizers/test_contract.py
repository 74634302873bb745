"""Every quantizer keeps the contract, and does better than k-means alone on real vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from modalrec import plugins
from modalrec.quantizers import BASE_KIND
from modalrec.testing.quantizers import QuantizerContract, relative_error

SMALL = {"rqvae": {"levels": 2, "codebook_size": 16, "width": 12, "hidden": [32], "revive_after": 2}}


@pytest.mark.parametrize("name", plugins.discover(BASE_KIND), scope="class")
class TestQuantizers(QuantizerContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.plugin = plugins.discover(BASE_KIND)[name]
        self.settings = SMALL.get(name, {})

    def test_codes_of_real_titles(self, real_data: Path) -> None:
        """Titles of Amazon Scientific: three levels of 64 codes explain half of the variance of MiniLM's vectors."""
        stored = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy")
        vectors_ND = torch.from_numpy(stored.astype(np.float32))
        self.settings = {"levels": 3, "codebook_size": 64}
        self.training = self.training.model_copy(update={"learning_rate": 1e-3, "batch_size": 256})
        quantizer = self.trained(vectors_ND[:3500], epochs=10)
        assert relative_error(quantizer, vectors_ND[:3500]) < 0.62
        assert relative_error(quantizer, vectors_ND[3500:]) < 0.68
        for column in quantizer.encode(vectors_ND).T:
            assert len(column.unique()) >= 0.95 * 64
