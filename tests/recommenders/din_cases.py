"""Small models of rows with weights and rows from formulas, and any DIN in the form that the benchmark's peer reads."""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modalrec.config import resolve
from modalrec.data.features import Bag, Features, Field
from modalrec.data.rows import Rows
from modalrec.recommenders import ItemSpace
from modalrec.recommenders._row_space import RowSpace
from modalrec.recommenders._rows import RowModel
from modalrec.recommenders.din import DIN
from modalrec.recommenders.target_transformer import TargetTransformer

M = TypeVar("M", bound=RowModel)
ITEMS, ROWS, BATCH, HISTORY, RATE = 9, 24, 6, 5, 0.02


def small_case() -> tuple[DIN, Rows]:
    """A DIN and its rows."""
    settings = {"width": 3, "attention": [5, 4], "layers": [6, 4], "dropout": 0.0, "tables": "adam", "history": HISTORY}
    return _with_waves(DIN, settings, 0.8)


def small_target_case() -> tuple[TargetTransformer, Rows]:
    """A target transformer and its rows."""
    sizes = {"width": 2, "heads": 2, "feed_forward_width": 7, "last": 3, "crosses": 2, "layers": [6, 4], "head": [5, 3]}
    return _with_waves(TargetTransformer, {**sizes, "attention_dropout": 0.0, "dropout": 0.0, "history": HISTORY}, 0.5)


def small_rows() -> Rows:
    """Nine items with a level and tags, 24 rows with histories of none to seven items."""
    place = np.arange(ROWS)
    lengths = place * 5 % 8
    ends = np.cumsum(lengths)
    past = (np.arange(ends[-1]) * 7 % 11 % ITEMS).astype(np.int32)
    tags = Bag(np.array([1, 2, 3, 1, 4, 2, 4, 3, 1, 2, 3, 4], np.int32), np.array([0, 1, 3, 3, 5, 6, 8, 9, 9, 12]))
    features = (
        Features()
        .with_field(Field("level", "item", "category", 5, popularity=True), (1 + np.arange(ITEMS) % 4).astype(np.int32))
        .with_field(Field("tags", "item", "bag", 5), tags)
    )
    return Rows(
        users=place.astype(np.int32),
        items=(place * 4 % ITEMS).astype(np.int32),
        labels=(place % 3 == 0).astype(np.int8),
        split=np.zeros(ROWS, np.int8),
        begins=ends - lengths,
        ends=ends,
        past=past,
        n_users=ROWS,
        n_items=ITEMS,
        split_name="given",
        features=features,
    )


def _with_waves(plugin: type[M], settings: dict[str, Any], height: float) -> tuple[M, Rows]:
    """A model of `small_rows` with weights from sines of this height."""
    rows, names = small_rows(), [f"i{item}" for item in range(ITEMS)]
    space = RowSpace.of(ItemSpace(names, names), [f"u{row}" for row in range(ROWS)], rows)
    model = plugin(resolve(plugin.Config, settings), space)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            waves = torch.sin(0.37 * torch.arange(parameter.numel(), dtype=torch.float64) ** 2 + number)
            parameter.copy_(height * waves.reshape(parameter.shape))
        for table in model.fields.tables.values():
            table.weight[0] = 0.0
    return model, rows


def write_case(
    folder: Path, model: DIN, rows: Rows, places: NDArray[np.int64], batch: int, rate: float, asked: int = 0
) -> None:
    """Writes a model and its rows as `case.npz` for `_ctr_peer.py`: items from 1, histories padded with 0 in front.

    The last `asked` rows are for prediction alone.
    """
    length = model.config.history
    lengths = np.minimum(rows.ends[places] - rows.begins[places], length)
    history = np.zeros((len(places), length), np.int64)
    inside = np.arange(length) >= length - lengths[:, None]
    history[inside] = (
        np.concatenate([rows.past[end - n : end] for end, n in zip(rows.ends[places], lengths, strict=True)]) + 1
    )
    case: dict[str, NDArray[np.generic] | str | float] = {
        "history": history,
        "target": rows.items[places].astype(np.int64) + 1,
        "label": rows.labels[places].astype(np.float32),
        "batch": batch,
        "rate": rate,
        "asked": asked,
        "attention": json.dumps(model.config.attention),
        "layers": json.dumps(model.config.layers),
    }
    fields = model.fields.item_fields
    case["fields"] = json.dumps([{"name": one.key, "size": one.size, "bag": one.kind == "bag"} for one in fields])
    for one in fields:
        values = model.items.features.values[one.key]
        if isinstance(values, Bag):
            padded = np.zeros((len(values), int(np.diff(values.offsets).max())), np.int64)
            padded[np.arange(padded.shape[1]) < np.diff(values.offsets)[:, None]] = values.ids
            values = padded  # type: ignore[assignment]
        case[f"values_{one.key}"] = np.concatenate([np.zeros_like(values[:1]), values]).astype(np.int64)  # type: ignore[index]
        case[f"table_{one.key}"] = model.fields.tables[one.key].weight.detach().numpy()
    parts = {
        "attention": [model.attention.first, *model.attention.rest, model.attention.last],
        "dnn": [*model.dnn, model.head],
    }
    for part, layers in parts.items():
        for place, layer in enumerate(layer for layer in layers if isinstance(layer, nn.Linear)):
            case[f"{part}_{place}_weight"] = layer.weight.detach().numpy()
            case[f"{part}_{place}_bias"] = layer.bias.detach().numpy()
    np.savez(folder / "case.npz", **case)  # type: ignore[arg-type]
