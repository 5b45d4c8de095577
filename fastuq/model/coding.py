"""How embeddings become int8 features: a scale and an offset for each dimension."""

import io
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fastuq.errors import InputError, ModelError
from fastuq.model.head_file import npz_of
from fastuq.util.npy import read_npz

CODES_TO_ONE = 64
"""What codes are divided by while a head is fitted, which takes numbers of about 1."""
_ROWS = 32
"""Rows that are coded at once: what lies between the steps stays in the processor's cache."""
_MOST = 1e30
_MOST_CUT = 1 / 200
"""Share of the values of a dimension that its range may leave out."""
_LOST = 1 / 16
"""Squared error of coding, as a share of the spread's square, from which a range is too wide."""
_FAR = 8
"""A range without outliers is narrower by this: in a long tail, the largest values are not far from the next ones."""
_COLUMNS = 64


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
        """Return the coding whose codes span the values of each dimension of rows (N, D).

        From the least to the largest, unless few outliers would make the steps too wide for all others: where the
        squared error of coding is more than 1/16 of the spread's square (the standard deviation without the 0.5% of
        values at each end), as few of the outermost values as bring it below that, at most 0.5%, are left out, if the
        range becomes narrower by a factor of 8.
        """
        rows = _float32(rows, np.empty(rows.shape, np.float32))
        low, high = _ranges(rows)
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

    def codes(self, values: np.ndarray, cut_off: "CutOff | None" = None) -> np.ndarray:
        """Return the codes (N, D) int8 of values (N, D); those beyond are cut off, and counted in `cut_off`.

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
            if cut_off is not None:
                cut_off.count(y)
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


class CutOff:
    """How many values lay beyond the scales while rows of `width` dimensions were coded.

    Attributes
    ----------
    coded : int
        Rows that were coded.
    by_dimension : ndarray, (D,), int64
        Values cut off in each dimension.
    rows, bad_rows : int
        Rows with such values, and with more than a tenth of them.
    """

    WARN_SHARE, BAD_ROW = 0.01, 0.1

    def __init__(self, width: int) -> None:
        self.coded = self.rows = self.bad_rows = 0
        self.by_dimension = np.zeros(width, np.int64)

    def count(self, y: np.ndarray) -> None:
        """Count rows of rounded codes (n, D) that were not cut off yet."""
        self.coded += len(y)
        if y.max() <= 127 and y.min() >= -127:
            return
        beyond = np.abs(y) > 127
        of_rows = beyond.sum(axis=1)
        self.rows += int((of_rows > 0).sum())
        self.bad_rows += int((of_rows > self.BAD_ROW * y.shape[1]).sum())
        self.by_dimension += beyond.sum(axis=0)

    def add(self, other: Self) -> None:
        """Add what another one counted."""
        self.coded += other.coded
        self.rows += other.rows
        self.bad_rows += other.bad_rows
        self.by_dimension += other.by_dimension

    def report(self) -> dict[str, Any]:
        """Return the counts as JSON values, with the five dimensions of the most such values."""
        most = np.argsort(-self.by_dimension, kind="stable")[:5]
        values = int(self.by_dimension.sum())
        share = values / max(self.coded * len(self.by_dimension), 1)
        return {
            "coded_rows": self.coded,
            "values": values,
            "share": share,
            "rows": self.rows,
            "rows_over_a_tenth": self.bad_rows,
            "dimensions": int((self.by_dimension > 0).sum()),
            "most_in": {str(d): int(self.by_dimension[d]) for d in most if self.by_dimension[d]},
            "warn": bool(share > self.WARN_SHARE or self.bad_rows),
        }


def _ranges(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest value (D,) float64 that the codes of each dimension of rows (N, D) span."""
    count, width = rows.shape
    low, high, most = np.empty(width), np.empty(width), max(1, int(count * _MOST_CUT))
    for start in range(0, width, _COLUMNS):
        some = np.sort(rows[:, start : start + _COLUMNS].T.astype(np.float32, order="C"), axis=1)
        low[start : start + _COLUMNS], high[start : start + _COLUMNS] = some[:, 0], some[:, -1]
        if count < 2 * most + 2:
            continue
        spread = some[:, most:-most].std(axis=1, dtype=np.float64)
        step = (high[start : start + _COLUMNS] - low[start : start + _COLUMNS]) / 254
        # An error is half a step at most. Where nearly all values are alike, the rare other ones are what matters.
        for d in np.flatnonzero((spread > 0) & (np.square(step / 2) > _LOST * np.square(spread))):
            low[start + d], high[start + d] = _narrowed(some[d].astype(np.float64), float(spread[d]), most)
    return low, high


def _narrowed(values: np.ndarray, spread: float, most: int) -> tuple[float, float]:
    """Return the widest range of sorted values (N,) that loses little, or the whole where leaving `most` out does not.

    The values left out are those farthest from the median.
    """
    whole = float(values[0]), float(values[-1])
    nearest = np.argsort(np.abs(values - np.median(values)), kind="stable")
    if _FAR * np.ptp(values[nearest[:-most]]) > whole[1] - whole[0]:
        return whole  # whatever were left out
    for left_out in range(most + 1):
        kept = values[nearest[: len(values) - left_out]]
        low, high = float(kept.min()), float(kept.max())
        step, middle = max((high - low) / 254, 1e-300), (high + low) / 2
        error = np.rint((kept - middle) / step) * step + middle - kept
        if np.minimum(np.square(error), spread**2).mean() <= _LOST * spread**2:
            return (low, high) if _FAR * (high - low) <= whole[1] - whole[0] else whole
    return whole


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
