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

from fastuq.errors import InputError, ModelError, short
from fastuq.model.image_input import ImageInput, image_input
from fastuq.util.checks import checked_path
from fastuq.util.npy import open_regular
from fastuq.util.process import muted, thread_count

_PER_TASK = 8


class Backbone:
    """An int8 TFLite network that runs on images.

    It serves `backbone.tflite` (images -> features) and `full.tflite` (images -> class outputs) alike. Input and output
    are int8 or uint8; images go in with the layout, the number at once and the scale that the file states, as their
    brightness where it takes one channel. An output of any shape is a vector per image.

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
        Height, width and 3, of an RGB image.
    output_shape : (int,)
        Number of features, (D,).
    scale, zero_point : float, int
        Of the features: real = scale * (q - zero_point); uint8 ones become int8 by taking 128 from them and from
        their zero point. Features without a scale are whole numbers: 1 and 0. Pixels reach the input by its own scale
        and zero point.
    runtime : dict
        LiteRT version and delegate, which decide the features to the last bit.

    Raises
    ------
    ModelError
        The file is missing, damaged, or no network from 8-bit images to 8-bit vectors; or its input cannot hold the
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
        self._images, given = self._ends(first)
        self.input_shape = self._images.image_shape
        self.output_shape = (int(np.prod(given["shape"][1:])),)
        self.scale, self.zero_point = float(given["quantization"][0]) or 1.0, int(given["quantization"][1])
        if given["dtype"] == np.uint8:
            self.zero_point -= 128
        self._running = _Running([_Runner(first, self._images)])

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
                here.single = _Runner(self._interpreter(self.threads), self._images)
            here.single.run(image, features)

    def _run_parallel(self, images: np.ndarray, features: np.ndarray) -> None:
        here = self._here()
        while here.made < min(self.threads, len(images)):
            here.add(_Runner(self._interpreter(1), self._images))

        several = -(-_PER_TASK // self._images.batch) * self._images.batch

        def work(start: int) -> None:
            runner = here.idle.get()
            try:
                runner.run(images[start : start + several], features[start : start + several])
            finally:
                here.idle.put(runner)

        size = range(0, len(images), several)
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
                f"({short(error)}); make the model again"
            ) from error
        return made

    def _ends(self, interpreter: Any) -> tuple[ImageInput, dict]:
        """Return how images go in, and what LiteRT says of the output, which must be a vector for each of them."""
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) == len(outputs) == 1:
            images, given = image_input(inputs[0], self._name), outputs[0]
            if images is not None and _are_vectors(given, images.batch):
                return images, given
        found = " to ".join(
            ", ".join(f"{np.dtype(end['dtype'])} {tuple(end['shape'].tolist())}" for end in ends) or "nothing"
            for ends in (inputs, outputs)
        )
        raise ModelError(
            f"{self._name}: expected a network from 8-bit images (N, H, W, 3) to 8-bit vectors (N, D), found {found}; "
            "quantize it with `fastuq train` or `fastuq quantize`, or take it in with `fastuq import`"
        )


def _are_vectors(given: dict[str, Any], batch: int) -> bool:
    """Tell whether an output is 8-bit numbers of one scale, or int8 without any, as many for each image."""
    shape, scales = given["shape"].tolist(), given["quantization_parameters"]["scales"]
    scaled = len(scales) == 1 and 0 < given["quantization"][0] < np.inf
    whole = len(scales) == 0 and given["dtype"] == np.int8
    return (
        given["dtype"] in (np.int8, np.uint8)
        and (scaled or whole)
        and len(shape) >= 2
        and shape[0] == batch
        and 0 not in shape
    )


_RUNNERS: "weakref.WeakSet[_Runner]" = weakref.WeakSet()


class _Runner:
    """One interpreter with its input and output buffers."""

    def __init__(self, interpreter: Any, images: ImageInput) -> None:
        self._interpreter, self._images = interpreter, images
        _RUNNERS.add(self)
        self._input = interpreter.get_input_details()[0]["index"]
        self._output = interpreter.get_output_details()[0]["index"]

    def abandon(self) -> None:
        """Never free the interpreter: LiteRT joins its threads then, and crashes where they stayed in the parent."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._interpreter))

    def run(self, images: np.ndarray, features: np.ndarray) -> None:
        taken, given = self._interpreter.tensor(self._input), self._interpreter.tensor(self._output)
        several = self._images.batch
        try:
            for start in range(0, len(images), several):
                some = self._images(images[start : start + several])
                taken()[: len(some)] = some  # after the last image stay older ones, and what comes of them is dropped
                self._interpreter.invoke()
                features[start : start + several] = _signed(given().reshape(several, -1)[: len(some)])
        except RuntimeError as error:
            raise ModelError(f"network: LiteRT cannot run it ({short(error)}); make the model again") from error


def _signed(rows: np.ndarray) -> np.ndarray:
    """Return 8-bit rows as int8."""
    return rows if rows.dtype == np.int8 else (rows ^ 128).view(np.int8)


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


def _content(model_file: str | Path | bytes) -> bytes:
    if isinstance(model_file, bytes):
        return model_file
    try:
        with open(open_regular(checked_path(model_file)), "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise ModelError(f"{model_file}: cannot be read ({reason}); make the model again") from error
