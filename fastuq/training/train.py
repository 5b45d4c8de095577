"""From training images to a model folder: fine-tune, quantize, fit the head on the quantized features, save."""

import contextlib
import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets import ImageSet
from fastuq.errors import InputError, ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.coding import Coding
from fastuq.model.description import check_names
from fastuq.model.folder import MAX_HEADS, check_replaceable
from fastuq.model.model import Model
from fastuq.training.finish_model import finish_model
from fastuq.training.fitting import Recipe, Samples, fit, fit_heads
from fastuq.training.keras_heads import Layout, attach, build_head, head_from_model, parse_layout
from fastuq.training.networks import IMAGE_SIZES, build_backbone, image_size_for, split_backbone, weights_sha256
from fastuq.training.tensorflow import silence, tensorflow
from fastuq.training.tflite import calibration_images, check_backbone, coded, predictor, to_int8, to_int8_by_image
from fastuq.training.work_folder import kept_array, kept_bytes, open_work
from fastuq.util.checks import checked_path, checked_seed, whole_number
from fastuq.util.defaults import NETWORK, PAPER_HEAD, WEIGHTS
from fastuq.util.npy import NpyArray

# The paper's own recipe (arXiv 2403.01076): 10 epochs, Adam, learning rate 0.01, binary cross-entropy.
PAPER = Recipe(epochs=10, learning_rate=0.01, cosine=False, weight_decay=0.0, batch_size=128)
DEFAULT = Recipe(epochs=30, learning_rate=2e-3, cosine=True, weight_decay=0.05, batch_size=256)
TUNE = Recipe(epochs=8, learning_rate=5e-4, cosine=True, weight_decay=0.02, batch_size=128, mixup=0.2)
PRESETS = {"default": (DEFAULT, TUNE), "paper": (PAPER, PAPER)}
PROBE_EPOCHS = 5
_ENOUGH = 0.9
"""Correlation of what sets images apart, int8 against float, from which on one range of activations serves all."""


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes
    ----------
    network, weights : str
        As `build_backbone` takes them.
    network_size : int, optional
        Height and width that the network resizes images to, 32 to 1024; default: as `build_backbone` has it.
    head : str
        Layout of the head, as `parse_layout` takes it.
    unfreeze : int
        Blocks at the end of the backbone that are fine-tuned in float before quantization; 0 freezes all of it.
    recipe, tune : Recipe
        For the head, and for the fine-tuning.
    mirror : bool
        Also train on every image mirrored left to right.
    seed : int
        Of everything random, 0 to 2^32 - 1.
    heads : int
        Heads that are fitted on the same features, each from a seed of its own, and scored as one model.

    Raises
    ------
    InputError
        A value out of range.
    """

    network: str = NETWORK
    weights: str = WEIGHTS
    network_size: int | None = None
    head: str = PAPER_HEAD
    unfreeze: int = 0
    recipe: Recipe = DEFAULT
    tune: Recipe = TUNE
    mirror: bool = False
    seed: int = 0
    heads: int = 1

    def __post_init__(self) -> None:
        # Plain numbers: NumPy's would fail as JSON.
        object.__setattr__(self, "seed", checked_seed(self.seed, 2**32 - 1))
        object.__setattr__(self, "unfreeze", whole_number("unfreeze", self.unfreeze, 0, 1000))
        object.__setattr__(self, "mirror", bool(self.mirror))
        object.__setattr__(self, "heads", whole_number("heads", self.heads, 1, MAX_HEADS))
        if self.network_size is not None:
            object.__setattr__(self, "network_size", whole_number("network size", self.network_size, *IMAGE_SIZES))


def train(
    plan: Plan,
    images: ImageSet,
    test: ImageSet | None,
    output: str | Path,
    *,
    work: str | Path,
    keep_full: bool = True,
    threads: int | None = None,
) -> Model:
    """Train and quantize a classifier and write its model folder.

    Parameters
    ----------
    plan : Plan
    images : ImageSet
        Training images with labels; the calibration images come from them too.
    test : ImageSet or None
        Images to report the accuracy on; nothing is chosen by them.
    output : str or Path
        The model folder.
    work : str or Path
        Folder of activations, features and checkpoints; a run that was cut off goes on from there.
    keep_full : bool
        Also write ``full.tflite``, backbone and head in one file, which fastuq reads for its benchmark alone.
    threads : int, optional

    Raises
    ------
    InputError
        Images without labels or of a wrong shape, a plan that does not fit, `work` of another run, `output` that holds
        something else.
    ModelError
        The quantized backbone does not follow the float one.
    """
    check_replaceable(checked_path(output))
    labels, names = _labelled(images)
    check_names(plan.network, names)
    crop = None if images.prepared is None else images.prepared["crop"]
    test = None if test is None else _matched(test, names, crop)
    layout = trainable_layout(plan.head, len(names))
    shape, size = tuple(images.images.shape[1:]), plan.network_size
    backbone = build_backbone(plan.network, weights=plan.weights, input_shape=shape, image_size=size, seed=plan.seed)
    parts = split_backbone(backbone, plan.network, plan.unfreeze) if plan.unfreeze else None
    # All that can be refused is by now: a refused option leaves no work folder that refuses the right one. A run may go
    # on with more heads, and with the same weights from another place.
    plain = {name: value for name, value in asdict(plan).items() if name not in ("heads", "weights")}
    run = {"plan": plain, "weights of the backbone": weights_sha256(backbone), "images": images.fingerprint()}
    folder = open_work(checked_path(work), run)
    width = backbone.output_shape[-1]
    if parts:
        _tune(plan, *parts, build_head(layout, width, seed=plan.seed), images, folder)
    calibration = calibration_images(images.images, seed=plan.seed)
    coding, data, runner = _int8(backbone, calibration, folder, threads)
    features = [_features(runner, data, images, folder, view, "train") for view in range(1 + plan.mirror)]
    samples = Samples(features, labels, len(names), *_scale_of(runner, coding))
    tops = fit_heads(layout, samples, plan.recipe, seed=plan.seed, count=plan.heads, folder=folder)
    _save_network(backbone, tops[0], plan.network, folder / "network.keras")
    heads = [head_from_model(top) for top in tops]
    return finish_model(
        output,
        plan.network,
        backbone if coding is None else coded(backbone, coding),
        data,
        heads if coding is None else [head.after(coding.scale, coding.offset) for head in heads],
        class_names=names,
        calibration=calibration,
        features=features[0][:],
        test=test,
        made=_made(plan, images),
        crop=crop,
        by_image=coding is not None,
        keep_full=keep_full,
        threads=threads,
    )


def _int8(
    backbone: Any, calibration: np.ndarray, folder: Path, threads: int | None
) -> tuple[Coding | None, bytes, Backbone]:
    """Quantize a backbone with one range for all images, or, where its features do not survive that, of each image.

    Returns
    -------
    coding : Coding or None
        What the outputs are codes in, where the ranges are those of each image.
    data : bytes
    runner : Backbone
        Of `data`.
    """
    data = kept_bytes(folder / "backbone.tflite", lambda: to_int8(backbone, calibration))
    runner = Backbone(data, threads=threads)
    with contextlib.suppress(ModelError):
        if check_backbone(backbone, runner, calibration) >= _ENOUGH:
            return None, data, runner
    coding = Coding.spanning(predictor(backbone)(calibration))
    codes = coded(backbone, coding)
    data = kept_bytes(folder / "backbone-by-image.tflite", lambda: to_int8_by_image(codes))
    runner = Backbone(data, threads=threads)
    check_backbone(codes, runner, calibration)
    return coding, data, runner


def _scale_of(runner: Backbone, coding: Coding | None) -> tuple[Any, Any]:
    """Return scale and zero point of features: of all alike, or of each dimension."""
    if coding is None:
        return runner.scale, runner.zero_point
    return coding.scale, -coding.offset / coding.scale


def _matched(test: ImageSet, names: tuple[str, ...], crop: float | None) -> ImageSet:
    test.check_crop(crop)
    return test.matched_to(names)


def _made(plan: Plan, images: ImageSet) -> dict[str, Any]:
    size = image_size_for(plan.network, plan.weights, plan.network_size)
    seen = {"training_images": images.name, "training_fingerprint": images.fingerprint()}
    return {**asdict(plan), "network_size": size, **seen}


def _labelled(images: ImageSet) -> tuple[np.ndarray, tuple[str, ...]]:
    if images.labels is None or images.class_names is None:
        raise InputError(f"{images.name}: training needs labels and class names; give a data set that has them")
    return images.labels, images.class_names


def trainable_layout(head: str, num_classes: int) -> Layout:
    """Read the layout of a head that can be fitted; raises InputError where its last block is no probability."""
    layout = parse_layout(head, num_classes)
    if layout.blocks[-1][2] not in ("sigmoid", "softmax"):
        raise InputError(f"head {head}: expected sigmoid or softmax in the last block, which training needs")
    return layout


def _view(images: np.ndarray, view: int) -> np.ndarray:
    """Return images (N, H, W, 3) as they are (view 0) or mirrored left to right (view 1)."""
    return images[:, :, ::-1] if view else images


def _features(runner: Backbone, data: bytes, images: ImageSet, folder: Path, view: int, split: str) -> NpyArray:
    digest = hashlib.sha256(data).hexdigest()[:12]
    return kept_array(
        folder / f"features-{split}-{view}-{digest}.npy",
        (len(images), runner.output_shape[-1]),
        np.int8,
        lambda start, stop: runner(np.ascontiguousarray(_view(images.read(start, stop), view))),
        "features",
    )


def _tune(plan: Plan, body: Any, tail: Any, head: Any, images: ImageSet, folder: Path) -> None:
    """Fine-tune the `tail` of a backbone in place, with a head, on activations of its `body` computed once.

    BatchNorm stays in inference mode: its statistics are ImageNet's, over many more images than a batch.
    """
    tf = tensorflow()
    import keras

    labels, names = _labelled(images)
    forward = tf.function(lambda x: tf.cast(body(x, training=False), tf.float16), reduce_retracing=True)
    shape, cut = (len(images), *body.output_shape[1:]), body.layers[-1].name

    def activations(view: int) -> NpyArray:
        def rows(start: int, stop: int) -> np.ndarray:
            return forward(_view(images.read(start, stop), view).astype(np.float32)).numpy()

        return kept_array(folder / f"activations-{cut}-{view}.npy", shape, np.float16, rows, "activations")

    views = [activations(view) for view in range(1 + plan.mirror)]
    _probe(plan, tail, head, Samples(views[:1], labels, len(names)), folder)
    for layer in tail.layers:
        layer.trainable = type(layer).__name__ != "BatchNormalization"
    network = keras.Model(tail.input, attach(head, tail.output))
    samples = Samples(views, labels, len(names))
    fit(network, samples, plan.tune, seed=plan.seed, title="fine-tuning", checkpoint=folder / "tuned.keras")


def _save_network(backbone: Any, head: Any, name: str, file: Path) -> None:
    """Keep the float network, with the first head, which `fastuq quantize` can take up."""
    import keras

    with silence():
        keras.Model(backbone.input, attach(head, backbone.output), name=name).save(file)


def _probe(plan: Plan, tail: Any, head: Any, samples: Samples, folder: Path) -> None:
    """Fit the head on the features of the pretrained tail, before both are tuned together.

    A random head would send the tail large gradients that wreck its features (Kumar et al., "Fine-tuning can distort
    pretrained features", ICLR 2022, arXiv:2202.10054).
    """
    tf = tensorflow()
    forward = tf.function(lambda x: tail(x, training=False), reduce_retracing=True)
    view = samples.views[0]

    def rows(start: int, stop: int) -> np.ndarray:
        return forward(view[start:stop].astype(np.float32)).numpy()

    features = kept_array(
        folder / "float-features.npy", (len(view), tail.output_shape[-1]), np.float32, rows, "features"
    )
    recipe = replace(DEFAULT, epochs=min(PROBE_EPOCHS, plan.recipe.epochs))
    pooled = replace(samples, views=[np.asarray(features)])
    fit(head, pooled, recipe, seed=plan.seed, title="head", checkpoint=folder / "probe.keras")


def overridden(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe with every change that is not None."""
    return replace(recipe, **{key: value for key, value in changes.items() if value is not None})
