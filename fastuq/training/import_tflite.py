"""`fastuq import FILE.tflite`: an int8 TFLite classifier becomes a model folder, without TensorFlow."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.datasets import ImageSet, open_images
from fastuq.errors import InputError, ModelError
from fastuq.model.activations import activation_of
from fastuq.model.backbone import Backbone
from fastuq.model.description import check_names
from fastuq.model.folder import check_replaceable
from fastuq.model.head import Head
from fastuq.model.head_file import load_head
from fastuq.model.int8_head import QuantizedHead
from fastuq.model.model import Model, save_model
from fastuq.model.tflite_dense import DenseLayer, dense_layers, two_classes
from fastuq.model.tflite_graph import Graph
from fastuq.model.tflite_heads import Heads, heads_of, reaches_between
from fastuq.model.tflite_schema import read_file
from fastuq.training.class_names import classes_of, names_of, said_of
from fastuq.training.head_check import check_head, drawn_masks
from fastuq.training.head_rounding import CALIBRATION_SAMPLES, FEW_ROWS, calibration_rows, quantize_head
from fastuq.training.tflite_check import accuracy_of, check_plain_pass
from fastuq.util.checks import checked_path, finite_number

_CHECK_IMAGES = 256
_NOISE_IMAGES = 32
FINAL = ("softmax", "sigmoid")
Images = ImageSet | str | Path | None


def import_tflite(
    path: str | Path,
    output: str | Path,
    *,
    dropout: Sequence[float] | None = None,
    cut: str | None = None,
    head: str | Path | Head | None = None,
    class_names: Sequence[str] | None = None,
    activation: str | None = None,
    images: Images = None,
    crop: float | None = None,
    threads: int | None = None,
) -> Model:
    """Cut an int8 TFLite classifier at its last dense layers and write the model folder.

    The dense layers' int8 weights, scales and biases become the head as they are; the operations before them are the
    backbone, and give the same bits as in the whole file. Without images, the head is checked on noise.

    Parameters
    ----------
    path : str or Path
        A `.tflite` file with int8 or uint8 activations.
    output : str or Path
        The model folder.
    dropout : sequence of float, optional
        The rate before each of the last dense layers: one rate makes the last layer the head, two the last two.
    cut : str, optional
        The tensor after which `head` follows, by name.
    head : str, Path or Head, optional
        A head in place of the file's own layers; needs `cut` and `images`.
    class_names : sequence of str, optional
        Default: those of the images where they are as many as the classes, else ``class_0`` and so on. The classes of
        the images are matched with them by name; where none is known and all are numbers, by number.
    activation : {'softmax', 'sigmoid'}, optional
        What follows logits, for a file that ends in them.
    images : ImageSet, str or Path, optional
        Training images, or what `fastuq.open_images` takes: they show how far the features reach. With labels, the
        accuracy is reported. Pictures of a folder are resized to what the file takes.
    crop : float, optional
        What of a picture the model is to see, see `Model`.

    Raises
    ------
    InputError
        The file is missing, an argument does not fit the file, or `output` holds something else.
    ModelError
        The file is damaged, has no int8 dense layers at its end, or is no classifier of 8-bit images.

    Examples
    --------
    >>> import fastuq
    >>> bundled = fastuq.load_model()
    >>> model = fastuq.import_tflite(bundled.full_path, "again", dropout=[0.2, 0.4], class_names=bundled.class_names)
    >>> model.head.widths, model.head.rates, model.info["made"]["report"]["same_class"] > 0.9
    ((1280, 300), (0.2, 0.4), True)
    """
    source, target = checked_path(path), checked_path(output)
    check_replaceable(target)
    graph = Graph(content := read_file(source), str(source))
    made = {"imported_from": source.name, "sha256": hashlib.sha256(content).hexdigest()}
    graph.image()  # a float model is refused as such
    if (head is None) != (cut is None):
        raise InputError("import: --cut TENSOR and --head HEAD.npz go together: the head follows the tensor")
    if head is not None:
        return _with_head(graph, target, str(cut), head, class_names, images, made, crop, threads)
    return _with_own_layers(graph, target, dropout, class_names, activation, images, made, crop, threads)


def _with_head(
    graph: Graph,
    target: Path,
    cut: str,
    given: str | Path | Head,
    class_names: Sequence[str] | None,
    images: Images,
    made: dict[str, Any],
    crop: float | None,
    threads: int | None,
) -> Model:
    """Put a head of the user's on a tensor; its int8 form needs features of images."""
    head = given if isinstance(given, Head) else load_head(given)
    if images is None:
        raise InputError("import: a head of your own is rounded to int8 by the features of images: give --data IMAGES")
    data = graph.cut(graph.find(cut))
    backbone = Backbone(data, threads=threads)
    if backbone.output_shape != (head.num_features,):
        raise ModelError(
            f"{graph.name}: tensor {cut!r} has {backbone.output_shape[0]} features, the head takes "
            f"{head.num_features}; cut at another tensor, or give the head that was trained on this one"
        )
    opened = _opened(images, backbone, crop)
    names, shown = classes_of(opened, class_names, head.num_classes)
    features = backbone(_drawn(shown, CALIBRATION_SAMPLES))
    head_int8 = quantize_head(head, features, backbone.scale, backbone.zero_point)
    report = {"head_int8": check_head(head, head_int8, features, backbone.scale, backbone.zero_point)}
    made |= {"cut": cut, "training_images": shown.name, "report": report, **said_of(shown, opened)}
    return _saved(target, graph, backbone, data, None, head, head_int8, names, made, crop)


