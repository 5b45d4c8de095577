"""The int8 network on LiteRT: images -> features, the only place that imports LiteRT.

Each thread owns an interpreter of one thread that takes one image at a time: `invoke` releases the GIL, so images, not
the inside of a layer, are what runs in parallel. A single image gets an interpreter with all threads instead.
"""

import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError, ModelError

_PER_TASK = 8


class Backbone:
    """An int8 TFLite network that runs on images.

    It serves `backbone.tflite` (images -> features) and `full.tflite` (images -> class outputs) alike.

    Parameters
    ----------
    model_file : str, Path or bytes
        A TFLite file or its content.
    threads : int, optional
        Default: the processors this process may use. The features do not depend on it.
    xnnpack : bool
        False runs LiteRT's own kernels: several times slower, and other features (see `runtime`).

    Attributes
    ----------
    input_shape : (int, int, int)
        Height, width and channels of an image.
    output_shape : (int,)
        Number of features, (D,).
    scale, zero_point : float, int
        Of the features: real = scale * (q - zero_point). Pixels reach the input by its own scale and zero point.
    runtime : dict
        LiteRT version and delegate, which decide the features to the last bit.

    Raises
    ------
    ModelError
        The file is missing, damaged, or no network from uint8 images to int8 vectors; or its input cannot hold the
        pixels 0 to 255.
    InputError
        `threads` is below 1.

    Examples
    --------
    >>> import fastuq
    >>> backbone = fastuq.Backbone(fastuq.load_model().read_backbone())
    >>> backbone.input_shape, backbone.output_shape
    ((32, 32, 3), (1280,))
    >>> features = backbone(fastuq.open_images("bundled").read(0, 2))
    >>> features.shape, features.dtype
    ((2, 1280), dtype('int8'))
    """

    def __init__(self, model_file: str | Path | bytes, *, threads: int | None = None, xnnpack: bool = True) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads: expected 1 or more, found {threads}")
        self.threads = threads or len(os.sched_getaffinity(0))
        self._name = "network" if isinstance(model_file, bytes) else str(model_file)
        self._content = _content(model_file)
        self._xnnpack = xnnpack
        self.runtime = {"litert": version("ai-edge-litert"), "delegate": "xnnpack" if xnnpack else "none"}
        first = self._interpreter(1)
        taken, given = self._ends(first)
        self.input_shape = tuple(int(n) for n in taken["shape"][1:])
        self.output_shape = (int(given["shape"][1]),)
        self.scale, self.zero_point = float(given["quantization"][0]), int(given["quantization"][1])
        self._codes = _codes(taken["quantization_parameters"], self._name)
        self._idle: queue.SimpleQueue[_Runner] = queue.SimpleQueue()
        self._idle.put(_Runner(first, self._codes))
        self._made = 1

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run the network on images.

        Parameters
        ----------
        images : ndarray, (N, H, W, 3), uint8

        Returns
        -------
        ndarray, (N, D), int8

        Raises
        ------
        InputError
            The images are of another shape or dtype.
        """
        expected = self.input_shape
        if getattr(images, "dtype", None) != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            found = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}".strip()
            raise InputError(
                f"images: {self._name} takes uint8 (N, {', '.join(map(str, expected))}), found {found}; "
                "resize them, or give the images that the model was made for"
            )
        features = np.empty((len(images), *self.output_shape), np.int8)
        if len(images) == 1:
            self._single.run(images, features)
        else:
            self._run_parallel(images, features)
        return features

    def _run_parallel(self, images: np.ndarray, features: np.ndarray) -> None:
        while self._made < min(self.threads, len(images)):
            self._idle.put(_Runner(self._interpreter(1), self._codes))
            self._made += 1

        def work(start: int) -> None:
            runner = self._idle.get()
            try:
                runner.run(images[start : start + _PER_TASK], features[start : start + _PER_TASK])
            finally:
                self._idle.put(runner)

        size = range(0, len(images), _PER_TASK)
        if self.threads == 1:
            for start in size:
                work(start)
        else:
            for _ in self._pool.map(work, size):
                pass

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="fastuq-backbone")

    @cached_property
    def _single(self) -> "_Runner":
        return _Runner(self._interpreter(self.threads), self._codes)

    def _interpreter(self, threads: int) -> Any:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kind = OpResolverType.AUTO if self._xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            with _quiet():
                made = Interpreter(model_content=self._content, num_threads=threads, experimental_op_resolver_type=kind)
                made.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{self._name}: expected a TFLite network, found a damaged or foreign file "
                f"({' '.join(str(error).split())[:120]}); make the model again"
            ) from error
        return made

    def _ends(self, interpreter: Any) -> tuple[dict, dict]:
        """Return what LiteRT says of the one input and the one output, which must be images and vectors."""
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) == len(outputs) == 1:
            taken, given = inputs[0], outputs[0]
            image = taken["dtype"] == np.uint8 and len(taken["shape"]) == 4 and taken["shape"][0] == 1
            vector = given["dtype"] == np.int8 and len(given["shape"]) == 2 and given["quantization"][0] > 0
            if image and vector:
                return taken, given
        found = " to ".join(
            ", ".join(f"{np.dtype(end['dtype'])} {tuple(end['shape'].tolist())}" for end in ends) or "nothing"
            for ends in (inputs, outputs)
        )
        raise ModelError(
            f"{self._name}: expected a network from uint8 images (1, H, W, 3) to int8 vectors (1, D), found {found}; "
            "quantize it with `fastuq train` or `fastuq quantize`"
        )


class _Runner:
    """One interpreter with its input and output buffers."""

    def __init__(self, interpreter: Any, codes: np.ndarray | None) -> None:
        self._interpreter, self._codes = interpreter, codes
        self._input = interpreter.get_input_details()[0]["index"]
        self._output = interpreter.get_output_details()[0]["index"]

    def run(self, images: np.ndarray, features: np.ndarray) -> None:
        taken, given = self._interpreter.tensor(self._input), self._interpreter.tensor(self._output)
        try:
            for image, row in zip(images, features, strict=True):
                taken()[0] = image if self._codes is None else self._codes[image]
                self._interpreter.invoke()
                row[:] = given()[0]
        except RuntimeError as error:
            raise ModelError(
                f"network: LiteRT cannot run it ({' '.join(str(error).split())[:120]}); make the model again"
            ) from error


def _codes(quantization: dict[str, Any], name: str) -> np.ndarray | None:
    """Return the code (256,) uint8 that each pixel value 0 to 255 has in a network's input; None where it is the value.

    A network that normalises its input has a converter choose a scale of its own: Caffe's preprocessing gives 1.485.
    """
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    pixels = np.arange(256)
    if len(scales) == 0:  # not quantized: whole numbers mean themselves
        return None
    scale, zero_point = float(scales[0]), int(zero_points[0])
    if len(scales) == 1 and 0 < scale < np.inf:
        codes = np.clip(np.rint(pixels / scale) + zero_point, 0, 255)
        if (np.abs(scale * (codes - zero_point) - pixels) <= 0.501 * scale).all():
            return None if np.array_equal(codes, pixels) else codes.astype(np.uint8)
    raise ModelError(
        f"{name}: expected an input that holds the pixels 0 to 255, found one with scale {scale:.6g} and zero point "
        f"{zero_point}, from {scale * -zero_point:.6g} to {scale * (255 - zero_point):.6g}; the network was trained or "
        "calibrated on other values than pixels: put the scaling into it, and quantize it with `fastuq quantize`"
    )


def _content(model_file: str | Path | bytes) -> bytes:
    if isinstance(model_file, bytes):
        return model_file
    try:
        return Path(model_file).read_bytes()
    except OSError as error:
        raise ModelError(f"{model_file}: cannot be read ({error.strerror}); make the model again") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the terminal what LiteRT's C++ side says of its delegates: it writes to file descriptor 2 itself."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
