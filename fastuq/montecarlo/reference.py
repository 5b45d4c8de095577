"""The naive loop that fastuq replaces: for each sample and each iteration the whole network again, in plain NumPy.

It shares no code with the kernels, so it is their oracle, and it is the honest 'before' of the benchmark.
"""

from typing import Any, Protocol

import numpy as np

from fastuq.model.head import Head
from fastuq.model.int8_head import QuantizedHead
from fastuq.model.model import Model
from fastuq.montecarlo.masks import check_sample_ids, head_seed, keep_bits
from fastuq.montecarlo.sampling import Sampling


class Network(Protocol):
    """What turns images (N, H, W, 3) uint8 into features (N, D) int8: `fastuq.model.backbone.Backbone`."""

    def __call__(self, images: np.ndarray) -> np.ndarray: ...  # noqa: D102


def naive_moments(
    model: Model,
    backbone: Network,
    images: np.ndarray,
    *,
    sample_ids: np.ndarray | None = None,
    **sampling: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (ddof 0) per class, running the backbone in every iteration.

    Of a model of several heads, over the iterations of all of them.

    Parameters
    ----------
    model : Model
    backbone : callable
        ``Backbone(model.backbone_path)``.
    images : ndarray, (N, H, W, 3), uint8
    sample_ids, **sampling
        As in `fastuq.montecarlo.engine.moments`.

    Returns
    -------
    mean, std : ndarray, (N, C), float32
    """
    chosen = Sampling(**sampling)
    ids = check_sample_ids(sample_ids, len(images))
    means, stds = [], []
    for image, sample in zip(images, ids, strict=True):
        outputs = []
        for number, one in enumerate(model.members):
            seed = head_seed(chosen.seed, number)
            for iteration in range(chosen.num_iter):
                features = backbone(image[None])
                sample_or_0 = int(sample) if chosen.masks == "per_sample" else 0
                outputs.append(one_iteration(one, features, seed, iteration, sample_or_0, chosen.precision))
        stack = np.stack(outputs).astype(np.float64)
        means.append(stack.mean(axis=0))
        stds.append(stack.std(axis=0))
    return np.array(means, np.float32), np.array(stds, np.float32)


def one_iteration(
    model: Model, features: np.ndarray, seed: int, iteration: int, sample: int, precision: str
) -> np.ndarray:
    """Return the head's output (C,) float32 for features (1, D) int8 under the masks of one iteration."""
    head: Head | QuantizedHead = model.head_int8 if precision == "int8" else model.head
    bits = [
        keep_bits(seed, layer, np.array([iteration]), sample, width, rate)
        for layer, (width, rate) in enumerate(zip(head.widths, head.rates, strict=True))
    ]
    if isinstance(head, QuantizedHead):
        return head.forward(features, bits)[0]
    return head.forward(model.dequantize(features), bits)[0]
