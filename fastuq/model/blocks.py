"""What the float and the int8 head have in common: blocks of dropout + dense + activation, kept as named arrays."""

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from fastuq.errors import ModelError, short
from fastuq.model.activations import activation_of

_SCALARS = {"rate": float, "activation": str, "zero_point": int}
"""What a block says beside its arrays; it goes to the file as JSON."""


class Dense:
    """Base of the blocks: dataclasses of rate, weights (inputs, outputs), other arrays and activation.

    Other arrays are (outputs,), or (inputs,) where `PER_INPUT` names them; those that default to None may be missing.
    """

    PER_INPUT: ClassVar[tuple[str, ...]] = ()

    rate: float
    weights: np.ndarray
    activation: str

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 0.9:
            raise ModelError(f"dropout rate: expected 0 to 0.9, found {self.rate}")
        activation_of(self.activation)
        shapes = {name: array.shape for name, array in _arrays(self).items() if name != "table"}
        weights = shapes["weights"]
        sides = {name: weights[:1] if name in self.PER_INPUT else weights[1:] for name in shapes}
        if len(weights) != 2 or 0 in weights or any(shapes[n] != sides[n] for n in shapes if n != "weights"):
            raise ModelError(
                f"dense block: expected weights (inputs, outputs) and others (outputs,), found {[*shapes.values()]}"
            )


@dataclass(frozen=True, repr=False)
class Blocks:
    """Base of the heads: dataclasses of `blocks` and of float32 arrays (D,) that take the features in.

    All arrays of the blocks are float32 too, but the weights, which are `WEIGHTS`.
    """

    NAME: ClassVar[str]
    BLOCK: ClassVar[type]
    WEIGHTS: ClassVar[type] = np.float32

    blocks: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ModelError(f"{self.NAME}: expected at least one block of dropout + dense + activation, found none")
        shapes = [array.shape for array in _arrays(self).values()]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1:
            raise ModelError(f"{self.NAME}: expected {' and '.join(_names(self))} of shape (D,), found {shapes}")
        width = shapes[0][0]
        for number, block in enumerate(self.blocks):
            if block.weights.shape[0] != width:
                raise ModelError(f"{self.NAME} block {number}: expected {width} inputs, found {block.weights.shape[0]}")
            width = block.weights.shape[1]
            if activation_of(block.activation).exclusive and number < len(self.blocks) - 1:
                raise ModelError(f"{self.NAME} block {number}: {block.activation} is allowed in the last block alone")
        if not all(_within_range(array) for part in (self, *self.blocks) for array in _arrays(part).values()):
            raise ModelError(f"{self.NAME}: expected finite weights, found NaN, infinity or huge; the model is damaged")

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
        layout = [
            {name: found for name in _SCALARS if (found := getattr(b, name, None)) is not None} for b in self.blocks
        ]
        arrays = {"layout": np.array(json.dumps(layout)), **_arrays(self)}
        for number, block in enumerate(self.blocks):
            arrays |= {f"{name}_{number}": array for name, array in _arrays(block).items()}
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
                    **{name: kind(entry[name]) for name, kind in _SCALARS.items() if name in entry},
                    **{
                        name: _exact(arrays, f"{name}_{number}", cls.WEIGHTS if name == "weights" else np.float32)
                        for name in _names(cls.BLOCK)
                        if f"{name}_{number}" in arrays or name not in _optional(cls.BLOCK)
                    },
                )
                for number, entry in enumerate(_layout(arrays))
            )
            ends = {name: _exact(arrays, name, np.float32) for name in _names(cls)}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"{cls.NAME} arrays: not a fastuq {cls.NAME} ({short(error, 80)}); build the model again"
            ) from error
        return cls(blocks=blocks, **ends)


def _within_range(array: np.ndarray) -> bool:
    """Tell whether all values are finite and far enough from the largest float32 to be scaled by a dropout rate."""
    return bool((np.abs(array) <= 1e30).all())


def _arrays(part: Any) -> dict[str, np.ndarray]:
    return {name: array for name in _names(part) if (array := getattr(part, name)) is not None}


def _names(kind: Any) -> list[str]:
    """Return the names of a dataclass's arrays, in the order of its fields, which is that of the files."""
    return [field.name for field in fields(kind) if field.name not in ("blocks", *_SCALARS)]


def _optional(kind: Any) -> set[str]:
    """Return the names of a dataclass's arrays that may be missing."""
    return {field.name for field in fields(kind) if field.default is None}


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
