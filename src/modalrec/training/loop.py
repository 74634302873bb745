"""The one training loop: quantizers and recommenders alike."""
