"""From a sequence of affines, dropouts, dense layers and activations, in any order, to the blocks of a head.

What folds exactly is folded: an affine after a dense layer or after a dropout goes into the weights, two dropouts in a
row are one that keeps with the product of their probabilities, and a dropout between a dense layer and a relu moves
behind it. What then stands without a dense layer of its own (a dropout before a softmax) gets one that changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastuq.errors import InputError
from fastuq.model.activations import activation_of
from fastuq.model.head import Block, Head

MAX_IDENTITY = 1024
"""Most units of a dense layer that is put in although it changes nothing."""
LOGITS = (
    "{} logits, which no threshold suits; say what makes them probabilities: --activation softmax, or --activation "
    "sigmoid for classes that do not exclude each other"
)
_HOMOGENEOUS = ("relu", "leaky_relu", "linear")
"""f(a x) = a f(x) for a >= 0."""


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift, per unit (units,)."""

    scale: np.ndarray
    shift: np.ndarray
    name: str


@dataclass(frozen=True)
class Drop:
    """Dropout of single units."""

    rate: float
    name: str


@dataclass(frozen=True)
class Multiply:
    """y = x W + b, weights (inputs, outputs) and bias (outputs,)."""

    weights: np.ndarray
    bias: np.ndarray
    name: str


@dataclass(frozen=True)
class Activate:
    """An activation by its name in `fastuq.model.activations`."""

    activation: str
    name: str


Step = Affine | Drop | Multiply | Activate


def fold(steps: Sequence[Step], num_features: int) -> Head:
    """Return the head that does the same as `steps` one after the other.

    Parameters
    ----------
    steps : sequence of Affine, Drop, Multiply, Activate
        `name` of each is what errors call it.
    num_features : int

    Raises
    ------
    InputError
        They fold into no head; the message names the step.

    Examples
    --------
    >>> import numpy as np
    >>> dense = Multiply(np.ones((4, 2)), np.zeros(2), "dense")
    >>> head = fold([Drop(0.5, "one"), Drop(0.2, "two"), dense, Activate("softmax", "dense")], 4)
    >>> head.widths, head.rates
    ((4,), (0.6,))
    """
    folding = _Folding(num_features)
    for step in steps:
        folding.add(step)
    return folding.finished()


def as_classifier(head: Head, activation: str | None = None) -> Head:
    """Return a head whose outputs are probabilities of at least two classes.

    Parameters
    ----------
    head : Head
        One that ends in logits gets `activation`; one sigmoid unit, p, becomes two classes, 1 - p and p, exactly: the
        softmax of -z / 2 and z / 2.
    activation : str, optional
        ``softmax`` or ``sigmoid``.

    Raises
    ------
    InputError
        The head ends in logits and no `activation` is given, or it ends in something else.
    """
    last = head.blocks[-1]
    ends, units = last.activation, head.num_classes
    if ends == "linear":
        if activation is None:
            raise InputError(LOGITS.format(f"head: ends in {units}"))
        ends = activation
    elif activation not in (None, ends):
        raise InputError(f"--activation {activation}: the head ends in {ends} already; leave the option out")
    if ends not in ("softmax", "sigmoid") or (units == 1 and ends == "softmax"):
        raise InputError(
            f"head: expected to end in softmax, sigmoid or logits of at least two classes, or in one sigmoid unit, "
            f"found {units} units of {ends}; a network that tells no classes apart cannot be scored"
        )
    if units == 1:
        half = np.array([-0.5, 0.5], np.float32)
        last = replace(last, weights=last.weights * half, bias=last.bias * half)
        ends = "softmax"
    return replace(head, blocks=(*head.blocks[:-1], replace(last, activation=ends)))


