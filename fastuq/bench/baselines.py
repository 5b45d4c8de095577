"""What the head is timed beside: Keras on repeated batches, NumPy on all samples at once, `plain_numba`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastuq.bench.plain_numba import plain_numba_head
from fastuq.bench.timing import require_equal
from fastuq.errors import FastUQError
from fastuq.model.activations import activation_of
from fastuq.model.head import Head
from fastuq.model.model import Model
from fastuq.montecarlo.engine import moments
from fastuq.montecarlo.masks import keep_bits
from fastuq.montecarlo.reference import naive_moments
from fastuq.training.keras_heads import head_network
from fastuq.training.tensorflow import tensorflow

_CHECK_ITERATIONS, _CHECK_SAMPLES = 2000, 8


def numpy_head(model: Model, features: np.ndarray, num_iter: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std by the strongest NumPy form we know: all samples at once, masks on the weights, one BLAS.

    The masks are the shared ones of seed 0, so the result is that of the fast path.
    """
    head = model.head
    inputs = model.dequantize(features) * head.scale + head.shift
    iterations = np.arange(num_iter)
    masks = [
        keep_bits(0, layer, iterations, 0, w, r)
        for layer, (w, r) in enumerate(zip(head.widths, head.rates, strict=True))
    ]
    first, square = np.zeros((2, len(features), head.num_classes))
    for t in range(num_iter):
        x = inputs
        for layer, block in enumerate(head.blocks):
            kept = np.where(masks[layer][t][:, None], block.weights / np.float32(1 - block.rate), np.float32(0))
            x = activation_of(block.activation).forward(x @ kept + block.bias)
        first += x
        square += np.square(x, dtype=np.float64)
    mean = first / num_iter
    return mean, np.sqrt(np.maximum(square / num_iter - mean**2, 0))


def keras_head(head: Head, *, rows: int = 3200, seed: int = 0) -> Callable[[np.ndarray, int], tuple[Any, Any]]:
    """Return a strong baseline: the float head run by TensorFlow on every sample repeated T times.

    Each call of the compiled function takes as many samples as give about `rows` repeated rows, which keeps the
    matrix product at full speed and the activations in the processor's cache. No XLA: it makes this slower.

    Parameters
    ----------
    head : Head
    rows : int
        Repeated rows per call.
    seed : int
        Of the masks, which TensorFlow draws.

    Returns
    -------
    callable
        (features (N, D) float32, T) -> mean (N, C), std (N, C), float32 (ddof 0).
    """
    tf = tensorflow()
    network = head_network(head)
    tf.random.set_seed(seed)

    @tf.function(reduce_retracing=True)
    def moments_of(x: Any, num_iter: Any) -> tuple[Any, Any]:
        outputs = network(tf.repeat(x, num_iter, axis=0), training=True)
        outputs = tf.reshape(outputs, (-1, num_iter, head.num_classes))
        mean, variance = tf.nn.moments(outputs, axes=[1])
        return mean, tf.sqrt(variance)

    network.get_layer("head_bn").trainable = False  # inference mode, while the dropout layers draw masks

    def run(features: np.ndarray, num_iter: int) -> tuple[np.ndarray, np.ndarray]:
        step = max(1, rows // num_iter)
        count = tf.constant(num_iter)
        parts = [moments_of(features[s : s + step], count) for s in range(0, len(features), step)]
        mean, std = (np.concatenate([np.asarray(part[k]) for part in parts]) for k in (0, 1))
        return mean, std

    return run


def check_baselines(model: Model, features: np.ndarray, keras: Callable[..., tuple[Any, Any]], num_iter: int) -> None:
    """Raise FastUQError unless fast path and baselines compute the same.

    NumPy gets the very masks, and so does the int8 head of the reference; Keras draws its own, so its moments are
    compared within their Monte-Carlo error.
    """
    found = moments(model, features, num_iter=num_iter, precision="float32")
    require_equal("NumPy and float32 head", numpy_head(model, features, num_iter), (found.mean, found.std))
    few = features[:_CHECK_SAMPLES]
    expected = naive_moments(model, lambda rows: rows, few, num_iter=num_iter, precision="int8")
    found = moments(model, features, num_iter=num_iter)
    first = slice(_CHECK_SAMPLES)
    require_equal("reference and int8 head", expected, (found.mean[first], found.std[first]))
    found = moments(model, few, num_iter=_CHECK_ITERATIONS, precision="float32", masks="per_sample")
    mean, std = keras(model.dequantize(few), _CHECK_ITERATIONS)
    # Outputs p lie in 0 to 1, so both p and p^2 have a variance of at most the mean of p^2.
    square, wanted = mean**2 + std**2, found.mean**2 + found.std**2
    error = np.sqrt((square + wanted) / _CHECK_ITERATIONS) + 1e-6
    far = float(max((np.abs(mean - found.mean) / error).max(), (np.abs(square - wanted) / error).max()))
    if far > 6:
        raise FastUQError(
            f"Keras and float32 head: expected the same moments up to Monte-Carlo error, found {far:.1f} standard "
            "errors; the results of this installation are not to be trusted: run its tests with `make test`"
        )


def check_plain_numba(model: Model, features: np.ndarray, num_iter: int) -> None:
    """Raise FastUQError unless plain Numba computes what the int8 kernels compute under the same masks."""
    found = moments(model, features, num_iter=num_iter)
    expected = plain_numba_head(model.head_int8, features, num_iter)
    require_equal("plain Numba and int8 head", expected, (found.mean, found.std))
