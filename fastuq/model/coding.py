"""How embeddings become int8 features: a scale and an offset for each dimension."""

import io
from dataclasses import dataclass
from typing import Self

import numpy as np

from fastuq.errors import InputError, ModelError
from fastuq.model.head_file import npz_of
from fastuq.util.npy import read_npz

CODES_TO_ONE = 64
"""What codes are divided by while a head is fitted, which takes numbers of about 1."""
_ROWS = 32
"""Rows that are coded at once: what lies between the steps stays in the processor's cache."""
_MOST = 1e30


@dataclass(frozen=True, eq=False)
class Coding:
    """The int8 codes of real values: value = scale * code + offset, codes from -127 to 127.

    Attributes
    ----------
    scale, offset : ndarray, (D,), float32
    """

    scale: np.ndarray
    offset: np.ndarray

    def __post_init__(self) -> None:
        arrays = (self.scale, self.offset)
        if not all(a.dtype == np.float32 and a.ndim == 1 and len(a) and (np.abs(a) <= _MOST).all() for a in arrays):
            raise ModelError(
                "coding of features: expected finite float32 scales and offsets (D,), found something else"
            )
        if len(self.scale) != len(self.offset) or not (self.scale > 1 / _MOST).all():
            raise ModelError("coding of features: expected as many offsets as scales above 0, found something else")

    @classmethod
    def spanning(cls, rows: np.ndarray) -> Self:
        """Return the coding whose codes span the least to the largest value of each dimension of rows (N, D)."""
        rows = _float32(rows, np.empty(rows.shape, np.float32))
        low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
        scale = np.where(high > low, (high - low) / 254, 1)
        middle = (high + low) / 2
        if not (np.isfinite(middle).all() and max(np.abs(middle).max(), scale.max()) <= _MOST):
            raise InputError(
                "embeddings: expected finite values, found NaN, infinity or huge ones; leave those rows out"
            )
        return cls(np.maximum(scale, 1e-20).astype(np.float32), middle.astype(np.float32))

    @classmethod
    def plain(cls, width: int) -> Self:
        """Return the coding of values that are codes already."""
        return cls(np.ones(width, np.float32), np.zeros(width, np.float32))

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Return the codes (N, D) int8 of values (N, D); those beyond are cut off.

        Raises
        ------
        InputError
            A value is NaN or infinite.
        """
        codes = np.empty(values.shape, np.int8)
        per_scale = 1 / self.scale
        work = np.empty((min(_ROWS, len(values)), values.shape[1]), np.float32)
        for start in range(0, len(values), _ROWS):
            some = values[start : start + _ROWS]
            y = _float32(some, work[: len(some)])
            np.subtract(y, self.offset, out=y)
            np.multiply(y, per_scale, out=y)
            np.rint(y, out=y)
            np.clip(y, -127, 127, out=y)
            codes[start : start + _ROWS] = y
        return codes

    def to_bytes(self) -> bytes:
        """Return the arrays as the content of an .npz."""
        return npz_of({"scale": self.scale, "offset": self.offset})

    @classmethod
    def from_bytes(cls, content: bytes, limit: int) -> Self:
        """Read what `to_bytes` made, without trust; raises ModelError where it is something else."""
        try:
            arrays = read_npz(io.BytesIO(content), limit)
            return cls(arrays["scale"], arrays["offset"])
        except (ValueError, OSError, KeyError) as error:
            raise ModelError(f"coding of features: no array file of scale and offset ({error})") from None


def _float32(values: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return values as float32 in `out`; raises InputError where one is NaN, infinite or beyond float32.

    NumPy widens float16 one number at a time. Shifted to their places, its bits are those of a float32 of the same
    sign and digits whose exponent is 112 too small, and infinity becomes 65536.
    """
    most = np.float32(3.0e38)
    if values.dtype == np.float16:
        bits, most = out.view(np.int32), np.float32(65504)
        np.copyto(bits, values.view(np.int16))
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
        np.multiply(out, np.float32(2.0**112), out=out)
    else:
        with np.errstate(over="ignore"):
            np.copyto(out, values, casting="same_kind")
    if not (out.min() >= -most and out.max() <= most):
        raise InputError("embeddings: expected finite values, found NaN, infinity or huge ones; leave those rows out")
    return out
