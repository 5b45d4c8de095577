"""The heads that the dense layers of a TFLite file are: its integers unchanged in int8, its real values in float32.

The int8 head multiplies codes v of features, 0 where a unit is dropped, by int8 weights. With q the file's code of a
feature and z its zero point, v = q - z is exact, and with it every sum, while it lies within -127 to 127. Features of a
relu have z = -128, so that q - z goes up to 255: where calibration features do, v = (q - z) 127 / reach is rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastuq.model.activations import RoundedCodes, activation_of
from fastuq.model.head import Block, Head
from fastuq.model.int8_head import QuantizedBlock, QuantizedHead
from fastuq.model.tflite_dense import DenseLayer
from fastuq.model.tflite_graph import Scale


@dataclass(frozen=True)
class Heads:
    """The heads of a TFLite file's dense layers.

    Attributes
    ----------
    head : Head
    head_int8 : QuantizedHead
    input_step : float
        How many codes of the file's features one code of the int8 head stands for; 1 is exact.
    rounded_outputs : int
        Outputs, of all layers, whose weights do not lie within -127 to 127, so that they were rounded again.
    """

    head: Head
    head_int8: QuantizedHead
    input_step: float
    rounded_outputs: int


def heads_of(
    layers: Sequence[DenseLayer],
    rates: Sequence[float],
    reach: int | None = None,
    wider: Sequence[float] | None = None,
) -> Heads:
    """Return the float and the int8 head.

    Parameters
    ----------
    layers : sequence of DenseLayer
    rates : sequence of float
        The dropout rate before each of them.
    reach : int, optional
        How far the codes of features lie from their zero point at most; default: as far as int8 goes.
    wider : sequence of float, optional
        How many times as far as the file's scales the codes between the layers reach, for each of these places: see
        `reaches_between`. Default: 1.
    """
    wider = [1.0] * (len(layers) - 1) if wider is None else wider
    scale = layers[0].taken
    step = max(1.0, (_reach(scale) if reach is None else reach) / 127)
    unit, blocks, rounded = step * scale.scale, [], 0
    for number, (layer, rate) in enumerate(zip(layers, rates, strict=True)):
        weights, steps, again = _within_int8(layer)
        sums, bias = unit * steps / (1 - rate), layer.bias
        if number < len(layers) - 1:
            unit, divisor = _unit(layer.activation, layers[number + 1].taken, wider[number])
            sums, bias = sums / divisor, bias / divisor
        with np.errstate(over="ignore"):  # the block refuses what is not finite
            sums, bias = sums.astype(np.float32), bias.astype(np.float32)
        blocks.append(QuantizedBlock(rate, weights, sums, bias, layer.activation))
        rounded += again
    width = len(layers[0].weights)
    head_int8 = QuantizedHead(
        tuple(blocks),
        np.full(width, 1 / step, np.float32),
        np.full(width, -scale.zero_point / step, np.float32),
    )
    return Heads(_float_head(layers, rates), head_int8, step, rounded)


def _float_head(layers: Sequence[DenseLayer], rates: Sequence[float]) -> Head:
    with np.errstate(over="ignore"):
        arrays = [((each.weights * each.scales).astype(np.float32), each.bias.astype(np.float32)) for each in layers]
    blocks = tuple(
        Block(rate, weights, bias, layer.activation)
        for layer, rate, (weights, bias) in zip(layers, rates, arrays, strict=True)
    )
    width = len(layers[0].weights)
    return Head(blocks, np.ones(width, np.float32), np.zeros(width, np.float32))


def _within_int8(layer: DenseLayer) -> tuple[np.ndarray, np.ndarray, int]:
    """Return weights from -127 to 127, the step of each output, and how many outputs had to be rounded again."""
    largest = np.abs(layer.weights).max(axis=0)
    shrink = np.maximum(largest / 127, 1)  # an output within the range keeps its integers
    weights = np.rint(layer.weights / shrink).astype(np.int8)
    return weights, layer.scales * shrink, int((largest > 127).sum())


def reaches_between(
    layers: Sequence[DenseLayer], head: Head, features: np.ndarray, masks: Sequence[np.ndarray] | None
) -> list[float]:
    """Return how far the values between the layers reach, in units of what the file's scales hold.

    Those scales were chosen without dropout, whose 1/(1-p) makes values larger.

    Parameters
    ----------
    head : Head
        The float head of the layers.
    features : ndarray, (N, D), float32
        Dequantized.
    masks : sequence of ndarray of bool, one per block, (N, inputs), or None
    """
    found = []
    for number, layer in enumerate(layers[:-1]):
        outputs = replace(head, blocks=head.blocks[: number + 1]).forward(features, masks)
        coding = activation_of(layer.activation).codes
        if isinstance(coding, RoundedCodes):
            found.append(float(coding.step(outputs).max()) / _unit(layer.activation, layers[number + 1].taken)[0])
        else:
            found.append(1.0)  # probabilities have their range
    return found


def _unit(activation: str, scale: Scale, wider: float = 1.0) -> tuple[float, float]:
    """Return what one code between two blocks stands for, and what the sums before the activation are divided by."""
    coding = activation_of(activation).codes
    if not isinstance(coding, RoundedCodes):
        return 1 / 255, 1.0
    above, below = (127 - scale.zero_point) / coding.high, (128 + scale.zero_point) / max(-coding.low, 1)
    unit = wider * scale.scale * (above if coding.low == 0 else max(above, below))
    return unit, unit


def _reach(scale: Scale) -> int:
    return max(127 - scale.zero_point, 128 + scale.zero_point)
