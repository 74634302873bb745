"""The settings behind the tables of quality: what was chosen, and what was tried on the validation part to choose it."""

from typing import Any

Settings = dict[str, Any]

SASREC: Settings = {
    "recommender": {"name": "sasrec", "dropout": 0.5},
    "training": {"epochs": 30, "batch_size": 128, "learning_rate": 0.0015, "patience": 4},
}
CAUSAL: Settings = {
    "recommender": {"name": "encoder_decoder", "content": "sum", "dropout": 0.3},
    "training": {"epochs": 30, "batch_size": 128, "learning_rate": 0.002, "patience": 4},
    "validation_users": 2000,
}
GRU4REC: Settings = {
    "recommender": {
        "name": "gru4rec",
        "layers": [128],
        "initialisation": "random",
        "logq": 1.0,
        "sample_alpha": 0.5,
        "dropout_p_embed": 0.4,
        "dropout_p_hidden": 0.2,
    },
    "training": {"epochs": 30, "batch_size": 64, "learning_rate": 0.1, "patience": 4},
}


def over(base: Settings, **overrides: Any) -> Settings:
    """A copy with other values, one level deep."""
    return {
        **base,
        **{key: {**base.get(key, {}), **value} if isinstance(value, dict) else value for key, value in overrides.items()},
    }


SCIENTIFIC = {
    "gru4rec": GRU4REC,
    "sasrec_ids": SASREC,
    "sasrec_content": over(SASREC, recommender={"content": "only"}),
    "sasrec_both": over(SASREC, recommender={"content": "sum"}),
    "causal_rqvae": over(CAUSAL, codes="rqvae"),
    "causal_rq_kmeans": over(CAUSAL, codes="rq_kmeans"),
}
CHOSEN: dict[str, dict[str, Settings]] = {
    "scientific": SCIENTIFIC,
    "ml_latest_small": SCIENTIFIC,
    "mm_subset": {},
}
_SASREC: list[Settings] = [
    {},
    {"recommender": {"dropout": 0.3}},
    {"recommender": {"width": 128, "heads": 4}},
    {"recommender": {"similarity": "cosine"}},
]
_CAUSAL: list[Settings] = [
    {},
    {"recommender": {"dropout": 0.5}},
    {"recommender": {"width": 64}},
    {"recommender": {"content": "none"}},
]
TRIED: dict[str, list[Settings]] = {
    "gru4rec": [
        {},
        {"recommender": {"layers": [256]}},
        {"recommender": {"dropout_p_embed": 0.2}},
        {"training": {"learning_rate": 0.05}},
    ],
    **dict.fromkeys(("sasrec_ids", "sasrec_content", "sasrec_both"), _SASREC),
    **dict.fromkeys(("causal_rqvae", "causal_rq_kmeans"), _CAUSAL),
}
"""Over the first setting, four for each trained recommender."""


def row_names(dataset: str) -> list[str]:
    """The rows of a dataset's table, in order."""
    return list(CHOSEN[dataset])
