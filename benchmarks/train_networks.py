"""ResNet50 and EfficientNet-B0 on CIFAR-100 where their ImageNet weights cannot be had: taught by the bundled model.

Usage: fastuq cache-features cifar100/train --output train.h5
       python benchmarks/train_networks.py resnet50 train.h5 --hours 8 --work DIR

ResNet50 starts from random weights, its residual blocks as identities. EfficientNet-B0 starts from the ImageNet
weights of EfficientNet-Lite0, whose convolutions have the same shapes; what Lite0 lacks (squeeze-and-excitation) starts
with its gates open. Targets are the labels and the bundled model's outputs (distillation, Hinton et al. 2015,
arXiv:1503.02531).

`--hours` are of processor time, in all: learning rate and resolution follow the share of them that is spent. A run
that was cut off goes on from DIR/NETWORK.npz; DIR/NETWORK.log has a line per epoch. At the end DIR/NETWORK.h5 holds
the backbone in the layout of Keras's published weights, for `fastuq train --weights`.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

import fastuq
from fastuq.training.networks import build_backbone, network_of
from fastuq.training.tensorflow import tensorflow
from fastuq.util.files import atomic_path

TEMPERATURE, SOFT = 4.0, 0.9
"""Of the distillation: what logits are divided by, and the weight of the teacher beside the labels."""
PAD, BATCH, CHECKPOINT = 4, 128, 300.0  # pixels, images, seconds


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: (share of the time from which on, height and width) in order, and the optimizer."""

    sizes: tuple[tuple[float, int], ...]
    learning_rate: float
    weight_decay: float
    policy: str


RECIPES = {
    # bfloat16 is faster for convolutions, and slower for depthwise ones.
    "resnet50": Recipe(((0.0, 32), (0.3, 48), (0.6, 64)), 1e-3, 0.05, "mixed_bfloat16"),
    "efficientnet_b0": Recipe(((0.0, 64), (0.6, 96)), 1e-3, 0.02, "float32"),
}


def fused_batch_norm():
    """Let BatchNorm in training be TensorFlow's one operation, not Keras's many: a third less time for a step."""
    tf = tensorflow()
    import keras

    layer = keras.layers.BatchNormalization
    inference = layer.call

    def call(self, x, training=None, mask=None):
        if not training:
            return inference(self, x, training=False)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, self.gamma, self.beta, epsilon=self.epsilon)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return y

    layer.call = call


def published_constants(model):
    """Give EfficientNet-B0 the mean and variance of ImageNet, as its published weights have them."""
    for layer in model.layers:
        if type(layer).__name__ == "Normalization":
            layer.set_weights([np.array([0.485, 0.456, 0.406]), np.square([0.229, 0.224, 0.225]), np.array(0)])
            layer.finalize_state()


def start_from_lite0(model):
    """Put the ImageNet weights of EfficientNet-Lite0 into EfficientNet-B0."""
    lite = [x for x in build_backbone("efficientnet_lite0", weights="imagenet").layers if x.weights]
    own = [x for x in model.layers if x.weights and "_se_" not in x.name and x.name[:4] in ("stem", "bloc", "top_")]
    for source, target in zip(lite, own, strict=True):
        target.set_weights(source.get_weights())
    # Lite0 takes (pixel - 127) / 128; the shift between the two is for the BatchNorm behind.
    stem = model.get_layer("stem_conv")
    scale = 255 * np.array([0.229, 0.224, 0.225]) ** 1.5 / 128
    stem.set_weights([stem.get_weights()[0] * scale[None, None, :, None]])
    for layer in model.layers:
        if layer.name.endswith("_se_expand"):
            kernel, bias = layer.get_weights()
            layer.set_weights([0 * kernel, 0 * bias + 3])


def start_as_identity(model):
    """Let every residual block of ResNet50 begin as the identity (Goyal et al. 2017, arXiv:1706.02677)."""
    for layer in model.layers:
        if layer.name.endswith("_3_bn"):
            layer.gamma.assign(0 * layer.gamma)


