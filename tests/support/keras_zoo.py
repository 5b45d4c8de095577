"""Small Keras networks as people bring them: each stands for a kind, with what its head must be."""

import keras
import numpy as np
from keras import layers as L

from fastuq.datasets import ImageSet
from fastuq.training.quantize_file import _read_network
from fastuq.training.wishes import Wishes

SIZE = 16
CLASSES = 4
PIXELS = np.random.default_rng(0).integers(0, 256, (32, SIZE, SIZE, 3), dtype=np.uint8)
IMAGES = ImageSet(PIXELS, None, None, "noise")


def read(network, folder, wishes=None, images=IMAGES):
    """Save a network and read it as an import does."""
    network.save(folder / "network.keras")
    return _read_network(folder / "network.keras", images, wishes or Wishes())


def settle(network, seed=0):
    """Give every BatchNorm statistics of its own, and weights that tell images apart."""
    rng = np.random.default_rng(seed)
    for layer in network._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            shapes = [w.shape for w in layer.get_weights()]
            layer.set_weights([rng.uniform(0.5, 1.5, shape) for shape in shapes])
    return network


def base(channels=3, size=SIZE, filters=12):
    """A small convolutional network without a top: images -> maps (4, 4, filters)."""
    inputs = keras.Input((size, size, channels))
    x = L.Rescaling(1 / 127.5, -1)(inputs)
    x = L.Conv2D(8, 3, strides=2, padding="same")(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU(6.0)(x)
    x = L.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, x, name="base")


def with_tail(*tail, channels=3, filters=12):
    """The base with layers one after the other."""
    network = base(channels, filters=filters)
    x = network.output
    for layer in tail:
        x = layer(x)
    return settle(keras.Model(network.input, x, name="network"))


def sequential():
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            L.Rescaling(1 / 255),
            L.Conv2D(8, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Dropout(0.25),
            L.Flatten(),
            L.Dense(24, activation="relu"),
            L.Dropout(0.5),
            L.Dense(CLASSES, activation="softmax"),
        ],
        name="cnn",
    )


