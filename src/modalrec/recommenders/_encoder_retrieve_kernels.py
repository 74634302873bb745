"""The loop that sums table look-ups, compiled where numba is installed, in vectors of 64 histories.

A look-up is a row of 64 neighbouring floats, four cache lines at a place that nobody can foresee, and one addition for
each: the loop is bound by what the second-level cache delivers, 4 L bytes a score. The sums of an item stay in vector
registers over all levels, for which LLVM has to be told: from plain loops it keeps them in memory, which takes one and
a half times as long, as torch's `embedding_bag` does. `_encoder_retrieve_sums.py` holds the same in torch.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalrec import compiled
from modalrec.compiled import kernel

# S items, L levels, K codes of all levels, G = LANES histories.

LANES = 64
"""Histories of a table."""

if compiled.AVAILABLE:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def _sum_rows(
        _context: Any, table_KG: Any, rows_L: Any, out_SG: Any, place: Any
    ) -> Any:  # pragma: no cover  (runs in the compiler)
        """Writes the sum of a table's rows to the LANES floats that are `place` floats after the start of `out_SG`."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            table, rows, out = (
                context.make_array(kind)(context, builder, argument)
                for kind, argument in zip(signature.args[:3], arguments[:3], strict=True)
            )
            vector, index = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)

            def at(data: Any, offset: Any) -> Any:
                return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())

            total = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES))
            with cgutils.for_range(builder, cgutils.unpack_tuple(builder, rows.shape)[0]) as loop:
                row = builder.load(builder.gep(rows.data, [loop.index]))
                value = builder.load(at(table.data, builder.mul(row, index(LANES))))
                value.align = 4
                builder.store(builder.fadd(builder.load(total), value), total)
            written = builder.store(builder.load(total), at(out.data, arguments[3]))
            written.align = 4
            return context.get_dummy_value()

        return types.void(table_KG, rows_L, out_SG, place), codegen

else:

    def _sum_rows(
        table_KG: NDArray[np.float32], rows_L: NDArray[np.int64], out_SG: NDArray[np.float32], place: int
    ) -> None:
        """Does nothing without a compiler."""


@kernel
def sum_tables(
    codes_SL: NDArray[np.uint8], starts_L: NDArray[np.int32], table_KG: NDArray[np.float32], out_SG: NDArray[np.float32]
) -> None:
    """Writes the sum over levels of each item's table rows, the levels in order.

    Args:
        codes_SL: Of the items, of any integer type.
        starts_L: The first row of every level.
        table_KG: Contiguous, LANES columns.
        out_SG: LANES columns side by side; its rows may lie apart.
    """
    n_items, levels = codes_SL.shape
    stride = out_SG.strides[0] // 4
    rows_L = np.empty(levels, np.int64)
    for item in range(n_items):
        for level in range(levels):
            rows_L[level] = np.int64(starts_L[level]) + np.int64(codes_SL[item, level])
        _sum_rows(table_KG, rows_L, out_SG, item * stride)


@kernel
def sum_few(
    codes_SL: NDArray[np.uint8], starts_L: NDArray[np.int32], table_GK: NDArray[np.float32], out_SG: NDArray[np.float32]
) -> None:
    """Writes what `sum_tables` does for a few histories, one after the other: each one's table fits the first cache."""
    n_items, levels = codes_SL.shape
    for history in range(len(table_GK)):
        table_K = table_GK[history]
        for item in range(n_items):
            total = np.float32(0)
            for level in range(levels):
                total += table_K[np.int64(starts_L[level]) + np.int64(codes_SL[item, level])]
            out_SG[item, history] = total


@kernel
def keep_best(
    scores_SG: NDArray[np.float32], begin: int, best_Gk: NDArray[np.float32], items_Gk: NDArray[np.int64]
) -> None:
    """Puts what beats the last score of a list into it, behind its equals.

    Args:
        scores_SG: Of the items from `begin` on, as many columns as there are lists.
        begin: The first item.
        best_Gk: Scores of the lists, best first.
        items_Gk: Their items.
    """
    n_lists, k = best_Gk.shape
    bar_G = best_Gk[:, k - 1].copy()
    one, zero = np.float32(1), np.float32(0)
    for s in range(len(scores_SG)):
        row = scores_SG[s]
        better = zero
        for lane in range(n_lists):
            better += one if row[lane] > bar_G[lane] else zero
        if better == zero:
            continue
        for lane in range(n_lists):
            score = row[lane]
            if score > bar_G[lane]:
                place = k - 1
                while place > 0 and best_Gk[lane, place - 1] < score:
                    best_Gk[lane, place] = best_Gk[lane, place - 1]
                    items_Gk[lane, place] = items_Gk[lane, place - 1]
                    place -= 1
                best_Gk[lane, place] = score
                items_Gk[lane, place] = begin + s
                bar_G[lane] = best_Gk[lane, k - 1]
