"""Every quantizer keeps the contract in each of its forms, and codes real vectors about as well as it should."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modalrec import plugins
from modalrec.quantizers import BASE_KIND
from modalrec.testing.quantizers import QuantizerContract, relative_error

AUTOENCODER: dict[str, Any] = {"hidden": [32]}
CODEBOOKS = {**AUTOENCODER, "codebook_size": 16, "revive_after": 2}
RQVAE, VQVAE = {**CODEBOOKS, "levels": 2, "width": 12}, {**CODEBOOKS, "slots": 2, "width": 6}
CENTRES = {"levels": 2, "codebook_size": 16}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "rqvae": ("rqvae", RQVAE),
    "rqvae ema": ("rqvae", {**RQVAE, "learning": "ema", "decay": 0.9}),
    "rqvae bfloat16": ("rqvae", {**RQVAE, "learning": "ema", "decay": 0.9, "precision": "bfloat16"}),
    "rqvae cosine": ("rqvae", {**RQVAE, "distance": "cosine"}),
    "rqvae sinkhorn": ("rqvae", {**RQVAE, "sinkhorn": 0.003}),
    "rqvae diverse": ("rqvae", {**RQVAE, "diversity": 1e-4}),
    "rqvae published": ("rqvae", {**RQVAE, "components": None, "norm": True, "dropout": 0.1}),
    "vqvae": ("vqvae", VQVAE),
    "vqvae one slot": ("vqvae", {**VQVAE, "slots": 1, "width": 12}),
    "vqvae shared": ("vqvae", {**VQVAE, "shared": True}),
    "vqvae ema": ("vqvae", {**VQVAE, "learning": "ema", "decay": 0.9}),
    "rq_kmeans": ("rq_kmeans", CENTRES),
    "rq_kmeans balanced": ("rq_kmeans", {**CENTRES, "balanced": True}),
    "pq": ("pq", CENTRES),
    "opq": ("opq", CENTRES),
    "fsq": ("fsq", {**AUTOENCODER, "levels": 2, "grid": [4, 4]}),
}
"""From a title to a plug-in and the settings that suit 400 vectors of 24 numbers."""

REAL: dict[str, tuple[dict[str, Any], float, float]] = {
    "rqvae": ({"levels": 3, "codebook_size": 64}, 0.62, 0.68),
    "vqvae": ({"slots": 3, "codebook_size": 64}, 0.70, 0.76),
    "rq_kmeans": ({"levels": 3, "codebook_size": 64}, 0.60, 0.72),
    "pq": ({"levels": 3, "codebook_size": 64}, 0.70, 0.75),
    "opq": ({"levels": 3, "codebook_size": 64}, 0.65, 0.72),
    "fsq": ({"levels": 3, "grid": [4, 4, 4]}, 0.80, 0.85),
}
"""Settings of three levels of 64 codes, and the shares of the variance that may be left, of learnt and new titles."""


def test_every_plug_in_has_a_form() -> None:
    assert {name for name, _ in FORMS.values()} == set(REAL) == set(plugins.discover(BASE_KIND))


@pytest.mark.parametrize("form", FORMS, scope="class")
class TestQuantizers(QuantizerContract):
    @pytest.fixture(autouse=True)
    def _choose(self, form: str) -> None:
        name, self.settings = FORMS[form]
        self.plugin = plugins.discover(BASE_KIND)[name]


@pytest.mark.parametrize("name", REAL)
def test_codes_of_real_titles(name: str, real_data: Path) -> None:
    """MiniLM's vectors of the titles of Amazon Scientific, ten epochs at most."""
    stored = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy")
    vectors_ND = torch.from_numpy(stored.astype(np.float32))
    contract = QuantizerContract()
    settings, learnt, new = REAL[name]
    contract.plugin, contract.settings = plugins.discover(BASE_KIND)[name], settings
    contract.training = contract.training.model_copy(update={"learning_rate": 1e-3, "batch_size": 256})
    quantizer = contract.trained(vectors_ND[:3500], epochs=10)
    assert relative_error(quantizer, vectors_ND[:3500]) < learnt
    assert relative_error(quantizer, vectors_ND[3500:]) < new
    for column in quantizer.encode(vectors_ND).T:
        assert len(column.unique()) >= 0.95 * 64