def build(network, size, policy):
    """Return the product's own backbone with a classifier on it: uint8-valued images -> logits."""
    tensorflow()  # sets the policy to float32
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((32, 32, 3), name="image")
    features = network_of(network).build(inputs, size, None)
    model = keras.Model(inputs, keras.layers.Dense(100, dtype="float32", name="classifier")(features))
    keras.config.set_dtype_policy("float32")
    published_constants(model)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            for variable in layer.weights:
                variable._autocast = False  # statistics in bfloat16 would have three digits
    return model


class Data:
    """The training images, padded for crops, with their labels and the teacher's logits of them as they are."""

    def __init__(self, cache):
        train, test = fastuq.open_images("cifar100/train"), fastuq.open_images("cifar100")
        images, self.labels = train.read(0, len(train)), train.labels
        padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect")
        self.windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(1, 2))
        self.test, self.test_labels = test.read(0, len(test)), test.labels
        model = fastuq.load_model()
        with fastuq.FeatureCache.open(cache, model, train) as features:
            outputs = model.head.forward(model.dequantize(features.read(0, len(train))))
        outputs = np.clip(outputs.astype(np.float64), 1e-7, 1 - 1e-7)
        self.teacher = np.log(outputs / (1 - outputs)).astype(np.float32)

    def batch(self, step):
        """Return images, labels and the teacher's logits; they depend on the number of the step alone."""
        steps = len(self.labels) // BATCH
        epoch, place = divmod(step, steps)
        if place == 0 or not hasattr(self, "order"):
            self.order = np.random.default_rng((0, epoch)).permutation(len(self.labels))
        rows = self.order[place * BATCH : (place + 1) * BATCH]
        rng = np.random.default_rng((1, step))
        y, x = rng.integers(2 * PAD + 1, size=(2, len(rows)))
        images = self.windows[rows, y, x].transpose(0, 2, 3, 1)
        mirrored = rng.random(len(rows)) < 0.5
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images.astype(np.float32), self.labels[rows], self.teacher[rows]


class Trainer:
    """A network in one resolution, with its optimizer, as far as a checkpoint says."""

    def __init__(self, network, recipe, size, checkpoint):
        tf = tensorflow()
        import keras

        self.model = model = build(network, size, recipe.policy)
        self.optimizer = keras.optimizers.AdamW(1e-3, beta_2=0.99, weight_decay=recipe.weight_decay)
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(model.trainable_variables)
        self.state = {"step": 0, "spent": 0.0}
        if checkpoint.exists():
            self._restore(checkpoint)
        elif network == "efficientnet_b0":
            start_from_lite0(model)
        else:
            start_as_identity(model)

        @tf.function
        def train(images, labels, soft):
            with tf.GradientTape() as tape:
                logits = model(images, training=True)
                hard = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                wanted = tf.nn.log_softmax(soft / TEMPERATURE)
                apart = tf.exp(wanted) * (wanted - tf.nn.log_softmax(logits / TEMPERATURE))
                taught = TEMPERATURE**2 * tf.reduce_sum(apart, axis=1)
                loss = tf.reduce_mean((1 - SOFT) * hard + SOFT * taught)
            variables = model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        self.train = train
        self.forward = tf.function(lambda images: model(images, training=False))

    def _restore(self, checkpoint):
        with np.load(checkpoint) as saved:
            variables = [*self.model.weights, *self.optimizer.variables]
            for number, variable in enumerate(variables):
                variable.assign(saved[f"v{number}"])
            self.state = {"step": int(saved["step"]), "spent": float(saved["spent"])}
        published_constants(self.model)

    def save(self, checkpoint):
        variables = [*self.model.weights, *self.optimizer.variables]
        arrays = {f"v{number}": variable.numpy() for number, variable in enumerate(variables)}
        with atomic_path(checkpoint) as partial, partial.open("wb") as file:
            np.savez(file, **arrays, **self.state)

    def accuracy(self, data):
        right = 0
        for start in range(0, len(data.test), 250):
            logits = self.forward(data.test[start : start + 250].astype(np.float32)).numpy()
            right += int((logits.argmax(axis=1) == data.test_labels[start : start + 250]).sum())
        return right / len(data.test)


