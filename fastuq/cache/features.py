"""Features: embeddings from anywhere as int8 features, read and coded when they are sliced."""

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.model.coding import Coding
from fastuq.model.int8_head import MAX_INPUTS
from fastuq.model.model import Model
from fastuq.util.checks import array_of, whole_number
from fastuq.util.labels import checked_labels
from fastuq.util.npy import NpyArray
from fastuq.util.process import processors

SPAN_ROWS = 8192
"""Rows that the scales are chosen of, evenly spread."""
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

    def __init__(self, values: Any, labels: np.ndarray | None, coding: Coding, name: str) -> None:
        self._values, self.labels, self.coding, self.name = values, labels, coding, name

    @classmethod
    def from_arrays(cls, x: Any, labels: Any = None, *, model: Model | None = None, name: str = "arrays") -> "Features":
        """Code embeddings as int8.

        Without a model, each dimension gets a scale and an offset of its own, from the least to the largest value in
        up to 8,192 rows spread evenly; what lies beyond is cut off. int8 embeddings are taken as they are.

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
        if labels is not None:
            labels = checked_labels("labels", labels, shape[0], None, "give one label for each row, counted from 0")
        if model is not None:
            return cls(values, labels, _coding_of(model, shape[1], dtype), name)
        if dtype == np.int8:
            return cls(values, labels, Coding.plain(shape[1]), name)
        rows = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], SPAN_ROWS)).astype(np.int64))
        return cls(values, labels, Coding.spanning(values[rows]), name)

    @property
    def num_features(self) -> int:
        """Width D."""
        return int(self._values.shape[1])

    def __len__(self) -> int:
        return int(self._values.shape[0])

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else "labels"
        return f"Features({self.name!r}, {len(self)} x {self.num_features} of {self._values.dtype}, {labels})"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the features of samples `start` to `stop` (exclusive).

        Returns
        -------
        ndarray, (stop - start, D), int8

        Raises
        ------
        InputError
            The range does not lie within the samples, or a value is NaN or infinite.
        """
        start, stop = whole_number("start", start), whole_number("stop", stop)
        if not 0 <= start <= stop <= len(self):
            raise InputError(f"{self.name}: samples {start} to {stop} asked for, but it holds 0 to {len(self)}")
        return self._coded(self._values[start:stop], f"of samples {start} to {stop - 1}")

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return the features of some samples, int8 (len(numbers), D)."""
        return self._coded(self._values[numbers], "of some samples")

    def _coded(self, values: np.ndarray, which: str) -> np.ndarray:
        if values.dtype == np.int8:
            return np.array(values)
        try:
            return self.coding.codes(values)
        except InputError as error:
            raise InputError(f"{self.name} {which}: {error}") from None

    def fingerprint(self) -> str:
        """Return the SHA-256 of type, shape, labels and the CRC-32 of every 4 MiB of rows, as 64 hexadecimal digits.

        A SHA-256 of the values themselves would take longer than coding them.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        dtype = self._values.dtype
        total = hashlib.sha256(f"embeddings {dtype} {len(self)} {self.num_features}\n".encode())
        with ThreadPoolExecutor(processors()) as pool:
            for crc in pool.map(self._crc, range(0, len(self), self._step)):
                total.update(crc.to_bytes(4, "little"))
        if self.labels is not None:
            total.update(b"labels int64\n" + self.labels.astype("<i8").tobytes())
        return total.hexdigest()

    @property
    def _step(self) -> int:
        return max(1, _PIECE_BYTES // (self.num_features * self._values.dtype.itemsize))

    def _crc(self, start: int) -> int:
        return zlib.crc32(np.ascontiguousarray(self._values[start : start + self._step]).data)


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
