"""A head against the Keras layers it was read from: the same outputs, and the same moments under dropout."""

from typing import Any

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of
from fastuq.model.head import Head
from fastuq.training.cut import Cut
from fastuq.training.keras_steps import is_random
from fastuq.training.tensorflow import tensorflow

IMAGES, ITERATIONS = 32, 512
_AT_ONCE = 64 * 2**20
"""Bytes of inputs that run at once."""
_PLAIN = 2e-3
_MEANS = 5.0
"""Squared differences of the means, in units of what chance gives: 1 on average, hardly ever 3."""
_SPREAD = 5.0
"""Difference of the variances in its own standard errors over the images."""
_TOO_LITTLE = 0.02
"""Relative difference of the variances that is let pass."""


def check_against_keras(
    image: Any, cut: Cut, head: Head, images: np.ndarray, activation: str | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Compare a float head with Keras's own layers on some images.

    BatchNorm is frozen and the dropouts of the head are active; both sides draw masks of their own, so that means and
    standard deviations agree as far as so many iterations can tell.

    Parameters
    ----------
    image : keras.KerasTensor
        Input of the network.
    images : ndarray, (N, H, W, 3), uint8
    activation : str, optional
        What the head does to the network's logits.

    Returns
    -------
    dict
        Images, iterations, and the largest difference of means and of standard deviations.

    Raises
    ------
    ModelError
        They do not agree.
    """
    tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    both = keras.Model(image, [cut.source, cut.features])
    source, features = (np.asarray(x) for x in both(images[:IMAGES].astype(np.float32), training=False))
    plain = np.abs(head.forward(features) - _ended(_Tail(cut)(source, False), head, activation)).max()
    if not plain <= _PLAIN:
        raise ModelError(
            f"check against Keras: without dropout, outputs of the head differ from the network's by {plain:.3g}; "
            f"the layers {', '.join(call.name for call in cut.tail)} were misread: cut later with --cut"
        )
    if not cut.rates:
        return {"images": len(source), "iterations": 0, "plain_difference": float(plain)}
    theirs = _moments(lambda rows: _ended(_Tail(cut)(rows, True), head, activation), source)
    ours = _moments(lambda rows: head.forward(rows, _masks(head, len(rows), rng)), features)
    _compare(ours, theirs, cut)
    return {
        "images": len(source),
        "iterations": ITERATIONS,
        "plain_difference": float(plain),
        "mean_difference": float(np.abs(ours[0] - theirs[0]).max()),
        "std_difference": float(np.abs(np.sqrt(ours[1]) - np.sqrt(theirs[1])).max()),
    }


class _Tail:
    """The layers after the cut, one after the other."""

    def __init__(self, cut: Cut) -> None:
        self._calls, self._rates = cut.tail, cut.rates

    def __call__(self, x: Any, active: bool) -> np.ndarray:
        """Return the outputs for `x`, with dropout where it is active."""
        import keras

        for call in self._calls:
            added = self._rates.get(f"dropout before {call.name}", 0.0)
            if active and added:
                x = keras.layers.Dropout(added)(x, training=True)
            if is_random(call):
                x = call.layer(x, training=active and call.name in self._rates)
            else:
                x = (
                    call.layer(x, training=False)
                    if isinstance(call.layer, keras.layers.BatchNormalization)
                    else call.layer(x)
                )
        return np.asarray(x).reshape(len(x), -1)


def _ended(outputs: np.ndarray, head: Head, activation: str | None) -> np.ndarray:
    """Return a network's own outputs as `fastuq.model.folding.as_classifier` has them."""
    if activation is not None:
        outputs = activation_of(activation).forward(outputs)
    return outputs if outputs.shape[1] == head.num_classes else np.concatenate([1 - outputs, outputs], axis=1)


def _masks(head: Head, rows: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.random((rows, width), np.float32) >= rate for width, rate in zip(head.widths, head.rates, strict=True)]


def _moments(run: Any, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (N, C) of the outputs over the iterations."""
    at_once = max(1, min(ITERATIONS, _AT_ONCE // inputs.nbytes))
    total: Any = 0.0
    squares: Any = 0.0
    for start in range(0, ITERATIONS, at_once):
        count = min(at_once, ITERATIONS - start)
        outputs = run(np.repeat(inputs, count, axis=0)).reshape(len(inputs), count, -1).astype(np.float64)
        total, squares = total + outputs.sum(axis=1), squares + np.square(outputs).sum(axis=1)
    mean = total / ITERATIONS
    return mean, np.maximum(squares / ITERATIONS - mean * mean, 0)


def _compare(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray], cut: Cut) -> None:
    """Raise ModelError where means or variances differ by more than chance."""
    (mean, variance), (their_mean, their_variance) = ours, theirs
    chance = (variance + their_variance).sum() / ITERATIONS + 1e-8 * mean.size
    means = float(np.square(mean - their_mean).sum() / chance)
    spread, their_spread = variance.sum(axis=1), their_variance.sum(axis=1)
    gap = spread - their_spread
    relative = float(abs(gap.sum()) / (their_spread.sum() + 1e-12))
    error = float(gap.std() / np.sqrt(len(gap))) + 1e-12
    if means > _MEANS or (relative > _TOO_LITTLE and abs(float(gap.mean())) > _SPREAD * error):
        raise ModelError(
            f"check against Keras: moments of the head are not those of Keras's dropout (squared difference of the "
            f"means {means:.2g} times what chance gives, variance {relative:.1%} off); the dropouts "
            f"{', '.join(cut.rates)} were misread: cut elsewhere with --cut, or name the rates with --dropout"
        )