def learning_rate(share, highest):
    """Warm up over 5% of the time, then fall along a cosine."""
    return highest * min(share / 0.05 + 0.01, 0.5 + 0.5 * math.cos(math.pi * max(share - 0.05, 0) / 0.95))


def run(network, hours, data, work):
    recipe, checkpoint = RECIPES[network], work / f"{network}.npz"
    share, before = 0.0, time.process_time()
    epoch = len(data.labels) // BATCH
    while share < 1:
        if checkpoint.exists():
            with np.load(checkpoint) as saved:
                share = float(saved["spent"]) / 3600 / hours
        size = next(size for start, size in reversed(recipe.sizes) if share >= start)
        until = next((start for start, _ in recipe.sizes if start > share), 1.0)
        trainer = Trainer(network, recipe, size, checkpoint)
        losses, saved_at = [], time.monotonic()
        while share < until:
            trainer.optimizer.learning_rate = learning_rate(share, recipe.learning_rate)
            losses.append(float(trainer.train(*data.batch(trainer.state["step"]))))
            trainer.state["step"] += 1
            now = time.process_time()
            trainer.state["spent"] += now - before
            before, share = now, trainer.state["spent"] / 3600 / hours
            if trainer.state["step"] % epoch == 0 or share >= until:
                report(work / f"{network}.log", trainer, size, losses, trainer.accuracy(data), epoch)
                losses = []
            if time.monotonic() - saved_at > CHECKPOINT or share >= until:
                trainer.save(checkpoint)
                saved_at = time.monotonic()
    return trainer, size


def report(log, trainer, size, losses, accuracy, epoch):
    epochs, hours = trainer.state["step"] / epoch, trainer.state["spent"] / 3600
    line = f"{time.strftime('%F %T')}  epoch {epochs:6.2f}  hours {hours:5.2f}  size {size}"
    with log.open("a") as file:
        print(f"{line}  loss {np.mean(losses):.4f}  test accuracy {accuracy:.2%}", file=file)


def export(network, trainer, data, size, file):
    """Write the backbone in the published layout, and require the product's own features of it to be the trainer's."""
    import keras
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    twin = build(network, size, "float32")
    twin.set_weights(trainer.model.get_weights())
    published_constants(twin)
    images = data.test[:64].astype(np.float32)
    logits = twin.predict(images, verbose=0)
    dense = [np.asarray(array) for array in twin.layers[-1].get_weights()]
    turn_stem(network, twin)
    with atomic_path(file) as partial, h5py.File(partial, "w") as out:
        save_weights_to_hdf5_group(out, keras.Model(twin.input, twin.layers[-1].input))
        out.attrs["image_size"] = size
    features = build_backbone(network, weights=str(file), image_size=size).predict(images, verbose=0)
    apart = float(np.abs(features @ dense[0] + dense[1] - logits).max())
    if apart > 1e-4 * max(1.0, float(np.abs(logits).max())):
        raise SystemExit(f"{file}: logits of the product's network are {apart} from the trainer's")
    return apart


def turn_stem(network, model):
    """ResNet50's published weights take BGR, and the product turns their first kernel round."""
    if network == "resnet50":
        stem = model.get_layer("conv1_conv")
        kernel, bias = stem.get_weights()
        stem.set_weights([kernel[:, :, ::-1], bias])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=RECIPES)
    parser.add_argument("cache", help="features of cifar100/train by the bundled model")
    parser.add_argument("--hours", type=float, required=True, help="of processor time, over all runs")
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    if not 0 < args.hours < math.inf:
        parser.error(f"--hours: expected more than 0, found {args.hours}")
    args.work.mkdir(parents=True, exist_ok=True)
    fused_batch_norm()
    data = Data(args.cache)
    trainer, size = run(args.network, args.hours, data, args.work)
    file = args.work / f"{args.network}.h5"
    apart = export(args.network, trainer, data, size, file)
    with (args.work / f"{args.network}.log").open("a") as log:
        print(f"{file}: size {size}; logits of the product's network within {apart:.1e} of the trainer's", file=log)


if __name__ == "__main__":
    main()
