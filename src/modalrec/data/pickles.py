"""Pickled DataFrames and vectors as data alone: nothing of what a pickle names is imported or called.

A pickle is a program. Here each of the few names that these need stands for an inert record of what it was called
with; every other name is refused before anything happens. The columns are then put together from the records, so that
frames of pandas 2 and 3 are read alike, whatever pandas is installed.
"""

import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modalrec.data.delimited import UNREADABLE, open_binary
from modalrec.errors import DataError

T = TypeVar("T")
NUMPY = ("numpy.core", "numpy._core")
NAMES: dict[str, tuple[str, ...]] = {
    "frame": ("pandas.DataFrame", "pandas.core.frame.DataFrame"),
    "manager": ("pandas.core.internals.managers.BlockManager",),
    "block": ("pandas._libs.internals._unpickle_block", "pandas.core.internals.blocks.new_block"),
    "new_index": ("pandas.core.indexes.base._new_Index",),
    "index": ("pandas.Index", "pandas.core.indexes.base.Index"),
    "range_index": ("pandas.RangeIndex", "pandas.core.indexes.range.RangeIndex"),
    "ndarray": ("numpy.ndarray",),
    "dtype": ("numpy.dtype",),
    "reconstruct": tuple(f"{numpy}.multiarray._reconstruct" for numpy in NUMPY),
    "frombuffer": tuple(f"{numpy}.numeric._frombuffer" for numpy in NUMPY),
    "scalar": tuple(f"{numpy}.multiarray.scalar" for numpy in NUMPY),
    "backed": ("pandas._libs.arrays.__pyx_unpickle_NDArrayBacked",),
    "datetimes": ("pandas.arrays.DatetimeArray", "pandas.core.arrays.datetimes.DatetimeArray"),
    "datetime_dtype": ("pandas.DatetimeTZDtype", "pandas.core.dtypes.dtypes.DatetimeTZDtype"),
    "timezone": ("datetime.timezone",),
    "timedelta": ("datetime.timedelta",),
    "strings": ("pandas.arrays.ArrowStringArray", "pandas.core.arrays.string_arrow.ArrowStringArray"),
    "string_dtype": ("pandas.StringDtype", "pandas.core.arrays.string_.StringDtype"),
    "arrow_chunks": ("pyarrow.lib.chunked_array",),
    "arrow_array": ("pyarrow.lib._restore_array",),
    "arrow_type": ("pyarrow.lib.type_for_alias",),
    "arrow_buffer": ("pyarrow.lib.py_buffer",),
    "slice": ("builtins.slice", "__builtin__.slice"),
    "bytearray": ("builtins.bytearray", "__builtin__.bytearray"),
    "encode": ("_codecs.encode",),
}
KNOWN = {name: role for role, names in NAMES.items() for name in names}
PLAIN = re.compile(r"[biuf]\d{1,2}|M8|O8")
UNITS = {b"s": "s", b"ms": "ms", b"us": "us", b"ns": "ns"}
FRAME_ADVICE = "Write the frame with frame.to_parquet(...) and give that file"
LISTS_ADVICE = "Write it as {item: list of numpy vectors}, or give .npy or .parquet"
MOST = 10_000
"""Columns of a frame."""
JOBLIB = "joblib.numpy_pickle"


class _Made:
    """What a name was called with, and the state that was laid upon it."""

    role: str
    args: tuple[Any, ...]
    state: Any = None

    def __new__(cls, *args: Any) -> "_Made":
        made = super().__new__(cls)
        made.args = args
        return made

    def __init__(self, *args: Any) -> None:
        """Takes what `__new__` has kept."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


STANDINS: dict[str, Any] = {role: type(role, (_Made,), {"role": role}) for role in NAMES}


class _Refused(Exception):
    """A name that what is read here does not need."""


class _Reader(pickle._Unpickler):
    """The one written in Python: the other makes room for whatever place in its memory a file of some bytes names."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in KNOWN:
            raise _Refused(full)
        return STANDINS[KNOWN[full]]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")


