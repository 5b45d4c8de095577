"""Int8 post-training quantization of a Keras network, and how far its features follow the float ones."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastuq.errors import ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.coding import Coding
from fastuq.training.tensorflow import silence, tensorflow

CALIBRATION_IMAGES = 500
MIN_CORRELATION = 0.9
_CHECK_IMAGES = 256
# What a network sees where the way of its pixels is wrong.
_MISREAD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "with red and blue exchanged": lambda pixels: pixels[..., ::-1],
    "made brighter": lambda pixels: pixels + 32,
    "made darker": lambda pixels: pixels - 32,
    "with more contrast": lambda pixels: (pixels - 128) * 1.5 + 128,
    "with less contrast": lambda pixels: (pixels - 128) / 1.5 + 128,
}
_MISREAD_IMAGES = 64
_NEARER = 0.95
"""Share of the error below which another reading of the pixels counts as nearer; right networks gave 1.8 and more."""


def calibration_images(images: Any, count: int = CALIBRATION_IMAGES, seed: int = 0) -> np.ndarray:
    """Draw images for calibration.

    The first two pixels of the first image are made black and white, so that the input's range is 0 to 255 exactly and
    raw uint8 pixels are the input codes.

    Parameters
    ----------
    images : array-like, (N, H, W, 3), uint8
        Training images.

    Returns
    -------
    ndarray, (min(N, count), H, W, 3), uint8
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:count])
    drawn = np.concatenate([images[int(row) : int(row) + 1] for row in rows])
    drawn[0, 0, 0], drawn[0, 0, 1] = 0, 255
    return drawn


def to_int8(network: Any, calibration: np.ndarray) -> bytes:
    """Convert a Keras network to an int8 TFLite file.

    Every weight, activation and operation is an integer (Jacob et al., CVPR 2018, arXiv:1712.05877); the input is
    uint8 images, the output int8 with one scale and zero point.

    Parameters
    ----------
    network : keras.Model
        (N, H, W, 3) float32, values 0 to 255 -> (N, D) float32.
    calibration : ndarray, (M, H, W, 3), uint8

    Raises
    ------
    ModelError
        The network has an operation without an integer form.
    """
    tf = tensorflow()

    def samples() -> Any:
        for image in calibration:
            yield [image[None].astype(np.float32)]

    return _quantized(
        network,
        representative_dataset=samples,
        target_spec=tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
        inference_input_type=tf.uint8,
        inference_output_type=tf.int8,
    )


def to_int8_by_image(network: Any) -> bytes:
    """Convert a Keras network whose outputs are codes, -127 to 127, to a TFLite file with int8 weights.

    Dense layers and convolutions round what they take by its range in the image at hand (LiteRT's dynamic-range
    quantization), the rest is float32. So images whose activations differ in size by orders of magnitude keep their
    digits each, which one range for all images denies to the smaller ones.

    Parameters
    ----------
    network : keras.Model
        (N, H, W, 3) float32, values 0 to 255 -> (N, D) float32; rounded and cut off, they are the output.

    Raises
    ------
    ModelError
        The converter refuses the network.
    """
    tf = tensorflow()

    def codes(images: Any) -> Any:
        outputs = network(tf.cast(images, tf.float32), training=False)
        return tf.cast(tf.clip_by_value(tf.round(outputs), -127, 127), tf.int8)

    return _quantized(network, codes, tf.uint8)


def coded(network: Any, coding: Coding) -> Any:
    """Return a network (images -> codes) of another's outputs, before the codes are rounded."""
    import keras

    scale = 1 / coding.scale.astype(np.float64)
    codes = keras.layers.Rescaling(scale.tolist(), (-coding.offset * scale).tolist(), name=f"{network.name}_codes")
    return keras.Model(network.input, codes(network.output))


