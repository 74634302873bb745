"""Numba, where it is installed: one decorator for the kernels, and the few primitives that all of them share.

Kernels are plain Python loops that LLVM turns into vector code. Every one of them has a slower twin in torch or numpy
that gives the same numbers; `AVAILABLE` says which of the two to use.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

try:
    from llvmlite import ir
    from numba import config, njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    AVAILABLE = True
except ImportError:  # pragma: no cover  (tests take the import away)
    AVAILABLE = False

# Sums may be reordered, and nothing here relies on signed zeros; NaN and infinity keep their meaning.
FAST = {"contract", "reassoc", "nsz", "arcp"}


def kernel(function: F) -> F:
    """Compiles a function on its first call; the machine code is kept beside the source where that can be written."""
    if not AVAILABLE:
        return function
    # Inlined always: what is taken from the cache is not, by itself, and would give other last bits than a first run.
    options = {"nogil": True, "fastmath": FAST, "error_model": "numpy", "forceinline": True}
    try:
        with _cache():
            compiled: F = njit(cache=True, **options)(function)
    except (RuntimeError, OSError):
        # No place to keep it, as in a container with a read-only file system: compiled anew by every process.
        compiled = njit(**options)(function)
    return compiled


def inlined(function: F) -> F:
    """Compiles a function into its callers, so that their loops can be vectorised."""
    compiled: F = njit(inline="always", fastmath=FAST, error_model="numpy")(function) if AVAILABLE else function
    return compiled


def finite_kernel(function: F) -> F:
    """Compiles a function that never meets NaN; only then LLVM vectorises a maximum."""
    compiled: F = njit(nogil=True, fastmath=FAST | {"nnan"}, error_model="numpy")(function) if AVAILABLE else function
    return compiled


@contextmanager
def _cache() -> Iterator[None]:
    """Keeps machine code under the digest of all kernels' sources, unless NUMBA_CACHE_DIR names a place.

    Numba looks at the file of a kernel alone: what that calls in another file could change without being noticed.
    """
    before = config.CACHE_DIR
    config.CACHE_DIR = before or str(Path(__file__).parent / "__pycache__" / f"kernels-{_sources()}")
    try:
        yield
    finally:
        config.CACHE_DIR = before


@functools.cache
def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        content = path.read_bytes()
        if b"modalrec.compiled" in content or path.name == Path(__file__).name:
            digest.update(content)
    return digest.hexdigest()[:16]


if AVAILABLE:

    @intrinsic
    def _float_of_bits(_context: Any, bits: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], ir.FloatType())

        return types.float32(types.int32), codegen

    @intrinsic
    def prefetch(_context: Any, array: Any, place: Any) -> Any:
        """Asks for the cache line of `array[place]`, of a flat array, which will be written soon."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
            kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
            builder.call(function, [address, number(1), number(3), number(1)])
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

else:

    def prefetch(array: Any, place: int) -> None:
        """Does nothing without a compiler."""

    def _float_of_bits(bits: Any) -> Any:
        return np.int32(bits).view(np.float32)


_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_HALF, _ONE = np.float32(0.5), np.float32(1)
_EXP_MIN, _EXP_MAX = np.float32(-87.3), np.float32(88.3)
# Minimax polynomial of (e^r - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2].
_E0, _E1, _E2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_E3, _E4, _E5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@inlined
def exp(x: Any) -> Any:
    """e^x of a float32 in vector code; the library's is a scalar call.

    Within two units in the last place up to |x| = 20, and five at the ends of the range.
    """
    x = min(max(x, _EXP_MIN), _EXP_MAX)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    return (p * r * r + r + _ONE) * _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))


@inlined
def sigmoid(x: Any) -> Any:
    """The logistic function of a float32."""
    return _ONE / (_ONE + exp(-x))


@inlined
def tanh(x: Any) -> Any:
    """The hyperbolic tangent of a float32."""
    return np.float32(2) * sigmoid(np.float32(2) * x) - _ONE
