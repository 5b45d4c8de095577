"""Where a network is cut: the last tensor that no active dropout has touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastuq.errors import InputError
from fastuq.model.folding import Affine, Drop, Multiply, Step
from fastuq.training.keras_config import NO_DROPOUT, NO_HEAD
from fastuq.training.keras_graph import Call, OpenNetwork
from fastuq.training.keras_steps import (
    UnreadableError,
    is_dropout,
    is_pooling,
    is_random,
    rate_of,
    shares_channels,
    steps_of,
)


@dataclass(frozen=True)
class Cut:
    """A network in two parts.

    Attributes
    ----------
    source : keras.KerasTensor
        What the tail takes; it is the features, or the maps that are pooled to them.
    features : keras.KerasTensor
        (N, D): output of the backbone.
    tail : list of Call
        The layers from `source` to the output, as they are in the network.
    steps : list of Step
        What the head does to the features.
    after : str
        Name of the layer that the features come out of.
    off : list of Call
        Random layers that are off.
    static_share : float
        Share of the network's multiplications that is done once.
    """

    source: Any
    features: Any
    tail: list[Call]
    steps: list[Step]
    after: str
    off: list[Call]
    static_share: float

    @property
    def rates(self) -> dict[str, float]:
        """Rate of each active dropout by its name."""
        return {step.name: step.rate for step in self.steps if isinstance(step, Drop)}


@dataclass(frozen=True)
class _Piece:
    """A layer of the tail with what it does to the features."""

    call: Call
    steps: list[Step]

    @property
    def pools(self) -> bool:
        return is_pooling(self.call) and self.call.taken[:2] != (1, 1)

    def has(self, kind: type) -> bool:
        return any(isinstance(step, kind) and getattr(step, "rate", 1) > 0 for step in self.steps)


def find_cut(network: OpenNetwork, layer: str | None = None, rates: Sequence[float] | None = None) -> Cut:
    """Find where a network is cut.

    Parameters
    ----------
    network : OpenNetwork
    layer : str, optional
        Name of the layer to cut after; all dropouts before are off.
    rates : sequence of float, optional
        Dropout before the last dense layers, in place of what the network has; 0 is none.

    Raises
    ------
    InputError
        What follows cannot be a head; the message names the layer.
    """
    pieces, stop = _readable_tail(network, rates is not None)
    if layer is not None:
        start = _after(network, pieces, stop, layer)
    elif rates is not None:
        start = _before_dense(pieces, stop, len(rates))
    else:
        start = _before_dropout(network, pieces, stop)
    while layer is None and start and all(isinstance(s, Affine) for s in pieces[start - 1].steps):
        start -= 1  # a BatchNorm costs a head nothing, and int8 features keep more without it
    chosen = pieces[start:]
    if not any(piece.has(Multiply) for piece in chosen):
        if layer is None and any(piece.has(Multiply) for piece in pieces):
            raise InputError(
                f"head: dropout {chosen[0].call.name} comes after the last dense layer, and acts on what is given out; "
                "give one before that layer with --dropout RATE"
            )
        raise InputError(f"head: expected a dense layer at the end of the network, found none; {_stopped(stop)}")
    steps = [step for piece in chosen for step in piece.steps]
    return _made(network, chosen, steps if rates is None else _with_rates(steps, rates))


def _readable_tail(network: OpenNetwork, ignored: bool) -> tuple[list[_Piece], str]:
    """Return the layers before the output that a head can have, first to last, and why the one before cannot be in it.

    With dropouts `ignored`, layers that are random in training do nothing.
    """
    pieces: list[_Piece] = []
    tensor = network.output
    while (call := network.producer(tensor)) is not None:
        try:
            steps = [] if ignored and is_random(call) else steps_of(call)
        except UnreadableError as error:
            if is_pooling(call) and not ignored:
                return [*_pooled_dropouts(network, call), *pieces], f"layer {call.name} ({call.kind}) works on a map"
            return pieces, f"layer {call.name} ({call.kind}) {error}"
        pieces.insert(0, _Piece(call, steps))
        tensor = call.inputs[0]
    return pieces, "the network begins there"


def _pooled_dropouts(network: OpenNetwork, pooling: Call) -> list[_Piece]:
    """Return the dropouts of whole channels right before a pooling, and the pooling; none where there are none."""
    pieces: list[_Piece] = []
    call = network.producer(pooling.inputs[0])
    while call is not None and is_dropout(call) and shares_channels(call):
        pieces.insert(0, _Piece(call, [Drop(float(call.layer.rate), call.name)]))
        call = network.producer(call.inputs[0])
    return [*pieces, _Piece(pooling, [])] if pieces else []


def _after(network: OpenNetwork, pieces: list[_Piece], stop: str, layer: str) -> int:
    names = [piece.call.name for piece in pieces]
    first = network.producer(pieces[0].call.inputs[0]) if pieces else None
    if layer in names:
        start = names.index(layer) + 1
        if start == len(pieces):
            raise InputError(f"--cut {layer}: is the last layer; cut before the dense layers of the head")
        return start
    if first is not None and first.name == layer:
        return 0
    if layer not in {call.name for call in network.calls}:
        near = ", ".join([*([first.name] if first else []), *names][:6])
        raise InputError(f"--cut {layer}: the network has no such layer; a head can begin after {near}")
    raise InputError(f"--cut {layer}: a head cannot begin there: {stop}, and comes after it; cut later")


def _before_dense(pieces: list[_Piece], stop: str, count: int) -> int:
    dense = [number for number, piece in enumerate(pieces) if piece.has(Multiply)]
    if len(dense) < count:
        raise InputError(
            f"--dropout: expected at most one rate for each of the {len(dense)} dense layers at the end of the "
            f"network, found {count}; {stop}"
        )
    return dense[-count]


def _before_dropout(network: OpenNetwork, pieces: list[_Piece], stop: str) -> int:
    dropouts = [number for number, piece in enumerate(pieces) if piece.has(Drop)]
    if dropouts:
        return dropouts[0]
    lost = [call.name for call in network.calls if rate_of(call) and call.kind != "GaussianNoise"]
    dense = [number for number, piece in enumerate(pieces) if piece.has(Multiply)]
    if lost:
        raise InputError((NO_DROPOUT if dense else NO_HEAD).format(_listed(lost), stop))
    return dense[-1] if dense else len(pieces)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _stopped(stop: str) -> str:
    return f"{stop}; the head's layers must be dense, one after the other"


def _with_rates(steps: list[Step], rates: Sequence[float]) -> list[Step]:
    """Return steps with dropout before the last dense layers."""
    left: list[Step] = [step for step in steps if not isinstance(step, Drop)]
    dense = [number for number, step in enumerate(left) if isinstance(step, Multiply)]
    if len(dense) < len(rates):
        raise InputError(f"--dropout: the head has {len(dense)} dense layers, found {len(rates)} rates; give fewer")
    for place, rate in reversed(list(zip(dense[-len(rates) :], rates, strict=True))):
        left.insert(place, Drop(rate, f"dropout before {left[place].name}"))
    return left


def _made(network: OpenNetwork, pieces: list[_Piece], steps: list[Step]) -> Cut:
    import keras

    tail = [piece.call for piece in pieces]
    source = features = tail[0].inputs[0]
    before = network.producer(source)
    for piece in pieces:
        if piece.pools:
            features = piece.call.layer(source)
            before = piece.call
            break
    if len(features.shape) > 2:
        features = keras.layers.Flatten(name="fastuq_features")(features)
    if None in features.shape[1:]:
        raise InputError(f"head: the features after {before.name if before else 'the input'} have no fixed size")
    active = {step.name for step in steps if isinstance(step, Drop)}
    off = [call for call in network.calls if rate_of(call) and (call.name not in active or call not in tail)]
    total = sum(call.multiplications for call in network.calls)
    late = sum(call.multiplications for call in tail)
    after = before.name if before is not None else "the input"
    share = float(1 - late / total) if total else 0.0
    return Cut(source, features, tail, steps, after, off, share)