def _quantized(
    network: Any, call: Callable[[Any], Any] | None = None, dtype: Any = "float32", **settings: Any
) -> bytes:
    """Convert a network, or a function of it, that takes images of a dtype, with settings of the converter."""
    with silence():
        try:
            converter = _converter(network, call, dtype)
            converter.optimizations = [tensorflow().lite.Optimize.DEFAULT]
            for name, value in settings.items():
                setattr(converter, name, value)
            return bytes(converter.convert())
        except Exception as error:  # The converter raises whatever its C++ side reports.
            reason = " ".join(str(error).split())[:300]
    raise ModelError(
        f"quantization: TensorFlow's converter refused the network ({reason}); some layer before the cut has no int8 "
        "form: a recurrent layer needs unroll=True, another one must be replaced"
    )


def float_size(network: Any) -> int:
    """Return the size of a Keras network as a float32 TFLite file, in bytes."""
    with silence():
        return len(_converter(network).convert())


def _converter(network: Any, call: Callable[[Any], Any] | None = None, dtype: Any = "float32") -> Any:
    tf = tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    _, *shape = network.input_shape
    # A Keras model called without training=False may normalise by the batch.
    call = call or (lambda x: network(x, training=False))
    function = tf.function(call, input_signature=[tf.TensorSpec([None, *shape], dtype)])
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


def predictor(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs a Keras network on uint8 images (N, H, W, 3) in inference mode: float32 (N, D)."""
    tf = tensorflow()
    function = tf.function(lambda x: network(x, training=False), reduce_retracing=True)

    def run(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), 64)
        return np.concatenate([function(images[s : s + 64].astype(np.float32)).numpy() for s in starts])

    return run


def check_backbone(network: Any, backbone: Backbone, images: np.ndarray, minimum: float = MIN_CORRELATION) -> float:
    """Compare what `backbone` gives for some images with the features of the float network.

    Features that differ in size correlate even where each of them is wrong. So they must also be nearer to the float
    features of the images as they are than of the images misread (channels, brightness, contrast). Errors of rounding
    do not lean to one of these; pixels that reach the input by a wrong scale or order do.

    Returns
    -------
    float
        Correlation of what sets an image apart, its features less the median image's: the median over the images. What
        all images share, and a few images with huge features, do not hide there what the others lost.

    Raises
    ------
    ModelError
        They correlate less than `minimum`, or the pixels do not reach the int8 network as the float one takes them:
        such a model must not be written.
    """
    images = images[:_CHECK_IMAGES]
    forward = predictor(network)
    exact = forward(images)
    real = (backbone(images).astype(np.float32) - backbone.zero_point) * np.float32(backbone.scale)
    varied = exact.std() > 0 and real.std() > 0
    correlation = float(np.corrcoef(exact.ravel(), real.ravel())[0, 1]) if varied else 0.0
    if not correlation >= minimum:
        raise ModelError(
            f"quantization: features of the int8 backbone correlate {correlation:.3f} with the float ones, expected at "
            f"least {minimum}; the weights do not survive int8 or the calibration images are foreign to them"
        )
    _check_reading(forward, images[:_MISREAD_IMAGES], real[:_MISREAD_IMAGES])
    return _typical_correlation(exact, real)


def _typical_correlation(exact: np.ndarray, real: np.ndarray) -> float:
    common = np.median(exact, axis=0)
    ours, theirs = (rows - common - (rows - common).mean(axis=1, keepdims=True) for rows in (real, exact))
    spread = np.sqrt(np.square(ours).sum(axis=1) * np.square(theirs).sum(axis=1))
    return float(np.median((ours * theirs).sum(axis=1) / np.where(spread > 0, spread, np.inf)))


def _check_reading(forward: Callable[[np.ndarray], np.ndarray], images: np.ndarray, real: np.ndarray) -> None:
    """Raise ModelError where features are nearer to the float ones of misread images than of the images."""
    pixels = images.astype(np.float32)
    error = np.square(real - forward(pixels)).sum()
    for change, misread in _MISREAD.items():
        if np.square(real - forward(misread(pixels))).sum() < _NEARER * error:
            raise ModelError(
                f"quantization: features of the int8 backbone are nearer to the float ones of images {change} than to "
                "those of the images themselves; its pixels go in by another scale or order than the float network's: "
                "let the network take RGB values 0 to 255, and do its own preprocessing first"
            )