class _Folding:
    """Blocks so far, and what came since: an affine, dropouts, an affine after them, or a dense layer left open."""

    def __init__(self, width: int) -> None:
        self.width, self.scale, self.shift = width, np.ones(width), np.zeros(width)
        self.blocks: list[Block] = []
        self.open: Block | None = None
        self.before: tuple[np.ndarray, np.ndarray] | None = None
        self.after: tuple[np.ndarray, np.ndarray] | None = None
        self.rates: list[float] = []

    def add(self, step: Step) -> None:
        if isinstance(step, Affine):
            self._affine(np.asarray(step.scale, np.float64), np.asarray(step.shift, np.float64))
        elif isinstance(step, Drop):
            if step.rate == 0:
                return
            if self.after is not None:
                self._identity(step.name)
            self.rates.append(step.rate)
            if self._rate() > 0.9:
                raise InputError(f"layer {step.name}: expected a dropout rate of 0 to 0.9, found {self._rate():.3g}")
        elif isinstance(step, Multiply):
            self._dense(np.asarray(step.weights, np.float64), np.asarray(step.bias, np.float64), step.name)
        else:
            self._activate(step.activation, step.name)

    def finished(self) -> Head:
        if self.open is None and (self.before or self.rates or self.after):
            self._identity("at the end")
        self._close("linear")
        if self.rates:  # after the last dense layer
            self._identity("at the end")
            self._close("linear")
        if not self.blocks:
            raise InputError("head: expected at least one dense layer, found none")
        return Head(tuple(self.blocks), self.scale.astype(np.float32), self.shift.astype(np.float32))

    def _affine(self, scale: np.ndarray, shift: np.ndarray) -> None:
        if self.open is not None and not self.rates:
            weights, bias = self.open.weights * scale, self.open.bias * scale + shift
            self.open = replace(self.open, weights=weights, bias=bias)
            return
        self._close("linear")
        if self.rates:
            self.after = _composed(self.after, scale, shift)
        else:
            self.before = _composed(self.before, scale, shift)

    def _dense(self, weights: np.ndarray, bias: np.ndarray, name: str) -> None:
        self._close("linear")
        if self.blocks and activation_of(self.blocks[-1].activation).exclusive:
            raise InputError(f"layer {name}: comes after a softmax, which is allowed at the end of a head alone")
        if self.after is not None:
            bias = bias + self.after[1] @ weights
            weights = self.after[0][:, None] * weights
        before = self.before
        if before is not None and not self.blocks:
            self.scale, self.shift = before
            before = None
        elif before is not None and not self.rates:
            bias = bias + before[1] @ weights
            weights = before[0][:, None] * weights
            before = None
        scale, shift = (None, None) if before is None else (each.astype(np.float32) for each in before)
        self.open = Block(self._rate(), weights, bias, "linear", scale, shift)
        self.before, self.after, self.rates, self.width = None, None, [], weights.shape[1]

    def _activate(self, activation: str, name: str) -> None:
        moves = activation_of(activation).name in _HOMOGENEOUS
        if self.open is None or (self.rates and not moves):
            self._identity(name)
        self._close(activation)

    def _identity(self, name: str) -> None:
        """Put in a dense layer that changes nothing, to carry what came since the last one."""
        if self.width > MAX_IDENTITY:
            raise InputError(
                f"layer {name}: expected a dense layer between it and the dropout or activation before, found none, "
                f"and {self.width} units are too many to put one in; cut behind it with --cut {name}"
            )
        self._dense(np.eye(self.width), np.zeros(self.width), name)

    def _close(self, activation: str) -> None:
        if self.open is not None:
            block = self.open
            weights, bias = block.weights.astype(np.float32), block.bias.astype(np.float32)
            self.blocks.append(replace(block, weights=weights, bias=bias, activation=activation))
            self.open = None

    def _rate(self) -> float:
        """Return the rate of all dropouts since the last dense layer together."""
        if len(self.rates) == 1:
            return self.rates[0]
        return round(1 - float(np.prod([1 - rate for rate in self.rates])), 12)


def _composed(
    first: tuple[np.ndarray, np.ndarray] | None, scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the affine that does `first` and then the other."""
    return (scale, shift) if first is None else (scale * first[0], scale * first[1] + shift)
