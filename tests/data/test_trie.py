import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.trie import Trie


@given(st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_walking_the_trie_gives_every_item_once(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.stack(np.unravel_index(rng.choice(7 * 5 * 3, n, replace=False) if n <= 105 else [], (7, 5, 3)), axis=1)
    trie = Trie.build(codes.astype(np.int32))
    found: list[tuple[int, tuple[int, ...]]] = []

    def walk(level: int, node: int, prefix: tuple[int, ...]) -> None:
        if level == 3:
            found.append((int(trie.order[node]), prefix))
            return
        children, real = trie.children(level, torch.tensor([node]))
        below = trie.first_item[level]
        assert int(below[node + 1] - below[node]) == sum(codes[:, :level].tolist().count(list(prefix)) for _ in [0])
        for child in children[0][real[0]].tolist():
            walk(level + 1, child, (*prefix, int(trie.code[level][child])))

    walk(0, 0, ())
    assert sorted(item for item, _ in found) == list(range(n))
    assert all(tuple(codes[item].tolist()) == prefix for item, prefix in found)
    assert torch.equal(trie.rank[trie.order], torch.arange(n))


def test_refuses_two_items_with_one_semantic_id() -> None:
    with pytest.raises(ValueError, match="share a semantic ID"):
        Trie.build(np.array([[1, 2], [1, 2]], np.int32))