def read_frame(path: Path) -> pa.Table:
    """The columns of a pickled DataFrame; its index is left out.

    Args:
        path: A pickle, perhaps packed (`.gz`).

    Raises:
        DataError: The file is no whole pickle, holds something else than a frame of numbers, texts and times, or names
            anything that such a frame does not need.
    """
    return _read(path, _table, "DataFrame of numbers, texts and times", FRAME_ADVICE)


def read_vector_lists(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """The vectors of each item [n, D], of a pickled `{item: [vector, ...]}`; a list of `(item, vector)` will do too.

    Args:
        path: A pickle, perhaps packed (`.gz`).

    Raises:
        DataError: As of `read_frame`; the items' vectors need not be of one length here.
    """
    yield from _read(path, _lists, "dictionary from items to lists of vectors", LISTS_ADVICE)


def _read(path: Path, convert: Callable[[Any], T], what: str, advice: str) -> T:
    with open_binary(path) as file:
        try:
            return convert(_Reader(file).load())
        except _Refused as error:
            if str(error).startswith(JOBLIB):
                raise DataError(f"{path}: was written by joblib.dump, whose own format is not read. {advice}") from None
            raise DataError(
                f"{path}: refused: the pickle asks for {error}, which a {what} does not need; nothing of it was run. "
                f"If you trust it, load it where you trust it. {advice}"
            ) from None
        except UNREADABLE as error:
            raise DataError(f"{path}: cannot be read ({str(error) or 'it ends early'}); fetch it again") from None
        except Exception as error:
            # A damaged or hostile stream can raise anything from inside the unpickler.
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{path}: holds no pickled {what} that can be read ({reason}). {advice}") from None


def _lists(found: Any) -> list[tuple[str, NDArray[Any]]]:
    """Items and their vectors, in the order of the items' first ones; `found` is emptied, to hold vectors once."""
    if isinstance(found, list):
        gathered: dict[Any, list[Any]] = {}
        for item, vector in found:
            gathered.setdefault(item, []).append(vector)
        found = gathered
    if not isinstance(found, dict):
        raise ValueError(f"{getattr(found, 'role', type(found).__name__)} where a dictionary is expected")
    return [(str(_scalar(item)), _stacked(item, found.pop(item))) for item in list(found)]


def _stacked(item: Any, vectors: Any) -> NDArray[Any]:
    """An item's vectors [n, D] of numbers; [0, 0] where there are none."""
    try:
        if isinstance(vectors, _Made):
            array = _array(vectors)
            array = array[None] if array.ndim == 1 else array
        else:
            rows = [_array(one) if isinstance(one, _Made) else np.asarray(one, np.float32) for one in vectors]
            if not all(row.ndim for row in rows):
                raise ValueError("a number where a vector is expected")
            array = np.stack([row.reshape(-1) for row in rows]) if rows else np.zeros((0, 0), np.float32)
        array = array.astype(np.float32) if array.dtype == object else array
    except (TypeError, ValueError) as error:
        raise ValueError(f"item {item!r}: {error}") from None
    if array.ndim != 2 or array.dtype.kind not in "biuf" or (len(array) and not array.size):
        raise ValueError(f"item {item!r}: an array {list(array.shape)} of {array.dtype} where vectors are expected")
    return array


def _table(frame: Any) -> pa.Table:
    _expect(frame, "frame")
    manager = _expect(frame.state["_mgr"], "manager")
    blocks, axes = manager.args
    names = [str(name) for name in _index(axes[0])]
    columns: dict[int, Any] = {}
    for block in blocks:
        values, places, _ = _expect(block, "block").args
        rows = _rows(values)
        columns |= dict(zip(_places(places, len(names)), rows, strict=True))
    if sorted(columns) != list(range(len(names))):
        raise ValueError("its blocks are not its columns")
    arrays = [columns[place] for place in range(len(names))]
    return pa.table(
        {
            name: pa.array(array) if isinstance(array, np.ndarray) else array
            for name, array in zip(names, arrays, strict=True)
        }
    )


def _rows(values: Any) -> list[Any]:
    """The columns of a block."""
    if isinstance(values, _Made) and values.role == "strings":
        return [_arrow(values.state["_pa_array"])]
    array = _array(values.state[1]) if isinstance(values, _Made) and values.role == "backed" else _array(values)
    return list(array) if array.ndim == 2 else [array]


def _index(made: Any) -> list[Any]:
    """The labels of an index."""
    kind, state = _expect(made, "new_index").args
    if kind is STANDINS["range_index"]:
        # Labels of columns: a short list, however long a range a hostile file names.
        return list(range(int(state["start"]), int(state["stop"]), int(state["step"]))[:MOST])
    return [label for row in _rows(state["data"]) for label in (row.to_pylist() if isinstance(row, pa.Array) else row)]


def _places(made: Any, count: int) -> list[int]:
    if isinstance(made, _Made) and made.role == "slice":
        return list(range(*slice(*made.args).indices(count)))
    return [int(place) for place in _array(made)]


def _array(made: Any) -> NDArray[Any]:
    """A numpy array from its raw bytes, or from a list where it is of objects."""
    if isinstance(made, _Made) and made.role == "frombuffer":
        data, dtype, shape, order = made.args
    else:
        _expect(made, "reconstruct")
        _, shape, dtype, fortran, data = made.state
        order = "F" if fortran else "C"
    kind = _dtype(dtype)
    if kind == np.dtype(object):
        flat = np.empty(len(data), object)
        flat[:] = [_scalar(value) for value in data]
    else:
        flat = np.frombuffer(_bytes(data), kind)
    return flat.reshape(shape, order=order)


def _dtype(made: Any) -> np.dtype[Any]:
    text = _expect(made, "dtype").args[0]
    if not isinstance(text, str) or not PLAIN.fullmatch(text):
        raise ValueError(f"values of type {text!r}")
    order = made.state[1]
    if text != "M8":
        return np.dtype(object) if text == "O8" else np.dtype(text).newbyteorder(order)
    unit, count = made.state[8][1][:2]
    unit = bytes(_bytes(unit))
    if unit not in UNITS or count != 1:
        raise ValueError(f"times in units of {count} {unit!r}")
    return np.dtype(f"{order}M8[{UNITS[unit]}]")


def _scalar(value: Any) -> Any:
    """A value of an object array: a text, a number or nothing."""
    if isinstance(value, _Made) and value.role == "scalar":
        dtype, data = value.args
        return np.frombuffer(_bytes(data), _dtype(dtype))[0].item()
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"a value of type {getattr(value, 'role', type(value).__name__)!r}")
    return value


