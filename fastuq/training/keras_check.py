"""A head against the Keras layers it was read from: the same outputs, and the same moments under dropout."""

from typing import Any

import numpy as np
from scipy.stats import chi2, t

from fastuq.errors import ModelError
from fastuq.model.activations import activation_of
from fastuq.model.head import Head
from fastuq.training.cut import Cut
from fastuq.training.keras_steps import is_random
from fastuq.training.tensorflow import tensorflow
from fastuq.training.tflite import predictor

IMAGES, ITERATIONS = 32, 512
_GROUP = 32
"""Iterations whose variance is taken together: how it differs from group to group says what chance does."""
_AT_ONCE = 64 * 2**20
"""Bytes of inputs that run at once."""
_PLAIN = 2e-3
_RARE = 1e-7
"""Probability of a false alarm."""
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
    source = features = predictor(keras.Model(image, cut.source))(images[:IMAGES])
    if cut.features is not cut.source:
        features = predictor(keras.Model(cut.source, cut.features))(source)
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
        "mean_difference": float(np.abs(ours[0].mean(axis=0) - theirs[0].mean(axis=0)).max()),
        "std_difference": float(np.abs(_deviation(*ours) - _deviation(*theirs)).max()),
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
    """Return mean and variance (groups, N, C) of the outputs over each group of iterations."""
    at_once = max(1, min(_GROUP, _AT_ONCE // inputs.nbytes))
    means, variances = [], []
    for _ in range(ITERATIONS // _GROUP):
        counts = [min(at_once, _GROUP - start) for start in range(0, _GROUP, at_once)]
        parts = [run(np.repeat(inputs, count, axis=0)).reshape(len(inputs), count, -1) for count in counts]
        outputs = np.concatenate(parts, axis=1).astype(np.float64)
        means.append(outputs.mean(axis=1))
        variances.append(outputs.var(axis=1))
    return np.stack(means), np.stack(variances)


def _deviation(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the standard deviation (N, C) over all iterations."""
    return np.sqrt(variances.mean(axis=0) + means.var(axis=0))


def _compare(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray], cut: Cut) -> None:
    """Raise ModelError where means or variances differ by more than chance."""
    (mean, variance), (their_mean, their_variance) = ours, theirs
    spread, their_spread = variance.sum(axis=2), their_variance.sum(axis=2)
    chance = (spread + their_spread).mean(axis=0) / ITERATIONS + 1e-8  # of the squared difference, by image
    means = float(np.square(mean.mean(axis=0) - their_mean.mean(axis=0)).sum() / chance.sum())
    images = float(chance.sum() ** 2 / np.square(chance).sum())  # that count
    gap = (spread - their_spread).ravel()
    relative = float(abs(gap.sum()) / (their_spread.sum() + 1e-12))
    error = float(gap.std(ddof=1) / np.sqrt(len(gap))) + 1e-12
    too_far = means > chi2.isf(_RARE, images) / images
    too_wide = relative > _TOO_LITTLE and abs(gap.mean()) > t.isf(_RARE, len(gap) - 1) * error
    if too_far or too_wide:
        raise ModelError(
            f"check against Keras: moments of the head are not those of Keras's dropout (squared difference of the "
            f"means {means:.2g} times what chance gives, variance {relative:.1%} off); the dropouts "
            f"{', '.join(cut.rates)} were misread: cut elsewhere with --cut, or name the rates with --dropout"
        )
