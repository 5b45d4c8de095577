"""Files and embeddings of others, each imported by one command: agreement, and speed beside a loop in Keras.

Usage: FASTUQ_DATA=/path/to/data python benchmarks/strangers_files.py TINY

TINY is a clone of https://github.com/mlcommons/tiny, whose trained `.h5` networks and int8 `.tflite` files (Apache-2.0)
are imported. What they were trained on is not here: they are given CIFAR-100 test images, made as large as they take,
and what is told is how often the plain pass names the class that the float network names. The last row is a small
vision transformer, trained here as the networks of `strangers.py`; its embeddings, float16, and its head come in by
`fastuq import-features`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from strangers import CLASSES, L, Stranger, T, by_fastuq, data_of, keras, keras_loop, trained

import fastuq
from fastuq.training.keras_file import load_network

TRAINED = "benchmark/training/{}/trained_models/{}"
FILES = {
    "ResNet8 of MLPerf Tiny, `.h5` of Keras 2": ("image_classification", "pretrainedResnet.h5", 32, ()),
    "the same, int8 `.tflite`": ("image_classification", "pretrainedResnet_quant.tflite", 32, ()),
    "MobileNetV1 of MLPerf Tiny, `.h5` of Keras 2": ("visual_wake_words", "vww_96.h5", 96, ("--rescale", "1/255")),
    "the same model, int8 `.tflite`": ("visual_wake_words", "vww_96_int8.tflite", 96, ()),
}
TWINS = {"pretrainedResnet_quant.tflite": "pretrainedResnet.h5", "vww_96_int8.tflite": "vww_96.h5"}
IMAGES, TIMED, RATE = 256, 16, "0.2"


def command(*words):
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "fastuq", *map(str, words)], capture_output=True, text=True)
    print(f"## {' '.join(map(str, words))}\n{done.stdout}{done.stderr}", file=sys.stderr, flush=True)
    done.check_returncode()
    return time.perf_counter() - began


def with_dropout(network):
    """Return the network with dropout before its last layer, as one would write it for Monte-Carlo dropout."""
    last = network.layers[-1]
    return keras.Model(network.inputs[0], last(L.Dropout(float(RATE))(last.input)))


def a_file(name, tiny, folder):
    task, file, size, options = FILES[name]
    pixels = fastuq.open_images("cifar100/test").read(0, IMAGES).repeat(size // 32, axis=1).repeat(size // 32, axis=2)
    np.save(folder / "images.npy", pixels)
    seconds = command(
        *("import", tiny / TRAINED.format(task, file), *options, "--dropout", RATE),
        *("--data", folder / "images.npy", "--output", folder / "model"),
    )
    network = load_network(tiny / TRAINED.format(task, TWINS.get(file, file)))
    values = pixels / np.float32(255 if size == 96 else 1)
    expected = network.predict(values.astype(np.float32), verbose=0).argmax(axis=1)
    model = fastuq.load_model(folder / "model")
    same = {}
    with fastuq.cache_features(pixels, model, folder / "features.h5") as cache:
        for precision in ("float32", "int8"):
            found = fastuq.score(model, cache, precision=precision).plain_prediction
            same[precision] = f"{np.mean(found == expected):.1%}"
    slow = keras_loop(with_dropout(network), values[:TIMED].astype(np.float32))
    fast = by_fastuq(folder, pixels[:64])
    cells = [*same.values(), f"{seconds:.0f}", f"{slow:.1f}", f"{fast:.2f}", f"{slow / fast:.0f}"]
    return f"| {name} | | {' | '.join(cells)} |"


def transformer():
    inputs = keras.Input((32, 32, 3))
    x = L.Reshape((64, 64))(L.Conv2D(64, 4, strides=4)(L.Rescaling(1 / 127.5, -1)(inputs)))
    x = x + L.Embedding(64, 64)(keras.ops.arange(64))
    for _ in range(4):
        y = L.LayerNormalization()(x)
        x = x + L.MultiHeadAttention(4, 16)(y, y)
        y = L.Dense(128, activation="gelu")(L.LayerNormalization()(x))
        x = x + L.Dense(64)(y)
    x = L.GlobalAveragePooling1D(name="embedding")(L.LayerNormalization()(x))
    x = L.Dense(64, activation="relu")(L.Dropout(0.2)(x))
    return keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(L.Dropout(0.4)(x)))


def embeddings(folder):
    keras.utils.set_random_seed(0)
    pixels, labels, test, truth = data_of(Stranger(transformer), folder)
    network = transformer()
    trained(Stranger(transformer), network, pixels, labels)
    end = [layer.name for layer in network.layers].index("embedding")
    body, head = keras.Model(network.inputs[0], network.layers[end].output), network.layers[end + 1 :]
    for name, images in (("train", pixels), ("test", test)):
        np.save(folder / f"{name}.npy", body.predict(images, verbose=0).astype(np.float16))
    np.save(folder / "truth.npy", truth)
    fastuq.save_head(folder / "head.npz", fastuq.head_from_layers(keras.Sequential(head)))
    seconds = command(
        *("import-features", folder / "train.npy", "--head", folder / "head.npz", "--model", folder / "model"),
        *("--output", folder / "train.h5"),
    )
    right = [f"{np.mean(network.predict(test, verbose=0).argmax(axis=1) == truth):.1%}"]
    command("import-features", folder / "test.npy", "--model", folder / "model", "--output", folder / "test.h5")
    for precision in ("float32", "int8"):
        report = folder / "score.json"
        command(
            *("score", "--cache", folder / "test.h5", "--model", folder / "model", "--precision", precision),
            *("--json", report),
        )
        predicted = fastuq.score(
            fastuq.load_model(folder / "model"), fastuq.FeatureCache.open(folder / "test.h5"), precision=precision
        ).plain_prediction
        right.append(f"{np.mean(predicted == truth):.1%}")
        assert json.loads(report.read_text())["n"] == len(truth)
    slow = keras_loop(network, test[:64].astype(np.float32))
    fast = body_and_fastuq(folder, body, test[:64])
    cells = " | ".join([*right, f"{seconds:.0f}", f"{slow:.1f}", f"{fast:.2f}", f"{slow / fast:.0f}"])
    return f"| embeddings of a vision transformer, its head read from layers | {cells} |"


def body_and_fastuq(folder, body, pixels):
    """Milliseconds per image: the float network to its embeddings in Keras, then import and scoring."""
    model = fastuq.load_model(folder / "model")
    for number in (0, 1):  # the first compiles
        began = time.perf_counter()
        x = np.asarray(body(pixels.astype(np.float32)))
        features = fastuq.Features.from_arrays(x, model=model)
        with fastuq.cache_embeddings(features, model, folder / f"timed_{number}.h5") as cache:
            fastuq.score(model, cache, num_iter=T)
        took = (time.perf_counter() - began) / len(pixels) * 1000
    return took


def main():
    tiny = Path(sys.argv[1])
    columns = ("float32", "int8 features, float head", "all int8", "import, s", "Keras loop, ms", "fastuq, ms", "times")
    print("| file |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name in FILES:
        with tempfile.TemporaryDirectory() as folder:
            print(a_file(name, tiny, Path(folder)), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(embeddings(Path(folder)), flush=True)


if __name__ == "__main__":
    main()
