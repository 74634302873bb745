import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.trie import Trie


@given(st.integers(1, 150), st.booleans(), st.integers(0, 2**32 - 1))
def test_walking_the_trie_gives_every_item_once(n: int, colliding: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 105, n) if colliding else rng.permutation(105)[:n]
    n = len(numbers)
    codes = np.stack(np.unravel_index(numbers, (7, 5, 3)), axis=1)
    trie = Trie.build(codes.astype(np.int32))
    found: list[tuple[int, tuple[int, ...]]] = []

    def walk(level: int, node: int, prefix: tuple[int, ...]) -> None:
        begin, end = trie.first_item[level][node : node + 2].tolist()
        assert end - begin == codes[:, :level].tolist().count(list(prefix))
        if level == 3:
            items = trie.order[begin:end].tolist()
            assert [int(trie.leaf[item]) for item in items] == [node] * len(items)
            found.extend((item, prefix) for item in items)
            return
        children, real = trie.children(level, torch.tensor([node]))
        for child in children[0][real[0]].tolist():
            walk(level + 1, child, (*prefix, int(trie.code[level][child])))

    walk(0, 0, ())
    assert sorted(item for item, _ in found) == list(range(n))
    assert all(tuple(codes[item].tolist()) == prefix for item, prefix in found)
    assert torch.equal(trie.rank[trie.order], torch.arange(n))
    assert trie.largest == np.unique(numbers, return_counts=True)[1].max()
    assert len(trie.code[-1]) == len(np.unique(numbers))


def test_items_with_one_semantic_id_are_one_leaf() -> None:
    trie = Trie.build(np.array([[1, 2], [0, 5], [1, 2]], np.int32))
    assert trie.leaf.tolist() == [1, 0, 1]
    assert trie.first_item[-1].tolist() == [0, 1, 3]
    assert trie.largest == 2
