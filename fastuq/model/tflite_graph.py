"""A TFLite file as a graph: read without trust, looked at, and cut to the part from its images to one tensor."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastuq.errors import FastUQError, ModelError, short
from fastuq.model.tflite_schema import names_of, schema, unpacked


@dataclass(frozen=True)
class Scale:
    """What the int8 codes of a tensor stand for: real = scale * (q - zero_point); those of uint8 are 128 less."""

    scale: float
    zero_point: int


class Graph:
    """A TFLite file of one graph with one input and one output.

    Parameters
    ----------
    content : bytes
    name : str
        What errors call it.

    Attributes
    ----------
    output : int
        The tensor that the file gives.

    Raises
    ------
    ModelError
        It is truncated, hostile or no TFLite file, has several inputs, outputs or graphs, or custom operations.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self._content = content
        with damage_refused(name):
            self._model = unpacked(content)
            self._check()
        self._made_by = {int(t): op for op in self._graph.operators for t in op.outputs}
        self.output = int(self._graph.outputs[0])

    @property
    def _graph(self) -> Any:
        return self._model.subgraphs[0]

    def __len__(self) -> int:
        return len(self._graph.tensors)

    def tensor_name(self, tensor: int) -> str:
        """Return the name of a tensor."""
        return (self._graph.tensors[tensor].name or b"").decode(errors="replace")

    def find(self, name: str) -> int:
        """Return the tensor of that name that an operation makes; raises ModelError where there is none, or several."""
        found = [tensor for tensor in self._made_by if self.tensor_name(tensor) == name]
        if len(found) != 1:
            some = ", ".join(repr(self.tensor_name(tensor)) for tensor in list(self._made_by)[-5:])
            raise ModelError(
                f"{self.name}: expected one tensor {short(repr(name))} that an operation makes, found {len(found)}; "
                f"its last ones are {some}"
            )
        return found[0]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        shape = self._graph.tensors[tensor].shape
        return () if shape is None else tuple(int(n) for n in shape)

    def dtype(self, tensor: int) -> str:
        """Return the type of a tensor as the format calls it: INT8."""
        return names_of("TensorType")[self._graph.tensors[tensor].type]

    def scale(self, tensor: int) -> Scale | None:
        """Return the scale of an int8 or uint8 tensor; None for another one, or one with several scales."""
        scales, zero_points = self.scales(tensor)
        if self.dtype(tensor) not in ("INT8", "UINT8") or len(scales) != 1 or len(zero_points) != 1:
            return None
        below = 128 if self.dtype(tensor) == "UINT8" else 0
        found = Scale(float(scales[0]), int(zero_points[0]) - below)
        return found if 0 < found.scale < np.inf and -128 <= found.zero_point <= 127 else None

    def scales(self, tensor: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the scales and the zero points of a tensor, as many as it has."""
        of = self._graph.tensors[tensor].quantization
        scales = np.array([] if of is None or of.scale is None else of.scale, np.float64)
        zero_points = np.array([] if of is None or of.zeroPoint is None else of.zeroPoint, np.int64)
        return scales, zero_points

    def scaled_axis(self, tensor: int) -> int:
        """Return the axis that the scales of a tensor go along."""
        return int(self._graph.tensors[tensor].quantization.quantizedDimension)

    def maker(self, tensor: int) -> tuple[str, Any] | None:
        """Return the operation that makes a tensor, and its name as the format calls it; None for an input."""
        op = self._made_by.get(tensor)
        return None if op is None else (self._kind(op), op)

    def constant(self, tensor: int, dtype: type) -> np.ndarray | None:
        """Return the values of a constant tensor; None where it is none, or not of that type and size."""
        data, shape = self._model.buffers[self._graph.tensors[tensor].buffer].data, self.shape(tensor)
        known = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32}.get(self.dtype(tensor))
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if known is not dtype or tensor in self._made_by or data is None or len(data) != size or not size:
            return None
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)

    def image(self) -> int:
        """Return the tensor that takes 8-bit images: the input, or what a QUANTIZE after a float one makes.

        Raises
        ------
        ModelError
            The images go in as floating-point numbers.
        """
        given = int(self._graph.inputs[0])
        if self.dtype(given) in ("INT8", "UINT8"):
            return given
        readers = [op for op in self._graph.operators if given in op.inputs]
        if len(readers) == 1 and self._kind(readers[0]) == "QUANTIZE" and self.scale(int(readers[0].outputs[0])):
            return int(readers[0].outputs[0])
        raise ModelError(
            f"{self.name}: expected a network that takes 8-bit images, found {self.dtype(given)} input; it is a float "
            "or partly quantized model: convert it with full integer quantization (a representative_dataset), or "
            "import the Keras network that it was made from"
        )

    def codes_of(self, tensor: int) -> int:
        """Return the int8 or uint8 tensor that a float one is made of by nothing but DEQUANTIZE; else the same."""
        while (made := self.maker(tensor)) is not None and made[0] == "DEQUANTIZE":
            tensor = int(made[1].inputs[0])
        return tensor

    def cut(self, output: int) -> bytes:
        """Return a TFLite file from the 8-bit images to one tensor, of the operations that make it alone.

        The kept operations are what they were, so that the tensor has the same bits.

        Raises
        ------
        ModelError
            The tensor does not depend on the images.
        """
        image = self.image()
        wanted, kept = {output}, []
        for op in reversed(self._graph.operators):
            made = {int(t) for t in op.outputs}
            if made & wanted and image not in made:
                kept.append(op)
                wanted |= {int(t) for t in op.inputs if t >= 0}
        if image not in wanted or not kept:
            raise ModelError(f"{self.name}: tensor {self.tensor_name(output)!r} does not depend on the images")
        return self._packed(kept[::-1], image, output)

    def _packed(self, operators: list[Any], image: int, output: int) -> bytes:
        """Return a file of these operations, of the tensors, buffers and operator codes that they use."""
        import flatbuffers

        tensors, buffers, codes = _Kept(), _Kept([0]), _Kept()
        tensors(image)
        made = []
        for op in map(copy.copy, operators):
            op.opcodeIndex = codes(op.opcodeIndex)
            op.inputs = [tensors(int(t)) if t >= 0 else -1 for t in op.inputs]
            op.outputs = [tensors(int(t)) for t in op.outputs]
            op.intermediates = None
            made.append(op)
        model, graph = schema().ModelT(), schema().SubGraphT()
        model.version, model.description = self._model.version, "cut by fastuq"
        graph.operators, graph.inputs, graph.outputs = made, [tensors(image)], [tensors(output)]
        graph.tensors = [copy.copy(self._graph.tensors[tensor]) for tensor in tensors.order]
        for tensor in graph.tensors:
            tensor.buffer = buffers(tensor.buffer)
        model.subgraphs = [graph]
        model.buffers = [self._model.buffers[buffer] for buffer in buffers.order]
        model.operatorCodes = [self._model.operatorCodes[code] for code in codes.order]
        builder = flatbuffers.Builder(len(self._content))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _kind(self, op: Any) -> str:
        code = self._model.operatorCodes[op.opcodeIndex]
        return names_of("BuiltinOperator").get(
            max(code.builtinCode, code.deprecatedBuiltinCode), "an unknown operation"
        )

    def _check(self) -> None:
        """Raise where an index leads nowhere (any error), or where it is no graph that can be cut (ModelError)."""
        graphs = self._model.subgraphs
        if len(graphs) != 1 or len(self._graph.inputs) != 1 or len(self._graph.outputs) != 1:
            found = [f"one of {len(graph.inputs)} inputs and {len(graph.outputs)} outputs" for graph in graphs[:5]]
            raise ModelError(
                f"{self.name}: expected one graph with one input and one output, found {', '.join(found) or 'none'}; "
                "export the classifier alone"
            )
        tensors, first = len(self._graph.tensors), self._model.buffers[0].data
        if first is not None and len(first):
            raise ValueError("buffer 0 is not empty")
        used, made = [*self._graph.inputs, *self._graph.outputs], {int(t) for t in self._graph.inputs}
        later = {int(t) for op in self._graph.operators for t in op.outputs}
        for op in self._graph.operators:
            used += [*op.outputs, *(t for t in op.inputs if t != -1)]
            if not (len(op.inputs) and len(op.outputs)):
                raise ValueError("an operation without inputs or outputs, as networks with a state have them")
            unmade = [t for t in op.inputs if int(t) in later and int(t) not in made]
            if unmade or made & {int(t) for t in op.outputs}:
                raise ValueError("an operation before its inputs")
            made |= {int(t) for t in op.outputs}
            if self._kind(op) == "CUSTOM":
                code = self._model.operatorCodes[op.opcodeIndex].customCode or b"without a name"
                raise ModelError(
                    f"{self.name}: custom operation {short(code.decode(errors='replace'))}, which LiteRT does not "
                    "know; export it with built-in operations alone (an _edgetpu file has one that is)"
                )
        if not all(0 <= t < tensors for t in used):
            raise ValueError("an operation on a tensor that is not there")
        for tensor in range(tensors):
            self.dtype(tensor)  # a type that is not there raises
        if not all(0 <= t.buffer < len(self._model.buffers) for t in self._graph.tensors):
            raise ValueError("a tensor in a buffer that is not there")
        if any(buffer.offset > 1 for buffer in self._model.buffers):
            raise ValueError("values outside of the file's tables, as files of 2 GB and more have them")


@contextmanager
def damage_refused(name: str) -> Iterator[None]:
    """Turn whatever looking at a damaged or hostile file raises, which is not one kind, into ModelError."""
    try:
        yield
    except FastUQError:
        raise
    except Exception as error:
        raise ModelError(
            f"{name}: expected a TFLite file, found a truncated or foreign one ({short(error, 80)}); copy it again"
        ) from None


class _Kept:
    """Numbers things anew in the order in which they are met."""

    def __init__(self, order: list[int] | None = None) -> None:
        self.order = list(order or [])
        self._place = {old: new for new, old in enumerate(self.order)}

    def __call__(self, old: int) -> int:
        if old not in self._place:
            self._place[old] = len(self.order)
            self.order.append(old)
        return self._place[old]