def _bytes(value: Any) -> bytes | bytearray:
    if isinstance(value, _Made):
        if value.role == "bytearray":
            return bytes(value.args[0]) if isinstance(value.args[0], bytes) else _bytes(value.args[0])
        text, coding = _expect(value, "encode").args
        if coding != "latin1":
            raise ValueError(f"bytes in {coding!r}")
        return str(text).encode("latin1")
    if not isinstance(value, bytes | bytearray):
        raise ValueError("bytes expected")
    return value


def _arrow(made: Any) -> pa.Array:
    """An array of texts, checked by Arrow before anyone reads it."""
    if _expect(made, "arrow_chunks", "arrow_array").role == "arrow_chunks":
        return pa.concat_arrays([_arrow(chunk) for chunk in made.args[0]])
    kind, length, nulls, offset, buffers, children, dictionary = made.args[0]
    types: dict[str, Callable[[], pa.DataType]] = {"large_string": pa.large_string, "string": pa.string}
    alias = _expect(kind, "arrow_type").args[0]
    if alias not in types or children or dictionary is not None:
        raise ValueError(f"Arrow values of type {alias!r}")
    held = [
        None if buffer is None else pa.py_buffer(_bytes(_expect(buffer, "arrow_buffer").args[0])) for buffer in buffers
    ]
    array = pa.Array.from_buffers(types[alias](), int(length), held, int(nulls), int(offset))
    array.validate(full=True)
    return array.cast(pa.string()) if alias == "large_string" else array


def _expect(value: Any, *roles: str) -> Any:
    if not isinstance(value, _Made) or value.role not in roles:
        raise ValueError(f"{getattr(value, 'role', type(value).__name__)} where {' or '.join(roles)} is expected")
    return value
