"""What training the last layer of the text encoder with DLRM buys over frozen vectors, on ratings of ml-latest-small.

MiniLM on title, genres and, for the films of MovieLens-1M, plot; a fold and a split by time; validation chooses among
the epochs of each row. The settings are those of `rating_quality` but for fewer epochs and shorter texts, which is what
a core has time for. A trained model is kept in `out/cache/quality`, so an interrupted run goes on.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks._quality_data import CACHE, real_data, stage
from tests.benchmarks._quality_settings import over
from tests.benchmarks._rating_data import SHARES
from tests.benchmarks.rating_quality import CHOSEN, METRICS, trained

SPLITS = ("temporal", "folds")
EPOCHS = 2
TOKENS = 40
"""Of a text; title, genres and the first sentence of a plot."""
ROWS = {"no texts": {"without": ["content"]}, "frozen": {}, "last layer trained": {"finetune_layers": 1}}


def main(argv: Sequence[str] = ()) -> None:
    """Trains what is missing and prints a line for each model."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rating_encoders", description=__doc__)
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", default=list(SPLITS), help=", ".join(SPLITS))
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args(argv)
    if real_data() is None:
        print("skipped: set MODALREC_DATA to the folder of real data")
        return
    for split in given.splits:
        for seed in range(given.seeds):
            for row in ROWS:
                measure(split, row, seed)


def measure(split: str, row: str, seed: int) -> None:
    """Prints a row's errors on the test part, and what it took."""
    edges = prepared(split)
    only_texts = {"without": ["image"], **ROWS[row]}
    settings = over(CHOSEN, recommender=only_texts, training={"epochs": EPOCHS, "patience": 0})
    model = trained("ml_latest_small", split, settings, seed, edges, "train")
    place = model.with_name(f"{model.name}-judged")
    shutil.rmtree(place, ignore_errors=True)
    judged = {"split": split, "rows": {"ranked_users": 0}}
    found = stage("evaluate", settings=judged, seed=seed, **edges, model=model, evaluation=place)
    shown = "  ".join(f"{name} {found[name]:.4f}" for name in METRICS if name in found)
    print(f"{split}, {row}, seed {seed}: {shown}", flush=True)


def prepared(split: str) -> dict[str, Path]:
    """`dataset` and `text_embeddings`, made once."""
    folder = CACHE / f"rating_encoders_{split}"
    edges = {edge: folder / edge for edge in ("dataset", "text_embeddings")}
    if not (folder / "ready").is_file():
        data = real_data()
        assert data is not None
        shutil.rmtree(folder, ignore_errors=True)
        valid_share, test_share = SHARES[split]
        settings = {"splits": [split], "label": {"at_least": 4}, "valid_share": valid_share, "test_share": test_share}
        settings |= {"min_user_events": 1, "min_item_events": 1, "source": {"name": "movielens", "tags": False}}
        stage("ingest", data / "movielens", edges["dataset"], settings=settings)
        encoder = {"name": "minilm", "max_tokens": TOKENS}
        stage("embed_text", **edges, settings={"encoder": encoder})
        (folder / "ready").touch()
    return edges


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