def nested():
    """A pretrained-like base under a new head, augmentation inside, the head a Sequential of its own."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.Sequential([L.RandomFlip("horizontal"), L.RandomRotation(0.1)], name="augmentation")(inputs)
    x = base()(x, training=False)
    x = L.GlobalAveragePooling2D()(x)
    head = keras.Sequential([L.Dropout(0.2), L.Dense(CLASSES, activation="softmax")], name="classifier")
    return settle(keras.Model(inputs, head(x), name="nested"))


def pooled_inside():
    """A base with pooling='avg', nested."""
    inner = base()
    inner = keras.Model(inner.input, L.GlobalAveragePooling2D()(inner.output), name="inner")
    inputs = keras.Input((SIZE, SIZE, 3))
    return settle(keras.Model(inputs, dense()(L.Dropout(0.3)(inner(inputs)))))


def stochastic_depth():
    """Dropout of whole samples in a residual branch, and one in the head."""
    network = base()
    x = L.Conv2D(12, 3, padding="same")(network.output)
    x = L.Dropout(0.2, noise_shape=(None, 1, 1, 1), name="drop_path")(x)
    x = L.GlobalAveragePooling2D()(L.Add()([network.output, x]))
    return settle(keras.Model(network.input, dense()(L.Dropout(0.2)(x))))


def in_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        network = with_tail(L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(CLASSES))
        outputs = L.Activation("softmax", dtype="float32")(network.output)
        return keras.Model(network.input, outputs)
    finally:
        keras.config.set_dtype_policy("float32")


def learnt_means():
    inputs = keras.Input((SIZE, SIZE, 3), batch_size=8, dtype="uint8")
    normalise = L.Normalization()
    normalise.adapt(PIXELS.astype(np.float32))
    x = gap()(L.Conv2D(8, 3, activation="relu")(normalise(L.Resizing(24, 24)(inputs))))
    return keras.Model(inputs, dense()(L.Dropout(0.2)(x)))


def dense(units=CLASSES, activation="softmax", **options):
    return L.Dense(units, activation=activation, **options)


def gap():
    return L.GlobalAveragePooling2D()


class MCDropout(L.Dropout):
    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


ZOO = {
    "sequential with Flatten": (sequential, (0.25, 0.5)),
    "nested base, augmentation, Sequential head": (nested, (0.2,)),
    "pooling inside": (pooled_inside, (0.3,)),
    "stochastic depth": (stochastic_depth, (0.2,)),
    **{
        kind: (lambda kind=kind: in_precision(kind), (0.2,)) for kind in ("mixed_float16", "mixed_bfloat16", "bfloat16")
    },
    "whole numbers in, means learnt from data": (learnt_means, (0.2,)),
    "BatchNorm first": (lambda: with_tail(gap(), L.BatchNormalization(), L.Dropout(0.2), dense()), (0.2,)),
    "Dropout then BatchNorm": (lambda: with_tail(gap(), L.Dropout(0.2), L.BatchNormalization(), dense()), (0.2,)),
    "BatchNorm, dropout, BatchNorm": (
        lambda: with_tail(gap(), L.BatchNormalization(), L.Dropout(0.2), L.BatchNormalization(), dense()),
        (0.2,),
    ),
    "Dense, BatchNorm, ReLU, dropout": (
        lambda: with_tail(
            gap(),
            L.Dropout(0.1),
            L.Dense(9),
            L.BatchNormalization(),
            L.ReLU(),
            L.Dropout(0.4),
            L.Dense(CLASSES),
            L.Softmax(),
        ),
        (0.1, 0.4),
    ),
    "BatchNorm behind an activation": (
        lambda: with_tail(gap(), L.Dropout(0.1), dense(9, "gelu"), L.BatchNormalization(), L.Dropout(0.4), dense()),
        (0.1, 0.4),
    ),
    "Activation layers": (
        lambda: with_tail(gap(), L.Dropout(0.3), L.Dense(9), L.Activation("silu"), L.Dense(4), L.Activation("softmax")),
        (0.3, 0.0),
    ),
    "activation objects": (
        lambda: with_tail(
            gap(), L.Dropout(0.3), dense(9, L.ReLU(6.0)), dense(8, L.LeakyReLU(0.1)), dense(4, "sigmoid")
        ),
        (0.3, 0.0, 0.0),
    ),
    "two dropouts in a row": (lambda: with_tail(gap(), L.Dropout(0.3), L.Dropout(0.5), dense()), (0.65,)),
    "dropout before the activation": (
        lambda: with_tail(gap(), L.Dropout(0.1), L.Dense(9), L.Dropout(0.3), L.ReLU(), dense()),
        (0.1, 0.3),
    ),
    "dropout between Dense and tanh": (
        lambda: with_tail(gap(), L.Dense(9), L.Dropout(0.3), L.Activation("tanh"), dense()),
        (0.3, 0.0),
    ),
    "dropout before the last softmax": (
        lambda: with_tail(gap(), L.Dropout(0.1), L.Dense(4), L.Dropout(0.3), L.Softmax()),
        (0.1, 0.3),
    ),
    "SpatialDropout before pooling": (lambda: with_tail(L.SpatialDropout2D(0.3), gap(), dense()), (0.3,)),
    "SpatialDropout before maximum": (
        lambda: with_tail(L.SpatialDropout2D(0.3), L.GlobalMaxPooling2D(), L.Dropout(0.2), dense()),
        (0.44,),
    ),
    "dropout by noise shape": (
        lambda: with_tail(L.Dropout(0.3, noise_shape=(None, 1, 1, 12)), gap(), dense()),
        (0.3,),
    ),
    "GAP that keeps its axes, 1x1 convolutions": (
        lambda: with_tail(
            L.GlobalAveragePooling2D(keepdims=True),
            L.Conv2D(10, 1),
            L.Activation("hard_silu"),
            L.Dropout(0.2),
            L.Conv2D(CLASSES, 1),
            L.Flatten(),
            L.Softmax(),
        ),
        (0.2,),
    ),
    "dropout before Flatten": (lambda: with_tail(L.Dropout(0.25), L.Flatten(), dense()), (0.25,)),
    "dropout and BatchNorm on a map": (
        lambda: with_tail(L.BatchNormalization(), L.Dropout(0.25), L.BatchNormalization(), L.Flatten(), dense()),
        (0.25,),
    ),
    "Reshape": (lambda: with_tail(L.Reshape((192,)), L.Dropout(0.25), dense()), (0.25,)),
    "convolution as large as the map": (
        lambda: with_tail(L.Dropout(0.25), L.Conv2D(4, 4), L.Flatten(), L.Softmax()),
        (0.25,),
    ),
    "GlobalMaxPooling": (lambda: with_tail(L.GlobalMaxPooling2D(), L.Dropout(0.25), dense()), (0.25,)),
    "layers that do nothing": (
        lambda: with_tail(
            gap(), L.Identity(), L.Dropout(0.3), L.ActivityRegularization(l2=0.1), L.GaussianNoise(0.1), dense()
        ),
        (0.3,),
    ),
    "one sigmoid unit": (lambda: with_tail(gap(), L.Dropout(0.3), dense(1, "sigmoid")), (0.3,)),
    "LayerNormalization before the dropout": (
        lambda: with_tail(gap(), L.LayerNormalization(), L.Dropout(0.3), dense()),
        (0.3,),
    ),
    "grey images": (lambda: with_tail(gap(), L.Dropout(0.3), dense(), channels=1), (0.3,)),
    "any size": (
        lambda: keras.Sequential(
            [keras.Input((None, None, 3)), L.Conv2D(8, 3), L.ReLU(), gap(), L.Dropout(0.2), dense()]
        ),
        (0.2,),
    ),
    "a class of its own that forces training": (lambda: with_tail(gap(), MCDropout(0.3), dense()), (0.3,)),
    "a softmax over the axis of the classes": (
        lambda: with_tail(gap(), L.Dropout(0.3), L.Dense(CLASSES), L.Softmax(axis=1)),
        (0.3,),
    ),
    "names that TensorFlow has not": (
        lambda: with_tail(L.Conv2D(6, 3, name="Conv 1"), gap(), L.Dropout(0.3), dense(7, "relu", name="é:1"), dense()),
        (0.3, 0.0),
    ),
    "no dropout": (lambda: with_tail(gap(), dense()), (0.0,)),
}
"""Name -> a function that makes the network, and the rates of its head."""
