import pytest

from modalrec import plugins
from modalrec.config import resolve
from modalrec.testing.fusers import paired, trained


@pytest.mark.parametrize("name", ["gated", "projection"])  # attention's mean of tokens bears a loss by itself here
def test_taking_a_modality_away_teaches_to_tell_it_from_the_other(name: str) -> None:
    """On held-out items, fused from both and from each alone: without masks the fused vector need not tell both."""
    modalities, losses = paired(), []
    for mask in (0.5, 0.0):
        cls = plugins.discover("fusers")[name]
        config = resolve(cls.Config, {"name": name, "mask": mask, "dimension": 64})
        fuser, shares = trained(lambda lengths, seed, cls=cls, config=config: cls(config, lengths, seed), modalities)
        losses.append(fuser.held_out_loss(modalities.rows(shares.test)))
    assert losses[0] < losses[1] - 0.02, losses
