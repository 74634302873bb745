"""Ids as `NAMES`: each distinct one is made a string once, however many rows have it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NAMES = pa.dictionary(pa.int32(), pa.string())
"""Ids of many rows: each distinct one is stored once a batch."""


def as_names(ids: pa.Array) -> pa.Array:
    """Numbers or strings, without null, as `NAMES`."""
    coded = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string())).cast(NAMES)


def as_lists_of_names(lists: pa.Array, *, padding: int | None = None) -> pa.ListArray:
    """Lists of numbers or strings as lists of `NAMES`; a null is an empty list.

    Args:
        lists: Of no null entries.
        padding: A number that stands for nothing, and is left out.
    """
    values = lists.flatten()
    ends = list_ends(lists)
    if padding is not None:
        kept = values.to_numpy() != padding
        if not kept.all():
            ends = np.concatenate([[0], np.cumsum(kept)])[ends]
            values = values.filter(pa.array(kept))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), as_names(values))


def list_ends(lists: pa.Array) -> NDArray[np.int64]:
    """Where in `flatten` each list begins, and where the last one ends [N + 1]; nulls are empty."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