def _with_own_layers(
    graph: Graph,
    target: Path,
    dropout: Sequence[float] | None,
    class_names: Sequence[str] | None,
    activation: str | None,
    images: Images,
    made: dict[str, Any],
    crop: float | None,
    threads: int | None,
) -> Model:
    """Make the dense layers at the end the head, and check that it gives what the file gives."""
    layers = dense_layers(graph)
    rates = _rates(graph, layers, dropout)
    layers = _ended(graph, layers[-len(rates) :], activation)
    data, full = graph.cut(layers[0].source), graph.cut(graph.codes_of(graph.output))
    backbone = Backbone(data, threads=threads)
    count = layers[-1].weights.shape[1]
    known, said, names = None, dict[str, str](), names_of(class_names, count)
    if images is not None:
        opened = _opened(images, backbone, crop)
        names, known = classes_of(opened, class_names, count)
        said = said_of(known, opened)
    shown = _noise(backbone) if known is None else _drawn(known, _CHECK_IMAGES)
    features = backbone(shown)
    heads = _calibrated(layers, rates, features, trusted=known is not None)
    report = check_plain_pass(graph, layers, heads.head, features, Backbone(graph.cut(layers[-1].result))(shown))
    report |= {"input_step": heads.input_step, "rounded_outputs": heads.rounded_outputs}
    report["head_int8"] = check_head(heads.head, heads.head_int8, features, backbone.scale, backbone.zero_point)
    if known is not None and known.labels is not None:
        report |= accuracy_of(known, backbone, heads.head, Backbone(full, threads=threads))
    made |= {
        "cut": graph.tensor_name(layers[0].source),
        "checked_on": "noise" if known is None else known.name,
        "report": report,
        **said,
    }
    return _saved(target, graph, backbone, data, full, heads.head, heads.head_int8, names, made, crop)


