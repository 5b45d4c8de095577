"""A Keras network opened up: every layer, of nested networks too, called one after the other in float32."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.training.tensorflow import tensorflow

QUANTIZED = "layer {}: its weights are quantized by Keras; import the network as it was before model.quantize"


@dataclass(frozen=True, eq=False)
class Call:
    """One layer, or another operation, at work.

    Attributes
    ----------
    layer : keras.Operation
        A float32 copy of the network's own.
    name, kind : str
        Name in the opened network, which is the layer's own where no other has it; class.
    inputs, outputs : list of keras.KerasTensor
    """

    layer: Any
    name: str
    kind: str
    inputs: list[Any]
    outputs: list[Any]

    @property
    def taken(self) -> tuple[int | None, ...]:
        """Shape of the first input, without the batch."""
        return tuple(self.inputs[0].shape[1:])

    @property
    def given(self) -> tuple[int | None, ...]:
        """Shape of the first output, without the batch."""
        return tuple(self.outputs[0].shape[1:])

    @property
    def multiplications(self) -> int:
        """Products of weights and inputs: those of all kernels, at every place where they are applied."""
        places = int(np.prod([side or 1 for side in self.given[:-1]]))
        weights = getattr(self.layer, "weights", [])
        return places * sum(int(np.prod(w.shape)) for w in weights if len(w.shape) > 1)


@dataclass
class OpenNetwork:
    """All calls from an input to an output.

    Attributes
    ----------
    image, output : keras.KerasTensor
        Images (N, H, W, 3) with values 0 to 255; what the network says of them.
    calls : list of Call
        In an order in which they can be done.
    """

    image: Any
    output: Any = None
    calls: list[Call] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _copies: dict[int, tuple[Any, str, Any]] = field(default_factory=dict)

    def producer(self, tensor: Any) -> Call | None:
        """Return the call that a tensor comes out of; None for what stands before the network."""
        return next((call for call in self.calls if any(out is tensor for out in call.outputs)), None)

    def _name(self, name: str, within: str) -> str:
        for choice in (name, f"{within}_{name}", *(f"{name}_{number}" for number in range(1, len(self._names) + 2))):
            if choice not in self._names:
                self._names.add(choice)
                return choice
        raise AssertionError("one of so many names is free")

    def call(self, layer: Any, *args: Any, within: str = "", **kwargs: Any) -> Any:
        """Call a layer, or all layers of a nested network, on tensors of this one; return what it returns."""
        import keras

        kwargs.pop("training", None)  # what is random and what is not, is decided here
        if isinstance(layer, keras.Sequential):
            (x,) = args
            for inner in layer.layers:
                x = self.call(inner, x, within=layer.name)
            return x
        if isinstance(layer, keras.Model):
            if not hasattr(layer, "_run_through_graph"):
                raise InputError(f"layer {layer.name} ({type(layer).__name__}): has no graph of layers to open")
            inside = keras.tree.flatten(args)
            return layer._run_through_graph(
                inside, call_fn=lambda inner, *a, **k: self.call(inner, *a, within=layer.name, **k)
            )
        copy, name = self._copy(layer, within)
        outputs = copy(*args, **kwargs)
        self._fill(copy, layer)
        tensors = [t for t in keras.tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]
        self.calls.append(Call(copy, name, type(layer).__name__, tensors, keras.tree.flatten(outputs)))
        return outputs

    def _copy(self, layer: Any, within: str) -> tuple[Any, str]:
        """Return a float32 copy of a layer, one a layer, and a name of its own; other operations as they are."""
        import keras

        if not isinstance(layer, keras.Layer):
            return layer, layer.name
        if getattr(layer, "quantization_mode", None) is not None:
            raise InputError(QUANTIZED.format(layer.name))
        if id(layer) not in self._copies:
            name = self._name(layer.name, within)
            allowed = re.sub(r"[^A-Za-z0-9_.]", "_", name)  # TensorFlow's names for what a layer does
            config = {**layer.get_config(), "dtype": "float32"}
            config["name"] = name if allowed == name else self._name(allowed, within)
            self._copies[id(layer)] = type(layer).from_config(config), name, layer  # held, so that no other gets its id
        return self._copies[id(layer)][:2]

    @staticmethod
    def _fill(copy: Any, layer: Any) -> None:
        """Give a copy, which its first call has built, the weights of a layer."""
        if copy is layer:
            return
        copy.set_weights([np.asarray(w, np.float32) for w in layer.get_weights()])
        if hasattr(copy, "finalize_state"):  # Normalization computes from its weights
            copy.finalize_state()


def open_network(network: Any, shape: tuple[int, ...], front: Callable[[Any], Any]) -> OpenNetwork:
    """Open a network on images.

    Parameters
    ----------
    network : keras.Model
        Sequential or functional, with one input and one output.
    shape : tuple of int
        Of an image, (H, W, 3).
    front : callable
        From a tensor of images to what the network takes.

    Raises
    ------
    InputError
        A part of the network has no graph of layers.
    """
    tensorflow()
    import keras

    image = keras.Input(shape, name="fastuq_image")
    opened = OpenNetwork(image)
    (opened.output,) = keras.tree.flatten(opened.call(network, front(image)))  # files of Keras 2 give a list of one
    return opened
