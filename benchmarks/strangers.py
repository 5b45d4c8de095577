"""Networks that fastuq did not design, each imported by one command: accuracy, time, and speed beside a loop in Keras.

Usage: FASTUQ_DATA=/path/to/data python benchmarks/strangers.py [NAME ...]

All are trained from random weights for a minute or a few on ten classes of CIFAR-100 (5,000 images): what they get
right says nothing of them, but it must survive the import.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fastuq
from fastuq.training.tensorflow import tensorflow

tensorflow()
import keras  # noqa: E402
from keras import layers as L  # noqa: E402

T = 50
CLASSES = 10


@dataclass
class Stranger:
    make: object
    options: tuple = ()
    size: int = 32
    classes: int = CLASSES
    rescaled: bool = False
    epochs: int = 8
    twin: object = None  # in float32, where training and timing it otherwise would take hours on a CPU
    timed: int = 64


def convolutions(x, *filters):
    for count in filters:
        x = L.Conv2D(count, 3, padding="same", use_bias=False)(x)
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
        x = L.MaxPooling2D()(x)
    return x


def sequential():
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *(
                layer
                for n in (32, 64)
                for layer in (L.Conv2D(n, 3, activation="relu"), L.MaxPooling2D(), L.Dropout(0.25))
            ),
            L.Flatten(),
            L.Dense(128, activation="relu"),
            L.Dropout(0.5),
            L.Dense(CLASSES, activation="softmax"),
        ]
    )


def batchnorm_head(activation="relu"):
    inputs = keras.Input((32, 32, 3))
    x = L.GlobalAveragePooling2D()(convolutions(L.Rescaling(1 / 255)(inputs), 32, 64, 128))
    x = L.BatchNormalization()(L.Dense(128)(L.Dropout(0.2)(x)))
    x = L.Dropout(0.4)(L.Activation(activation)(x))
    return keras.Model(inputs, L.Activation("softmax")(L.Dense(CLASSES)(x)))


def nested_mobilenet():
    base = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None)
    inputs = keras.Input((32, 32, 3))
    x = keras.Sequential([L.RandomFlip("horizontal"), L.RandomTranslation(0.1, 0.1)], name="augmentation")(inputs)
    x = base(L.Rescaling(1 / 127.5, -1)(L.Resizing(64, 64)(x)))
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(x))


def binary():
    inputs = keras.Input((32, 32, 3))
    x = L.GlobalAveragePooling2D()(convolutions(L.Rescaling(1 / 255)(inputs), 16, 32, 64))
    return keras.Model(inputs, L.Dense(1, activation="sigmoid")(L.Dropout(0.3)(x)))


def mixed_precision(policy="mixed_float16"):
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((32, 32, 3))
        x = L.GlobalMaxPooling2D()(convolutions(L.Rescaling(1 / 255)(inputs), 32, 64, 128))
        x = L.Dense(64, activation="gelu")(L.Dropout(0.2)(x))
        return keras.Model(inputs, L.Dense(CLASSES, activation="softmax", dtype="float32")(x))
    finally:
        keras.config.set_dtype_policy("float32")


def grey():
    inputs = keras.Input((32, 32, 1))
    x = L.SpatialDropout2D(0.2)(convolutions(L.Rescaling(1 / 255)(inputs), 32, 64, 128))
    return keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x)))


def application(name):
    return lambda: getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=CLASSES)


STRANGERS = {
    "Sequential CNN with Flatten, x / 255 outside": Stranger(sequential, ("--rescale", "1/255"), rescaled=True),
    "Dense, BatchNorm, ReLU, dropout in the head": Stranger(batchnorm_head),
    "MobileNetV2 nested, augmentation inside": Stranger(nested_mobilenet, epochs=6, timed=32),
    "one sigmoid unit": Stranger(binary, classes=2),
    "mixed precision, gelu in the head": Stranger(mixed_precision, twin=lambda: mixed_precision("float32")),
    "grey input, SpatialDropout, logits": Stranger(grey, ("--activation", "softmax")),
    "EfficientNetB0 of keras.applications": Stranger(application("EfficientNetB0"), size=64, epochs=6, timed=16),
    "MobileNetV3Small of keras.applications": Stranger(application("MobileNetV3Small"), size=64, epochs=8, timed=16),
}


def data_of(stranger, folder):
    """Write training and test images, and return them with their labels."""
    sets = []
    for part in ("train", "test"):
        images = fastuq.open_images(f"cifar100/{part}")
        rows = np.flatnonzero(images.labels < CLASSES)
        labels, large = images.labels[rows] % stranger.classes, stranger.size // 32
        pixels = np.stack([images.images[int(row)] for row in rows]).repeat(large, axis=1).repeat(large, axis=2)
        names = np.array(images.class_names[: stranger.classes])
        np.savez(folder / f"{part}.npz", images=pixels, labels=labels, class_names=names)
        sets += [pixels, labels]
    return sets


def values_of(stranger, network, pixels):
    """Return pixels as the network's author gives them to it."""
    x = pixels.astype(np.float32)
    if network.input_shape[-1] == 1:
        x = x @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return x / 255 if stranger.rescaled else x


