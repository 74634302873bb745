"""Popularity and item-KNN: published numbers on Amazon Scientific, and the definition by brute force."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.evaluation.content_nn import ContentNN, ItemKNNContent
from modalrec.evaluation.item_knn import ItemKNN
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.popularity import Popularity
from modalrec.evaluation.ranking import rank
from modalrec.recommenders import Scorer
from modalrec.run import Run
from tests.evaluation.tiny import make_sequences


@pytest.mark.parametrize(("baseline", "recall", "ndcg"), [(Popularity, 0.0244, 0.0167), (ItemKNN, 0.1147, 0.0816)])
def test_reproduces_amazon_scientific(
    scientific: Sequences, run: Run, baseline: Callable[[Sequences], Scorer], recall: float, ndcg: float
) -> None:
    ranking = rank(baseline(scientific), scientific, scientific.targets(TEST), mask_seen=True, k=20, run=run)
    assert len(ranking) == 8317
    metrics = measure(ranking)
    assert (round(metrics["recall_10"], 4), round(metrics["ndcg_10"], 4)) == (recall, ndcg)


def test_content_helps_item_knn_on_amazon_scientific(real_data: Path, scientific: Sequences, run: Run) -> None:
    """Stored vectors of the titles; with title and description the two are .0998 / .0664 and .1244 / .0879."""
    stored = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy").astype(np.float32)
    knn, content = ItemKNN(scientific), ContentNN(stored)
    found = {}
    for name, scorer in {"knn": knn, "content": content, "both": ItemKNNContent(knn, content)}.items():
        ranking = rank(scorer, scientific, scientific.targets(TEST), mask_seen=True, k=20, run=run)
        found[name] = measure(ranking)["recall_10"]
    assert found["content"] > 0.095
    assert found["both"] > found["knn"] + 0.006


def test_content_nn_is_the_cosine_with_the_last_item_and_zero_without_content() -> None:
    vectors = np.array([[3, 4], [0, 2], [0, 0], [-6, -8]], np.float32)
    content = ContentNN(vectors)
    prepared = content.prepare([np.array([2, 0], np.int32), np.array([2], np.int32)])
    np.testing.assert_allclose(content.score(prepared, 0, 4), [[1, 0.8, 0, -1], [0, 0, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(content.score(prepared, 1, 3), content.score(prepared, 0, 4)[:, 1:3])


def test_item_knn_content_is_knn_over_its_best_plus_half_the_cosine() -> None:
    knn = ItemKNN(make_sequences([[0, 1, 2, 0], [1, 2, 3, 0]], 4))
    content = ContentNN(np.eye(4, 2, dtype=np.float32))
    history = [np.array([0, 1], np.int32)]
    scores = knn.score(knn.prepare(history), 0, 4)
    expected = scores / scores.max() + 0.5 * np.array([[0, 1, 0, 0]])
    both = ItemKNNContent(knn, content)
    np.testing.assert_allclose(both.score(both.prepare(history), 0, 4), expected, rtol=1e-5)


def test_popularity_counts_train_events_alone() -> None:
    sequences = make_sequences([[0, 0, 1, 2], [0, 1, 2, 2]], 4)
    assert Popularity(sequences).score(3, 0, 4).tolist() == [[3.0, 1.0, 0.0, 0.0]] * 3


def test_item_knn_is_its_definition(random_sequences: Callable[..., Sequences]) -> None:
    sequences = random_sequences(25, 15)
    expected_NN, counts = np.zeros((15, 15)), np.zeros(15)
    for user in range(25):
        train = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1] - 2]
        for place, item in enumerate(train):
            counts[item] += 1
            for gap in range(1, 6):
                if place + gap < len(train):
                    expected_NN[item, train[place + gap]] += 1 / gap
                    expected_NN[train[place + gap], item] += 0.3 / gap
    knn = ItemKNN(sequences)
    history = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 8, 9], np.int32)
    scores = sum(0.8**age * expected_NN[item] for age, item in enumerate(history[::-1][:10])) + 1e-6 * counts
    prepared = knn.prepare([np.array([0], np.int32), history])
    np.testing.assert_allclose(knn.score(prepared, 0, 15)[1], scores, rtol=1e-6)
    np.testing.assert_array_equal(knn.score(prepared, 4, 9), knn.score(prepared, 0, 15)[:, 4:9])


@pytest.mark.fault("edges")
def test_item_knn_without_any_pair_falls_back_to_popularity() -> None:
    knn = ItemKNN(make_sequences([[2], [2], [1]], 3))
    assert knn.score(knn.prepare([np.array([0], np.int32)]), 0, 3)[0] == pytest.approx([0, 1e-6, 2e-6])
