"""Small int8 TFLite classifiers for the tests, made by TensorFlow's converter: `python tests/golden/make_tflite.py`.

Their weights are random: what is tested is that their own integers become the head. One file for each kind of end.
"""

from pathlib import Path

import numpy as np

from fastuq.training.tensorflow import silence, tensorflow

tf = tensorflow()
import keras  # noqa: E402
from keras import layers  # noqa: E402
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: E402

FOLDER = Path(__file__).parent / "tflite"
SIDE = 8


DRAWN = {"kernel_initializer": keras.initializers.RandomNormal(stddev=1), "bias_initializer": "random_normal"}


def body(x):
    return layers.Conv2D(6, 3, strides=2, activation="relu", padding="same", **DRAWN)(x)


def one_layer():
    """Images 0 to 255, one softmax layer."""
    x = given = keras.Input((SIDE, SIDE, 3), batch_size=1)
    x = layers.GlobalAveragePooling2D()(body(layers.Rescaling(1 / 255)(x)))
    return keras.Model(given, layers.Dense(5, activation="softmax", **DRAWN)(x))


def two_layers():
    """Images 0 to 1, flattened features, a hidden layer."""
    x = given = keras.Input((SIDE, SIDE, 3), batch_size=1)
    x = layers.Dense(7, activation="relu", **DRAWN)(layers.Flatten()(body(x)))
    return keras.Model(given, layers.Dense(4, activation="softmax", **DRAWN)(x))


def binary():
    """Images -1 to 1, one sigmoid unit."""
    x = given = keras.Input((SIDE, SIDE, 3), batch_size=1)
    x = layers.GlobalAveragePooling2D()(body(x))
    return keras.Model(given, layers.Dense(1, activation="sigmoid", **DRAWN)(x))


def convolution():
    """Two grey images at once, a convolution as the classifier, an output of four dimensions."""
    x = given = keras.Input((SIDE, SIDE, 1), batch_size=2)
    x = layers.GlobalAveragePooling2D(keepdims=True)(body(layers.Rescaling(1 / 255)(x)))
    return keras.Model(given, layers.Softmax()(layers.Conv2D(5, 1, **DRAWN)(x)))


def channels_first():
    """Channels before rows, logits."""
    x = given = keras.Input((3, SIDE, SIDE), batch_size=1)
    x = layers.GlobalAveragePooling2D()(body(layers.Rescaling(1 / 255)(layers.Permute((2, 3, 1))(x))))
    return keras.Model(given, layers.Dense(5, **DRAWN)(x))


def convert(network, low, high, ends, per_channel=True):
    rng = np.random.default_rng(0)
    shape = network.input_shape
    images = rng.uniform(low, high, (16, *shape)).astype(np.float32)
    images[0].flat[:2] = low, high
    with silence():
        function = tf.function(lambda x: network(x, training=False), input_signature=[tf.TensorSpec(shape, tf.float32)])
        frozen = convert_variables_to_constants_v2(function.get_concrete_function())
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        if ends is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = ends
            converter._experimental_disable_per_channel = not per_channel
        return converter.convert()


def main():
    keras.utils.set_random_seed(0)
    files = {
        "one_layer": convert(one_layer(), 0, 255, tf.int8),
        "two_layers": convert(two_layers(), 0, 1, tf.uint8, per_channel=False),
        "binary": convert(binary(), -1, 1, tf.float32),
        "convolution": convert(convolution(), 0, 255, tf.int8),
        "channels_first": convert(channels_first(), 0, 255, tf.int8),
        "float": convert(one_layer(), 0, 255, None),
    }
    FOLDER.mkdir(exist_ok=True)
    for name, content in files.items():
        (FOLDER / f"{name}.tflite").write_bytes(content)
        print(name, len(content))


if __name__ == "__main__":
    main()