def _calibrated(layers: Sequence[DenseLayer], rates: Sequence[float], features: np.ndarray, *, trusted: bool) -> Heads:
    """Return the heads, the int8 one with codes that reach as far as features and dropout do.

    Of noise (not `trusted`), and of few images, features show no more than how much farther dropout reaches.
    """
    taken = layers[0].taken
    enough = trusted and len(features) >= FEW_ROWS
    reach = int(np.abs(features.astype(int) - taken.zero_point).max()) if enough else None
    heads = heads_of(layers, rates, reach)
    if len(layers) == 1:
        return heads
    rng = np.random.default_rng(0)
    some = features[calibration_rows(rng, len(features), max(heads.head.widths))]
    real = np.float32(taken.scale) * (some.astype(np.float32) - np.float32(taken.zero_point))
    plain = reaches_between(layers, heads.head, real, None)
    dropped = reaches_between(layers, heads.head, real, drawn_masks(rng, heads.head, len(some)))
    wider = [max(1, with_dropout / max(without, 1e-9)) for with_dropout, without in zip(dropped, plain, strict=True)]
    if enough:
        wider = [max(pair) for pair in zip(wider, dropped, strict=True)]
    return heads_of(layers, rates, reach, wider)


def _saved(
    target: Path,
    graph: Graph,
    backbone: Backbone,
    data: bytes,
    full: bytes | None,
    head: Head,
    head_int8: QuantizedHead,
    class_names: tuple[str, ...],
    made: dict[str, Any],
    crop: float | None,
) -> Model:
    network = Path(graph.name).stem
    check_names(network, class_names)
    return save_model(
        target,
        network=network,
        backbone=data,
        full=full,
        head=head,
        head_int8=head_int8,
        class_names=class_names,
        input_shape=backbone.input_shape,
        feature_scale=backbone.scale,
        feature_zero_point=backbone.zero_point,
        info=made,
        crop=crop,
    )


def _rates(graph: Graph, layers: Sequence[DenseLayer], dropout: Sequence[float] | None) -> list[float]:
    """Return the dropout rates of the last layers, at most as many as there are."""
    if not dropout:
        raise InputError(
            f"{graph.name}: a .tflite holds no dropout, and without it all iterations are alike; say at which rate "
            f"inputs of its last dense layers are dropped, as in --dropout 0.2 (there are {len(layers)}: one rate for "
            "each of the last ones)"
        )
    if len(dropout) > len(layers):
        raise InputError(
            f"{graph.name}: expected at most {len(layers)} dropout rates, one for each dense layer at its end, found "
            f"{len(dropout)}; a layer further up belongs to the backbone"
        )
    return [finite_number("dropout rate", rate, 0, 0.9) for rate in dropout]


def _ended(graph: Graph, layers: list[DenseLayer], activation: str | None) -> list[DenseLayer]:
    """Return the layers with a last activation whose outputs can be judged, and at least two classes."""
    last = layers[-1]
    if last.activation in FINAL:
        if activation not in (None, last.activation):
            raise InputError(f"{graph.name}: ends in {last.activation}, not in logits that --activation could follow")
    elif activation is None:
        raise InputError(
            f"{graph.name}: ends in {last.activation} outputs, logits that no threshold fits; say what they are for "
            "with --activation softmax (one class of several) or --activation sigmoid (each class by itself)"
        )
    else:
        last = replace(last, activation=activation)
    if last.weights.shape[1] == 1:
        if last.activation == "softmax":
            raise InputError(f"{graph.name}: the softmax of one output is always 1; give --activation sigmoid")
        last = two_classes(last)
    activation_of(last.activation)
    return [*layers[:-1], last]


def _noise(backbone: Backbone) -> np.ndarray:
    shape = (_NOISE_IMAGES, *backbone.input_shape)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _opened(images: ImageSet | str | Path, backbone: Backbone, crop: float | None) -> ImageSet:
    """Return images that the backbone takes; pictures of a folder are made so large."""
    expected = backbone.input_shape
    opened = images if isinstance(images, ImageSet) else open_images(images, crop=crop)
    opened.check_crop(crop)
    opened = opened.resized(expected[:2])
    if (found := tuple(opened.images.shape[1:])) != expected:
        raise InputError(f"{opened.name}: the network takes images {expected}, found {found}; resize them")
    return opened


def _drawn(images: ImageSet, count: int) -> np.ndarray:
    """Return at most `count` images, the same ones every time."""
    rows = np.sort(np.random.default_rng(0).permutation(len(images))[:count])
    return np.concatenate([images.images[int(row) : int(row) + 1] for row in rows])
