"""Fields as vectors: an embedding of a category, means of a bag and of an item's codes, a linear map of a number."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field as Setting
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.config import Config
from modalrec.data.features import Bag, Field, Values
from modalrec.errors import ConfigError
from modalrec.recommenders._pooling import mean_of_codes
from modalrec.recommenders._row_space import ID, RowSpace

# U items, B rows, D width of a field, F numbers that are apart.

LARGE = 4096
"""Rows from which a table is updated row by row; smaller ones are touched nearly whole by a batch."""


class FieldsConfig(Config):
    """Which fields a model sees, and how.

    Attributes:
        width: Length of every field's vector.
        without: Fields to leave out, by key such as `item_tags`; `popularity` stands for all that tell how popular an
            item is, `codes` for all codes.
        user_id: A vector for every user.
        codes: Each group of codes is a field (`groups`), or all together are one (`joined`).
        slots: A code means the same at every slot (`shared`), or there is a table for each (`own`); `auto` goes by how
            the codes were made.
        share: From field to field: the first uses the table of the second, as in {"item_codes_image":
            "item_codes_text"}.
        embedding_std: Deviation of the first embeddings.
    """

    width: int = Setting(16, ge=1)
    without: tuple[str, ...] = ()
    user_id: bool = False
    codes: Literal["groups", "joined"] = "groups"
    slots: Literal["auto", "shared", "own"] = "auto"
    share: dict[str, str] = {}
    embedding_std: float = Setting(0.01, gt=0)


class Fields(nn.Module):
    """The vectors of items, users and rows.

    Args:
        config: Which fields there are.
        space: Their values; they move with the module and are no part of its state.
        numbers_apart: Numbers are no vectors but `numbers`.

    Attributes:
        item_fields: What an item's vector is joined from, in order; each has `config.width` numbers.
        row_fields: What a row has besides: fields of users and of rows.
        number_fields: Numbers that are apart.

    Raises:
        ConfigError: `without` or `share` names what is no field.
    """

    def __init__(self, config: FieldsConfig, space: RowSpace, numbers_apart: bool = False) -> None:
        super().__init__()
        self.config, self.scales = config, space.scales
        values = dict(space.features.values)
        given = list(space.features.fields)
        _refuse_unknown(config, given)
        if config.codes == "joined":
            given = _joined(given, values)
        kept = [one for one in given if not _left_out(one, config)]
        self.number_fields = [one for one in kept if numbers_apart and one.kind == "number"]
        as_vectors = [one for one in kept if one not in self.number_fields]
        self.item_fields = [one for one in as_vectors if one.owner in ("item", "event")]
        self.row_fields = [one for one in as_vectors if one.owner in ("user", "row")]
        self.tables = nn.ModuleDict()
        for one in kept:
            if one in as_vectors:
                self._add_table(one)
            if one.owner in ("item", "user"):
                self._add_values(one, values[one.key])

    @property
    def item_width(self) -> int:
        """Length of an item's vector."""
        return len(self.item_fields) * self.config.width

    @property
    def row_width(self) -> int:
        """Length of a row's own vector, 0 where there are no fields of users and rows."""
        return len(self.row_fields) * self.config.width

    def items(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Vectors [U, item_width] of the distinct items of a batch."""
        return torch.cat([self._vector(one, batch, batch["item"]) for one in self.item_fields], 1)

    def rows(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Vectors [B, row_width] of what rows have besides items."""
        if not self.row_fields:
            return torch.zeros(len(batch["user"]), 0, device=batch["user"].device)
        return torch.cat([self._vector(one, batch, batch["user"]) for one in self.row_fields], 1)

    def numbers(self, batch: Mapping[str, Tensor]) -> Tensor:
        """[B, 2 F] of the fields that are apart: each standardised, 0 where it is missing, and whether it is."""
        targets = batch["item"][batch["target"]]
        ids = {"item": targets, "user": batch["user"]}
        found = [
            self._standardised(one, self.get_buffer(f"{one.key}_values")[ids[one.owner]])
            if one.owner in ids
            else self._standardised(one, batch[one.key])
            for one in self.number_fields
        ]
        return torch.cat(found, 1) if found else torch.zeros(len(targets), 0, device=targets.device)

    def table(self, one: Field) -> nn.Module:
        """The table of a field, its own or the one it shares."""
        return self.tables[self.config.share.get(one.key, one.key)]

    def _vector(self, one: Field, batch: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        table = self.table(one)
        given = batch.get(one.key)
        if one.kind == "bag":
            flat, offsets = _bags(self.get_buffer(f"{one.key}_ids"), self.get_buffer(f"{one.key}_offsets"), ids)
            weight, sparse = table.weight, table.sparse
            return F.embedding_bag(flat, weight, offsets, mode="mean", sparse=sparse)  # type: ignore[arg-type]
        values = self.get_buffer(f"{one.key}_values")[ids] if given is None else given
        if one.kind == "codes":
            return mean_of_codes(values, table.weight)  # type: ignore[arg-type]
        return table(self._standardised(one, values) if one.kind == "number" else values)

    def _standardised(self, one: Field, values: Tensor) -> Tensor:
        mean, deviation = self.scales[one.key]
        missing = values.isnan()
        scaled = ((values - mean) / deviation).masked_fill(missing, 0.0)
        return torch.stack([scaled, missing.float()], 1)

    def _add_table(self, one: Field) -> None:
        if one.key in self.config.share:
            return
        if one.kind == "number":
            self.tables[one.key] = nn.Linear(2, self.config.width, bias=False)
            return
        size = self._code_rows(one) if one.kind == "codes" else one.size
        table = nn.Embedding(size, self.config.width, sparse=one.kind != "codes" and size > LARGE)
        nn.init.normal_(table.weight, std=self.config.embedding_std)
        if one.kind != "codes":
            nn.init.zeros_(table.weight[0])  # what is unknown says nothing, until training says otherwise
        self.tables[one.key] = table

    def _add_values(self, one: Field, values: object) -> None:
        if isinstance(values, Bag):
            self.register_buffer(f"{one.key}_ids", torch.tensor(values.ids, dtype=torch.int64), persistent=False)
            self.register_buffer(f"{one.key}_offsets", torch.tensor(values.offsets), persistent=False)
            return
        array = np.asarray(values)
        if one.kind == "codes":
            if not self._shares_slots(one):
                array = array + np.cumsum([0, *one.slots[:-1]])
            array = array.astype(np.int32)
        elif one.kind == "category":
            array = array.astype(np.int64)
        self.register_buffer(f"{one.key}_values", torch.tensor(array), persistent=False)

    def _shares_slots(self, one: Field) -> bool:
        return one.shared if self.config.slots == "auto" else self.config.slots == "shared"

    def _code_rows(self, one: Field) -> int:
        return max(one.slots) if self._shares_slots(one) else sum(one.slots)


def _bags(ids: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The bags of rows, one after the other, and where each begins."""
    begins = offsets[rows]
    lengths = offsets[rows + 1] - begins
    starts = lengths.cumsum(0) - lengths
    places = torch.arange(int(lengths.sum()), device=ids.device)
    return ids[places + (begins - starts).repeat_interleave(lengths)], starts


def _left_out(one: Field, config: FieldsConfig) -> bool:
    named = one.key in config.without or ("popularity" in config.without and one.popularity)
    codes = one.kind == "codes" and "codes" in config.without
    return named or codes or (one.owner == "user" and one.name == ID and not config.user_id)


def _joined(given: list[Field], values: dict[str, Values]) -> list[Field]:
    """All codes of an item as one field, where there are any."""
    groups = [one for one in given if one.kind == "codes"]
    if not groups:
        return given
    slots = tuple(size for one in groups for size in one.slots)
    together = Field("codes", "item", "codes", slots=slots, shared=all(one.shared for one in groups))
    values[together.key] = np.concatenate([np.asarray(values[one.key]) for one in groups], 1)
    return [*(one for one in given if one.kind != "codes"), together]


def _refuse_unknown(config: FieldsConfig, given: list[Field]) -> None:
    known = {one.key for one in given} | {"item_codes"}
    named = {*config.without, *config.share, *config.share.values()} - {"popularity", "codes"}
    if named - known:
        raise ConfigError(
            f"recommender: {', '.join(sorted(named - known))}: no such field; the fields are {', '.join(sorted(known))}"
        )
