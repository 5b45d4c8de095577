"""What the float and the int8 head have in common: blocks of dropout + dense + activation, kept as named arrays."""

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from fastuq.errors import ModelError, short


@dataclass(frozen=True, repr=False)
class Blocks:
    """Base of the heads: dataclasses of `blocks`, which are dataclasses too, and of float32 arrays for the input.

    The arrays are float32, but the weights, which are `WEIGHTS`.
    """

    NAME: ClassVar[str]
    BLOCK: ClassVar[type]
    WEIGHTS: ClassVar[type] = np.float32

    blocks: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.widths))} -> {self.num_classes})"

    @property
    def num_features(self) -> int:
        """Width D of the features."""
        return self.widths[0]

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return self.blocks[-1].weights.shape[1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of inputs of each block, which is the number of mask units of its dropout layer."""
        return tuple(block.weights.shape[0] for block in self.blocks)

    @property
    def rates(self) -> tuple[float, ...]:
        """Dropout rate of each block."""
        return tuple(block.rate for block in self.blocks)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the head as named arrays (`layout` is its JSON description), ready for ``np.savez``."""
        layout = [{"rate": b.rate, "activation": b.activation} for b in self.blocks]
        arrays = {"layout": np.array(json.dumps(layout)), **{name: getattr(self, name) for name in _arrays_of(self)}}
        for number, block in enumerate(self.blocks):
            arrays |= {f"{name}_{number}": getattr(block, name) for name in _arrays_of(block)}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Any) -> Self:
        """Build a head from what `to_arrays` returned.

        Raises
        ------
        ModelError
            An array is missing or does not fit.
        """
        try:
            blocks = tuple(
                cls.BLOCK(
                    rate=float(entry["rate"]),
                    activation=str(entry["activation"]),
                    **{
                        name: _exact(arrays, f"{name}_{number}", cls.WEIGHTS if name == "weights" else np.float32)
                        for name in _arrays_of(cls.BLOCK)
                    },
                )
                for number, entry in enumerate(_layout(arrays))
            )
            ends = {name: _exact(arrays, name, np.float32) for name in _arrays_of(cls)}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"{cls.NAME} arrays: not a fastuq {cls.NAME} ({short(error, 80)}); build the model again"
            ) from error
        return cls(blocks=blocks, **ends)


def within_range(array: np.ndarray) -> bool:
    """Tell whether all values are finite and far enough from the largest float32 to be scaled by a dropout rate."""
    return bool((np.abs(array) <= 1e30).all())


def _arrays_of(kind: Any) -> list[str]:
    """Return the names of a dataclass's arrays, in the order of its fields, which is that of the files."""
    return [field.name for field in fields(kind) if field.name not in ("blocks", "rate", "activation")]


def _layout(arrays: Any) -> list[dict[str, Any]]:
    """Return the blocks that the array ``layout`` lists as JSON."""
    try:
        layout = json.loads(str(arrays["layout"]))
    except RecursionError:
        raise ValueError("layout is nested too deeply") from None
    if not isinstance(layout, list) or not all(isinstance(entry, dict) for entry in layout):
        raise ValueError("layout is no list of blocks")
    return layout


def _exact(arrays: Any, name: str, dtype: type) -> np.ndarray:
    """Return an array of exactly `dtype`, contiguous: a conversion could round or overflow unseen."""
    array = arrays[name]
    if array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype}, not {np.dtype(dtype)}")
    return np.ascontiguousarray(array)
