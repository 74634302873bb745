import numpy as np
import pytest
import torch

from modalrec.config import resolve
from modalrec.data.features import Bag
from modalrec.data.splits import TEST, TRAIN
from modalrec.errors import ConfigError
from modalrec.recommenders._fields import Fields, FieldsConfig
from modalrec.recommenders._pooling import counts, mean_of_codes
from modalrec.recommenders._row_space import RowSpace
from modalrec.testing.rows import taste_rows, taste_space, tastes
from modalrec.training.rows import collate


def space(**changes: object) -> RowSpace:
    given = tastes()._replace(**changes)
    return taste_space(given, taste_rows(given))


def keys(**settings: object) -> tuple[list[str], list[str]]:
    fields = Fields(resolve(FieldsConfig, settings), space())
    return [one.key for one in fields.item_fields], [one.key for one in fields.row_fields]


def test_the_fields_are_those_of_the_schema() -> None:
    codes = ["item_codes_text", "item_codes_image"]
    known = ["item_id", "item_genre", "item_tags", "item_age", "event_views_level"]
    assert keys() == ([*known, *codes], ["user_country", "row_hour"])
    assert keys(user_id=True)[1] == ["user_id", "user_country", "row_hour"]
    assert keys(without=["popularity", "codes"])[0] == known[:-1]
    assert keys(without=["item_age", "item_codes_text"])[0] == [*known[:3], known[4], codes[1]]
    assert keys(codes="joined")[0] == [*known, "item_codes"]


def test_what_is_no_field_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="item_gnre, user_x: no such field; the fields are event_views_level, item_age"
    ):
        keys(without=["item_gnre"], share={"item_genre": "user_x"})


def test_the_vocabulary_is_that_of_the_train_rows() -> None:
    """Items, categories and users that only test rows have are the unknown one, whatever their number."""
    given = tastes()
    late = (given.genres[given.items] == 4) | (given.items < 5) | (given.users < 3)
    split = np.where(late, TEST, TRAIN).astype(np.int8)
    liked = np.where(late, 0, given.labels).astype(np.int8)  # else histories of train rows would hold them
    found = space(split=split, labels=liked).features
    items, users = found.values["item_id"], found.values["user_id"]
    unseen = (given.genres == 4) | (np.arange(40) < 5)
    assert (items[unseen] == 0).all()
    assert sorted(items[~unseen]) == list(range(1, 1 + (~unseen).sum()))
    assert users[:5].tolist() == [0, 0, 0, 1, 2]
    assert (found.values["item_genre"][given.genres == 4] == 0).all()
    assert (found.values["item_genre"][~unseen] == given.genres[~unseen]).all()
    tags = found.values["item_tags"]
    assert isinstance(tags, Bag)
    assert 4 not in tags.ids


def test_a_number_is_scaled_by_what_training_has_seen_and_missing_says_so() -> None:
    fields = Fields(resolve(FieldsConfig, {"width": 2}), space())
    mean, deviation = fields.scales["item_age"]
    table = fields.tables["item_age"]
    rows = taste_rows(tastes())
    batch = collate(rows, rows.of(TRAIN, "click")[:200], 6, "click")
    place = [one.key for one in fields.item_fields].index("item_age")
    found = fields.items(batch)[:, 2 * place : 2 * place + 2]
    for vector, item in zip(found, batch["item"].tolist(), strict=True):
        given = [0.0, 1.0] if item % 7 == 0 else [(item - mean) / deviation, 0.0]
        torch.testing.assert_close(vector, table.weight @ torch.tensor(given))


def test_a_bag_is_the_mean_of_its_categories_and_tables_are_shared_where_it_says_so() -> None:
    settings = {"width": 3, "share": {"item_genre": "item_tags"}, "embedding_std": 1.0}
    fields = Fields(resolve(FieldsConfig, settings), space())
    assert "item_genre" not in fields.tables
    rows = taste_rows(tastes())
    batch = collate(rows, rows.of(TRAIN, "click")[:50], 6, "click")
    found = fields.items(batch)
    names = [one.key for one in fields.item_fields]
    genres = torch.tensor(tastes().genres[batch["item"].numpy()], dtype=torch.int64)
    table = fields.tables["item_tags"].weight
    place = 3 * names.index("item_genre")
    torch.testing.assert_close(found[:, place : place + 3], table[genres])
    place = 3 * names.index("item_tags")
    torch.testing.assert_close(found[:, place : place + 3], (table[genres] + table[genres + 4]) / 2)


@pytest.mark.parametrize(
    ("settings", "rows"), [({}, (12, 16)), ({"slots": "own"}, (12, 320)), ({"slots": "shared"}, (4, 16))]
)
def test_slots_have_tables_of_their_own_or_one(settings: dict[str, str], rows: tuple[int, int]) -> None:
    fields = Fields(resolve(FieldsConfig, settings), space())
    assert (len(fields.tables["item_codes_text"].weight), len(fields.tables["item_codes_image"].weight)) == rows


@pytest.mark.parametrize(("slots", "size"), [(512, 1024), (4, 1024)])
def test_counted_codes_are_worth_the_same_as_codes_looked_up(slots: int, size: int) -> None:
    draw = torch.Generator().manual_seed(0)
    codes_UK = torch.randint(0, size, (30, slots), generator=draw, dtype=torch.int32)
    table_VD = torch.randn(size, 8, generator=draw).requires_grad_()
    weight_UD = torch.randn(30, 8, generator=draw)
    assert counts(codes_UK, size).sum(1).tolist() == [slots] * 30
    fast_UD, slow_UD = mean_of_codes(codes_UK, table_VD), table_VD[codes_UK.long()].mean(1)
    torch.testing.assert_close(fast_UD, slow_UD)
    ours, theirs = (torch.autograd.grad((one * weight_UD).sum(), table_VD)[0] for one in (fast_UD, slow_UD))
    torch.testing.assert_close(ours, theirs)
