"""The last training of a search, and what it is measured with."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modalrec.config import dump, merged, parse_assignments, resolve
from modalrec.errors import ConfigError
from modalrec.stages import load_stage
from modalrec.tuning.fields import EPOCH

SPLIT = ("split", "targets", "unseen_items", "mask_seen")
"""Settings in which training and evaluation agree."""


def training_settings(settings: Mapping[str, Any], final: Sequence[str], best: Mapping[str, Any]) -> list[str]:
    """What the last training has over the best trial's settings, as assignments.

    A training that learns from the validation part too cannot be stopped by it. It trains for as many epochs as the
    trial did until its best one, which is the same where the learning rate is constant, as GRU4Rec's is.

    Args:
        settings: The best trial's.
        final: Those of the last training alone.
        best: The best trial, with its metrics.

    Raises:
        ConfigError: The trials did not say which epoch they kept.
    """
    given = parse_assignments(final)
    config = resolve(load_stage("finetune")[1], settings, given, where="finetune")
    if getattr(config, "fit_on", "train") == "train" or "epochs" in (given.get("training") or {}):
        return list(final)
    if EPOCH not in best["metrics"]:
        raise ConfigError(
            f"the trials collected no {EPOCH}, and the last training cannot stop by validation; give "
            f"--final training.epochs=NUMBER, or add {EPOCH} to additionalMetricNames"
        )
    return [*final, f"training.epochs={best['metrics'][EPOCH]:.0f}", "training.patience=0"]


def evaluate_settings(settings: Mapping[str, Any], final: Sequence[str], cutoffs: Sequence[int]) -> list[str]:
    """What `evaluate` needs to rank as the trials did, at these list lengths."""
    trained = dump(resolve(load_stage("finetune")[1], merged(settings, parse_assignments(final)), where="finetune"))
    fields = load_stage("evaluate")[1].model_fields
    shared = [f"{name}={json.dumps(trained[name])}" for name in SPLIT if name in trained and name in fields]
    return [*shared, f"cutoffs={list(cutoffs)}", f"list_length={max(50, *cutoffs)}"]
