"""The settings behind the tables of quality: what was chosen, and what was tried on the validation part for it."""

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
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in base.items()}
    for key, value in overrides.items():
        result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    return result


START: dict[str, Settings] = {
    "gru4rec": GRU4REC,
    "sasrec_ids": SASREC,
    "sasrec_both": over(SASREC, recommender={"content": "sum"}),
    "causal_rq_kmeans": over(CAUSAL, codes="rq_kmeans"),
}
CONTENT, BOTH = {"content": "only"}, {"content": "sum"}
T5: Settings = {
    "recommender": {
        "name": "encoder_decoder",
        "form": "t5",
        "content": "sum",
        "width": 128,
        "layers": 4,
        "heads": 6,
        "feed_forward": 8,
        "dropout": 0.1,
        "history": 20,
    },
    "training": {"epochs": 3, "batch_size": 64, "learning_rate": 0.001},
    "validation_users": 500,
    "codes": "rq_kmeans",
    "seeds": 1,
}
"""TIGER's size; as many epochs as 20 minutes of one core allow, which is far from converged."""
WIDE = over(SASREC, recommender={"width": 128, "heads": 4})
FIRM = over(CAUSAL, recommender={"dropout": 0.5})
IDS = over(SASREC, recommender={"similarity": "cosine"})
RETRIEVE: Settings = {
    "recommender": {"name": "encoder_retrieve", "content": "sum", "width": 128, "heads": 4, "dropout": 0.3},
    "training": {"epochs": 20, "batch_size": 64, "learning_rate": 0.003, "patience": 4},
    "codes": "opq",
}
HYBRID: Settings = {
    "recommender": {"name": "hybrid", "dropout": 0.5},
    "training": {"epochs": 15, "batch_size": 64, "learning_rate": 0.002, "patience": 4},
    "validation_users": 2000,
    "codes": "rq_kmeans",
}
ROWS: dict[str, Settings] = {
    "gru4rec": over(GRU4REC, training={"learning_rate": 0.05}),
    "sasrec_ids": IDS,
    "sasrec_content": over(WIDE, recommender=CONTENT),
    "sasrec_both": over(WIDE, recommender=BOTH),
    "sasrec_both_neighbours": over(WIDE, recommender={**BOTH, "neighbours": 2.0}),
    "causal_rqvae": over(FIRM, codes="rqvae"),
    "causal_rq_kmeans": over(FIRM, codes="rq_kmeans"),
    "t5_rq_kmeans": T5,
    "encoder_retrieve": RETRIEVE,
    "hybrid": HYBRID,
}
NEW_ITEMS: dict[str, Settings] = {
    "sasrec_init": over(IDS, recommender={"content": "init", "cold_items": "content"}),
    "sasrec_both": over(
        ROWS["sasrec_both"], recommender={"similarity": "cosine", "cold_items": "content", "id_dropout": 0.3}
    ),
    "encoder_retrieve": RETRIEVE,
    "hybrid": HYBRID,
}
"""Where a tenth of the items has no train event: content speaks for them, and none of them is a negative."""
LONG = {"training": {"epochs": 8, "batch_size": 16, "patience": 3}}
"""Histories of hundreds of films: few windows, each with fifty targets."""
CHOSEN: dict[str, dict[str, Settings]] = {
    "scientific": ROWS,
    "ml_latest_small": {
        "gru4rec": ROWS["gru4rec"],
        **{row: over(ROWS[row], **LONG) for row in ROWS if row not in ("gru4rec", "t5_rq_kmeans")},
        "t5_rq_kmeans": over(T5, recommender={"history": 5}, training={"epochs": 1}),
    },
    "mm_subset": {
        "sasrec_ids": IDS,
        "sasrec_text": over(WIDE, recommender=BOTH, embeddings="text_alone"),
        "sasrec_image": over(WIDE, recommender=BOTH, embeddings="image_alone"),
        "sasrec_text_image": over(WIDE, recommender=BOTH),
    },
    "scientific_new_items": NEW_ITEMS,
    "ml_latest_small_new_items": {row: over(settings, **LONG) for row, settings in NEW_ITEMS.items()},
    "mm_subset_new_items": {
        "sasrec_init": NEW_ITEMS["sasrec_init"],
        **{
            f"{row}_{kind}": over(NEW_ITEMS[row], embeddings=vectors)
            for row in ("sasrec_both", "encoder_retrieve", "hybrid")
            for kind, vectors in (("text", "text_alone"), ("image", "image_alone"), ("text_image", "embeddings"))
        },
    },
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
    {"recommender": {"dropout": 0.5, "content": "none"}},
    {"recommender": {"dropout": 0.5, "width": 192}, "training": {"epochs": 40}},
]
TRIED: dict[str, list[Settings]] = {
    "gru4rec": [
        {},
        {"recommender": {"layers": [256]}},
        {"recommender": {"dropout_p_embed": 0.2}},
        {"training": {"learning_rate": 0.05}},
    ],
    **dict.fromkeys(("sasrec_ids", "sasrec_both"), _SASREC),
    "causal_rq_kmeans": _CAUSAL,
}
"""Over START: four for each trained recommender, on Amazon Scientific, one seed; other rows take over its choice."""


def row_names(dataset: str) -> list[str]:
    """The rows of a dataset's table, in order."""
    return list(CHOSEN[dataset])
