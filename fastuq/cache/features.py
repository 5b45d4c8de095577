"""Features: embeddings from anywhere as int8 features, read and coded when they are sliced."""

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.model.coding import Coding, CutOff
from fastuq.model.int8_head import MAX_INPUTS
from fastuq.model.model import Model
from fastuq.util.checks import array_of, whole_number
from fastuq.util.labels import check_width, checked_labels, one_hot_width
from fastuq.util.npy import NpyArray
from fastuq.util.process import processors

SPAN_ROWS = 8192
"""Rows that the scales are chosen of, evenly spread."""
PIECE = 256
"""Rows that share a CRC-32 in the fingerprint."""
_PIECE_BYTES = 4 * 2**20
_DTYPES = (np.float16, np.float32, np.float64, np.int8)


class Features:
    """Embeddings (N, D) of any origin, coded as int8 features. Made by `from_arrays`.

    Attributes
    ----------
    labels : ndarray, (N,), int64, or None
    coding : Coding
        What the codes stand for: value = scale * code + offset, for each dimension.
    name : str
        What a cache says of their origin.
    one_hot : int or None
        How many classes the labels count that came one-hot; else None.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> x = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    >>> features = fastuq.Features.from_arrays(x)
    >>> codes = features.read(0, 100)
    >>> codes.dtype, codes.shape
    (dtype('int8'), (100, 8))
    >>> bool(np.abs(features.coding.scale * codes + features.coding.offset - x).max() < 0.02)
    True
    """

    def __init__(
        self, values: Any, labels: np.ndarray | None, coding: Coding, name: str, one_hot: int | None = None
    ) -> None:
        self._values, self.labels, self.coding, self.name, self.one_hot = values, labels, coding, name, one_hot

    @classmethod
    def from_arrays(cls, x: Any, labels: Any = None, *, model: Model | None = None, name: str = "arrays") -> "Features":
        """Code embeddings as int8.

        Without a model, each dimension gets a scale and an offset of its own, from the least to the largest value in
        up to 8,192 rows spread evenly, without outliers that would ruin the steps of all others (`Coding.spanning`);
        what lies beyond is cut off. int8 embeddings are taken as they are.

        Parameters
        ----------
        x : array-like, (N, D), float16, float32, float64 or int8
            A memory map or `fastuq.util.npy.NpyArray` is read piece by piece.
        labels : array-like, (N,) of int, optional
        model : Model, optional
            Code with the scales of this model of embeddings: for data that it is to score.
        name : str
            Where they come from.

        Raises
        ------
        InputError
            The arrays are of other shapes or types, or hold NaN or infinity where the scales are chosen.
        """
        values = x if isinstance(x, NpyArray) else array_of("embeddings", x)
        shape, dtype = tuple(values.shape), values.dtype
        if len(shape) != 2 or 0 in shape or shape[1] > MAX_INPUTS or dtype not in _DTYPES:
            raise InputError(
                f"embeddings: expected (N, D) of float16, float32, float64 or int8, D at most {MAX_INPUTS}, found "
                f"{dtype} {shape}; give one row for each sample"
            )
        width = None
        if labels is not None:
            width = one_hot_width(labels)
            labels = checked_labels("labels", labels, shape[0], None, "give one label for each row, counted from 0")
        if model is not None:
            check_width(name, width, len(model.class_names))
            return cls(values, labels, _coding_of(model, shape[1], dtype), name, width)
        if dtype == np.int8:
            return cls(values, labels, Coding.plain(shape[1]), name, width)
        rows = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], SPAN_ROWS)).astype(np.int64))
        return cls(values, labels, Coding.spanning(values[rows]), name, width)

    @property
    def num_features(self) -> int:
        """Width D."""
        return int(self._values.shape[1])

    def __len__(self) -> int:
        return int(self._values.shape[0])

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else "labels"
        return f"Features({self.name!r}, {len(self)} x {self.num_features} of {self._values.dtype}, {labels})"

    def read(self, start: int, stop: int, cut_off: CutOff | None = None) -> np.ndarray:
        """Return the features of samples `start` to `stop` (exclusive); what is cut off is counted in `cut_off`.

        Once the fingerprint was taken, they are of the very values that it was taken of.

        Returns
        -------
        ndarray, (stop - start, D), int8

        Raises
        ------
        InputError
            The range does not lie within the samples, a value is NaN or infinite, or another one than it was.
        """
        start, stop = whole_number("start", start), whole_number("stop", stop)
        if not 0 <= start <= stop <= len(self):
            raise InputError(f"{self.name}: samples {start} to {stop} asked for, but it holds 0 to {len(self)}")
        return self._coded(self._same(start, stop), f"of samples {start} to {stop - 1}", cut_off)

    def rows(self, numbers: np.ndarray, cut_off: CutOff | None = None) -> np.ndarray:
        """Return the features of some samples, int8 (len(numbers), D); see `read`."""
        return self._coded(self._values[numbers], "of some samples", cut_off)

    def _same(self, start: int, stop: int) -> np.ndarray:
        """Return values; raises InputError where they are others than those of a fingerprint that was taken."""
        if "_crcs" not in vars(self):
            return self._values[start:stop]
        first = start // PIECE
        values = self._values[first * PIECE : -(-stop // PIECE) * PIECE]
        if _crcs_of(values) != self._crcs[first : -(-stop // PIECE)]:
            raise InputError(
                f"{self.name}: samples {start} to {stop - 1} are others than when the fingerprint was taken of them; "
                "something writes to them: let it end, and open them again"
            )
        return values[start - first * PIECE : stop - first * PIECE]

    def _coded(self, values: np.ndarray, which: str, cut_off: CutOff | None = None) -> np.ndarray:
        if values.dtype == np.int8:
            return np.array(values)
        try:
            return self.coding.codes(values, cut_off)
        except InputError as error:
            raise InputError(f"{self.name} {which}: {error}") from None

    def fingerprint(self) -> str:
        """Return the SHA-256 of type, shape, labels and the CRC-32 of every 256 rows, as 64 hexadecimal digits.

        A SHA-256 of the values themselves would take longer than coding them.
        """
        total = hashlib.sha256(f"embeddings {self._values.dtype} {len(self)} {self.num_features}\n".encode())
        total.update(np.array(self._crcs, "<u4").tobytes())
        if self.labels is not None:
            total.update(b"labels int64\n" + self.labels.astype("<i8").tobytes())
        return total.hexdigest()

    @cached_property
    def _crcs(self) -> list[int]:
        """The CRC-32 of every `PIECE` rows, computed once; processors share the work."""
        pieces = max(1, _PIECE_BYTES // (PIECE * self.num_features * self._values.dtype.itemsize))
        step = pieces * PIECE
        with ThreadPoolExecutor(processors()) as pool:
            found = pool.map(lambda n: _crcs_of(self._values[n : n + step]), range(0, len(self), step))
            return [crc for some in found for crc in some]


def _crcs_of(values: np.ndarray) -> list[int]:
    return [zlib.crc32(np.ascontiguousarray(values[n : n + PIECE]).data) for n in range(0, len(values), PIECE)]


def _coding_of(model: Model, width: int, dtype: np.dtype) -> Coding:
    """Return the coding of a model of embeddings; raises InputError where such values do not fit it."""
    if model.coding is None:
        raise InputError(f"model {model.path}: scores images; make a model of embeddings with a head of your own")
    if width != model.head.num_features:
        raise InputError(
            f"embeddings: expected {model.head.num_features} dimensions as model {model.path} takes them, found {width}"
        )
    as_is = bool((model.coding.scale == 1).all() and not model.coding.offset.any())
    if dtype == np.int8 and not as_is:
        raise InputError("embeddings: expected floating-point values, of which the model's scales are, found int8")
    return model.coding
