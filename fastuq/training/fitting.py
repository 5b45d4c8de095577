"""The training loop: batches from arrays that may be larger than memory, one checkpoint per epoch, resumable."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError
from fastuq.model.activations import activation_of
from fastuq.training.keras_heads import Layout, build_head
from fastuq.training.tensorflow import silence, tensorflow
from fastuq.training.work_folder import partial_of
from fastuq.util.checks import finite_number, whole_number
from fastuq.util.progress import progress_bar

MAX_LEARNING_RATE = 1000


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted.

    Attributes
    ----------
    epochs : int
    learning_rate : float
        The largest one.
    cosine : bool
        Warm up over 2% of the steps, then fall to zero along a cosine; otherwise constant.
    weight_decay : float
        Of AdamW; 0 is plain Adam.
    batch_size : int
    mixup : float
        Parameter of the Beta distribution by which inputs and targets of a batch are blended (Zhang et al., "mixup",
        ICLR 2018, arXiv:1710.09412); 0 is none.

    Raises
    ------
    InputError
        A value that nothing can be fitted with.
    """

    epochs: int
    learning_rate: float
    cosine: bool
    weight_decay: float
    batch_size: int
    mixup: float = 0.0

    def __post_init__(self) -> None:
        plain = {
            "epochs": whole_number("epochs", self.epochs, 1, 1_000_000),
            "learning_rate": finite_number("learning rate", self.learning_rate, 0, MAX_LEARNING_RATE, open_ends=True),
            "cosine": bool(self.cosine),
            "weight_decay": finite_number("weight decay", self.weight_decay, 0),
            "batch_size": whole_number("batch size", self.batch_size, 1, 1_000_000),
            "mixup": finite_number("mixup", self.mixup, 0),
        }
        for name, value in plain.items():  # NumPy's numbers would fail as JSON
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Samples:
    """What a model is fitted on.

    Attributes
    ----------
    views : sequence of array-like, each (N, ...)
        The same samples under several views (as they are, mirrored): each epoch draws one view per sample.
    labels : ndarray, (N,), int64
    num_classes : int
    scale, zero_point : float or ndarray, (D,)
        Of int8 features: real = scale * (value - zero_point).
    """

    views: Sequence[Any]
    labels: np.ndarray
    num_classes: int
    scale: float | np.ndarray = 1.0
    zero_point: float | np.ndarray = 0

    def batch(self, rows: np.ndarray, view_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 inputs and one-hot targets of some rows, each from its own view."""
        x = np.empty((len(rows), *self.views[0].shape[1:]), np.float32)
        for number, view in enumerate(self.views):
            chosen = view_of == number
            x[chosen] = view[rows[chosen]]
        x -= np.asarray(self.zero_point, np.float32)
        x *= np.asarray(self.scale, np.float32)
        return x, np.eye(self.num_classes, dtype=np.float32)[self.labels[rows]]


def fit(model: Any, samples: Samples, recipe: Recipe, *, seed: int, title: str, checkpoint: Path) -> None:
    """Fit a Keras classifier in place.

    Order, views, mixup and dropout masks of an epoch depend on the seed and the epoch's number alone, so a resumed run
    goes the way of an unbroken one.

    Parameters
    ----------
    model : keras.Model
        inputs -> class outputs after the activation.
    checkpoint : Path
        A ``.keras`` file, written after each epoch; when it is there, the run goes on from it.

    Raises
    ------
    InputError
        The loss is no longer a number, or the checkpoint is not of this model.
    """
    steps = -(-len(samples.labels) // recipe.batch_size)
    _compile(model, recipe, steps)
    if checkpoint.exists():
        _restore(model, checkpoint)
    done = int(model.optimizer.iterations.numpy()) // steps
    with progress_bar(recipe.epochs * steps, title, unit="step", initial=done * steps) as bar:
        for epoch in range(done, recipe.epochs):
            loss = _run_epoch(model, samples, recipe, seed, epoch, bar)
            if not np.isfinite(loss):
                raise InputError(
                    f"{title}: the loss became {loss} in epoch {epoch + 1}; "
                    f"lower the learning rate (now {recipe.learning_rate})"
                )
            bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.4f}")
            _save(model, checkpoint)


def fit_heads(layout: Layout, samples: Samples, recipe: Recipe, *, seed: int, count: int, folder: Path) -> list[Any]:
    """Return `count` heads (Keras models) fitted on the same features, each from a seed of its own, `seed` and on.

    Each has a checkpoint of its own in `folder`, whatever their number: more heads than last time go on from there.
    """
    heads = []
    for number in range(count):
        own = (seed + number) % 2**32
        heads.append(build_head(layout, samples.views[0].shape[1], seed=own))
        title, place = ("head", "head") if number == 0 else (f"head {number + 1}", f"head-{number + 1}")
        fit(heads[-1], samples, recipe, seed=own, title=title, checkpoint=folder / f"{place}.keras")
    return heads


def _compile(model: Any, recipe: Recipe, steps: int) -> None:
    tensorflow()
    import keras

    rate: Any = recipe.learning_rate
    if recipe.cosine:
        total = recipe.epochs * steps
        warm = max(1, total // 50)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100, max(1, total - warm), warmup_target=recipe.learning_rate, warmup_steps=warm
        )
    optimizer = (
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
        if recipe.weight_decay
        else keras.optimizers.Adam(rate)
    )
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    activation = model.layers[-1].activation.__name__
    loss = "categorical_crossentropy" if activation_of(activation).exclusive else "binary_crossentropy"
    model.compile(optimizer=optimizer, loss=loss)
    optimizer.build(model.trainable_variables)


def _run_epoch(model: Any, samples: Samples, recipe: Recipe, seed: int, epoch: int, bar: Any) -> float:
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(samples.labels))
    view_of = rng.integers(len(samples.views), size=len(order))
    dropouts = (layer for layer in model.layers if type(layer).__name__ == "Dropout" and layer.rate)
    for number, layer in enumerate(dropouts):
        layer.seed_generator.state.assign(np.array([(seed * 1009 + number) % 2**32, epoch], np.uint32))
    model.reset_metrics()
    loss = 0.0
    for start in range(0, len(order), recipe.batch_size):
        rows = order[start : start + recipe.batch_size]
        x, y = samples.batch(rows, view_of[rows])
        if recipe.mixup:
            share = np.float32(rng.beta(recipe.mixup, recipe.mixup))
            partner = rng.permutation(len(rows))
            x, y = share * x + (1 - share) * x[partner], share * y + (1 - share) * y[partner]
        loss = float(model.train_on_batch(x, y))
        bar.update()
    return loss


def _save(model: Any, checkpoint: Path) -> None:
    partial = partial_of(checkpoint)
    with silence():
        model.save(partial)
    os.replace(partial, checkpoint)


def _restore(model: Any, checkpoint: Path) -> None:
    """Put the weights and the optimizer's state of a checkpoint into a compiled model."""
    import keras

    try:
        with silence():
            saved = keras.models.load_model(checkpoint)
        model.set_weights(saved.get_weights())
        for variable, value in zip(model.optimizer.variables, saved.optimizer.variables, strict=True):
            variable.assign(value)
    except Exception as error:  # What a foreign archive makes Keras raise is not one kind.
        raise InputError(
            f"checkpoint {checkpoint}: expected one written by this run of `fastuq train`, found something "
            f"else; delete it to start again ({' '.join(str(error).split())[:120]})"
        ) from error