def trained(stranger, network, pixels, labels):
    logits = network.layers[-1].activation.__name__ == "linear"
    if network.output_shape[-1] == 1:
        loss, truth = "binary_crossentropy", labels[:, None].astype(np.float32)
    else:
        loss, truth = keras.losses.SparseCategoricalCrossentropy(from_logits=logits), labels
    for layer in network._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.9  # a short training
    network.compile(keras.optimizers.Adam(2e-3), loss)
    network.fit(values_of(stranger, network, pixels), truth, batch_size=64, epochs=stranger.epochs, verbose=0)


def keras_loop(network, x):
    """The loop that people write: the whole network in training mode, T times."""
    began = time.perf_counter()
    outputs = np.stack([np.asarray(network(x, training=True)) for _ in range(T)])
    outputs.mean(axis=0), outputs.std(axis=0)
    return (time.perf_counter() - began) / len(x) * 1000


def by_fastuq(folder, pixels):
    """Milliseconds per image from pixels to decisions: backbone once, then the head."""
    model = fastuq.load_model(folder / "model")
    images = fastuq.open_images(pixels)
    for number in (0, 1):  # the first compiles
        began = time.perf_counter()
        with fastuq.cache_features(images, model, folder / f"features_{number}.h5") as cache:
            fastuq.score(model, cache, num_iter=T)
        took = (time.perf_counter() - began) / len(pixels) * 1000
    return took


def tried(name, stranger):
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        pixels, labels, test, _ = data_of(stranger, folder)
        network = stranger.make()
        at_work = stranger.twin() if stranger.twin else network
        trained(stranger, at_work, pixels, labels)
        network.set_weights(at_work.get_weights())
        network.save(folder / "network.keras")
        command = [sys.executable, "-m", "fastuq", "import", str(folder / "network.keras"), *stranger.options]
        command += ["--data", str(folder / "train.npz"), "--test", str(folder / "test.npz")]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "--output", str(folder / "model"), "--json", str(folder / "import.json")],
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - began
        print(f"## {name}\n{done.stdout}{done.stderr}", file=sys.stderr, flush=True)
        if done.returncode:
            return f"| {name} | {done.stderr.strip()} |"
        found = json.loads((folder / "import.json").read_text())
        report, timed = found["report"], test[: stranger.timed]
        slow = keras_loop(at_work, values_of(stranger, at_work, timed))
        try:
            fast = by_fastuq(folder, np.ascontiguousarray(test[:64]))
            speed = f"{fast:.2f} | {slow / fast:.0f}"
        except fastuq.FastUQError as error:
            speed = f"{error} |"
    right = " | ".join(f"{report[f'accuracy_{kind}']:.1%}" for kind in ("float32", "int8_backbone", "int8"))
    agreement = f"{found['data']['agreement']:.1%}"
    return f"| {name} | {right} | {agreement} | {seconds:.0f} | {slow:.1f} | {speed} |"


def main():
    wanted = sys.argv[1:]
    columns = (
        "float32",
        "int8, float head",
        "all int8",
        "int8 as float",
        "import, s",
        "Keras loop, ms",
        "fastuq, ms",
        "times",
    )
    print("| network |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name, stranger in STRANGERS.items():
        if not wanted or any(word in name for word in wanted):
            print(tried(name, stranger), flush=True)


if __name__ == "__main__":
    main()
