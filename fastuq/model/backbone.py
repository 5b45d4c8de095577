"""The int8 network on LiteRT: images -> features, the only place that imports LiteRT.

Each thread owns an interpreter of one thread that takes one image at a time: `invoke` releases the GIL, so images, not
the inside of a layer, are what runs in parallel. A single image gets an interpreter with all threads instead.
"""

import ctypes
import os
import queue
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError, ModelError
from fastuq.util.checks import checked_path
from fastuq.util.npy import open_regular
from fastuq.util.process import muted, thread_count

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
        `threads` is no number of threads, see `fastuq.util.process.thread_count`.

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
        self.threads = thread_count(threads)
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
        self._running = _Running([_Runner(first, self._codes)])

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
            self._run_single(images, features)
        else:
            self._run_parallel(images, features)
        return features

    def _here(self) -> "_Running":
        """Return what runs in this process: the threads and interpreters of a parent hang in a forked child."""
        if self._running.process != os.getpid():
            self._running = _Running([])
        return self._running

    def _run_single(self, image: np.ndarray, features: np.ndarray) -> None:
        here = self._here()
        with here.single_lock:
            if here.single is None:
                here.single = _Runner(self._interpreter(self.threads), self._codes)
            here.single.run(image, features)

    def _run_parallel(self, images: np.ndarray, features: np.ndarray) -> None:
        here = self._here()
        while here.made < min(self.threads, len(images)):
            here.add(_Runner(self._interpreter(1), self._codes))

        def work(start: int) -> None:
            runner = here.idle.get()
            try:
                runner.run(images[start : start + _PER_TASK], features[start : start + _PER_TASK])
            finally:
                here.idle.put(runner)

        size = range(0, len(images), _PER_TASK)
        if self.threads == 1:
            for start in size:
                work(start)
        else:
            for _ in here.pool(self.threads).map(work, size):
                pass

    def _interpreter(self, threads: int) -> Any:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kind = OpResolverType.AUTO if self._xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            with muted(2):  # LiteRT's C++ side says there what delegates it takes
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


_RUNNERS: "weakref.WeakSet[_Runner]" = weakref.WeakSet()


class _Runner:
    """One interpreter with its input and output buffers."""

    def __init__(self, interpreter: Any, codes: np.ndarray | None) -> None:
        self._interpreter, self._codes = interpreter, codes
        _RUNNERS.add(self)
        self._input = interpreter.get_input_details()[0]["index"]
        self._output = interpreter.get_output_details()[0]["index"]

    def abandon(self) -> None:
        """Never free the interpreter: LiteRT joins its threads then, and crashes where they stayed in the parent."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._interpreter))

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


def _abandon_runners() -> None:
    for runner in list(_RUNNERS):
        runner.abandon()


os.register_at_fork(after_in_child=_abandon_runners)


class _Running:
    """The threads and interpreters of one process."""

    def __init__(self, runners: list[_Runner]) -> None:
        self.process = os.getpid()
        self.idle: queue.SimpleQueue[_Runner] = queue.SimpleQueue()
        self.made = 0
        self.single: _Runner | None = None
        self.single_lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        for runner in runners:
            self.add(runner)

    def add(self, runner: _Runner) -> None:
        """Add an interpreter of one thread."""
        self.idle.put(runner)
        self.made += 1

    def pool(self, threads: int) -> ThreadPoolExecutor:
        """Return the pool of so many threads, made at the first call."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fastuq-backbone")
        return self._pool


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
        with open(open_regular(checked_path(model_file)), "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise ModelError(f"{model_file}: cannot be read ({reason}); make the model again") from error
