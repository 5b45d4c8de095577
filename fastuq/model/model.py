"""The model folder: load, check, save.

A folder holds `backbone.tflite`, `full.tflite`, `head.npz`, `head_int8.npz` and `model.json`, which says what they are
and carries the SHA-256 of each. A model of embeddings has `features.npz` in place of the networks, and one whose head
was put on a tensor no `full.tflite`. The identity of a model is the SHA-256 over the sorted lines ``name:sha256`` of
its parts and of what `model.json` says, so no part can change unseen.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError, ModelError, short
from fastuq.model.coding import Coding
from fastuq.model.folder import (
    AGAIN,
    CODING,
    DESCRIPTION,
    FORMAT_VERSION,
    MAX_HEAD_BYTES,
    check_replaceable,
    identity,
    read_description,
    read_part,
    write_folder,
)
from fastuq.model.head import Head
from fastuq.model.head_file import npz_of
from fastuq.model.int8_head import QuantizedHead
from fastuq.util.bundled import bundled_path
from fastuq.util.checks import checked_path
from fastuq.util.npy import read_npz

MAX_IMAGE_SIDE = 4096


@dataclass(frozen=True)
class Model:
    """A quantized classifier: int8 backbone, float and int8 head, and what they were made from.

    Attributes
    ----------
    path : Path
        The model folder.
    network : str
        Name of the backbone's architecture.
    class_names : tuple of str
    input_shape : (int, int, int) or None
        Height, width and channels of the uint8 images that the backbone takes; None for a model of embeddings.
    feature_scale : float
    feature_zero_point : int
        real = feature_scale * (q - feature_zero_point).
    head : Head
    head_int8 : QuantizedHead
    coding : Coding or None
        How embeddings become features; None for a model of images. Its scales are in the heads: for them features
        are the codes themselves.
    crop : float or None
        What of a picture the network sees: the middle, this fraction of the largest that has the proportions of
        `input_shape`; None: all of it, stretched. `fastuq.open_images` takes it.
    sha256 : str
        The identity of the model, see the module.
    info : dict
        `model.json`.

    Examples
    --------
    >>> import fastuq
    >>> model = fastuq.load_model()
    >>> model.class_names[:3]
    ('apple', 'aquarium_fish', 'baby')
    >>> model.head.num_features
    1280
    """

    path: Path
    network: str
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int] | None
    feature_scale: float
    feature_zero_point: int
    head: Head
    head_int8: QuantizedHead
    sha256: str
    info: dict[str, Any]
    coding: Coding | None = None
    crop: float | None = None

    def __repr__(self) -> str:
        takes = f"images {self.input_shape}" if self.input_shape else "embeddings"
        return (
            f"Model({str(self.path)!r}, network={self.network!r}, {len(self.class_names)} classes, "
            f"{takes}, {self.head.num_features} features, sha256={self.sha256[:12]!r})"
        )

    @property
    def backbone_path(self) -> Path:
        """The int8 backbone: uint8 images -> int8 features."""
        return self.path / "backbone.tflite"

    @property
    def full_path(self) -> Path:
        """The int8 backbone and head: uint8 images -> int8 class outputs."""
        return self.path / "full.tflite"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`input_shape`; raises ModelError where the model takes no images."""
        if self.input_shape is None:
            raise ModelError(
                f"model {self.path}: expected a model of images, found one of embeddings, which has no backbone; make "
                "features with `fastuq import-features`, and score them with --cache"
            )
        return self.input_shape

    def read_backbone(self) -> bytes:
        """Return the content of `backbone_path`, its SHA-256 checked again: what is checked is what runs."""
        _ = self.image_shape
        return read_part(self.path, "backbone.tflite", self.info)

    def read_full(self) -> bytes:
        """Return the content of `full_path`, its SHA-256 checked again; raises ModelError where there is none."""
        if "full.tflite" not in self.info["parts"]:
            raise ModelError(f"model {self.path}: has no full.tflite: its head never was one network with its backbone")
        return read_part(self.path, "full.tflite", self.info)

    def dequantize(self, features_int8: np.ndarray) -> np.ndarray:
        """Return int8 features (N, D) as float32 real values."""
        codes = features_int8.astype(np.float32)
        codes -= np.float32(self.feature_zero_point)
        codes *= np.float32(self.feature_scale)
        return codes


def load_model(path: str | Path | None = None) -> Model:
    """Load a model folder and check the SHA-256 of every part.

    Parameters
    ----------
    path : str or Path, optional
        The folder; None is the model that comes with fastuq.

    Raises
    ------
    ModelError
        The folder is missing, incomplete, altered, of a newer format, or no model folder.

    Examples
    --------
    >>> import fastuq
    >>> model = fastuq.load_model()
    >>> model.network, model.input_shape, len(model.class_names)
    ('efficientnet_lite0', (32, 32, 3), 100)
    """
    folder = bundled_path("model") if path is None else checked_path(path)
    info = read_description(folder)
    contents = {name: read_part(folder, name, info) for name in info["parts"]}
    head = Head.from_arrays(_read_arrays(folder, "head.npz", contents))
    head_int8 = QuantizedHead.from_arrays(_read_arrays(folder, "head_int8.npz", contents))
    coding = Coding.from_bytes(contents[CODING], MAX_HEAD_BYTES) if CODING in contents else None
    return _from_description(folder, info, head, head_int8, coding)


def save_model(
    path: str | Path,
    *,
    network: str,
    backbone: bytes | None,
    full: bytes | None,
    head: Head,
    head_int8: QuantizedHead,
    class_names: tuple[str, ...],
    input_shape: tuple[int, int, int] | None,
    feature_scale: float,
    feature_zero_point: int,
    info: Mapping[str, Any],
    coding: Coding | None = None,
    crop: float | None = None,
) -> Model:
    """Write a model folder, whole or not at all, and return it loaded.

    An older model folder at `path` is replaced; its model card (README.md) is kept.

    Parameters
    ----------
    path : str or Path
    network, head, head_int8, class_names, input_shape, feature_scale, feature_zero_point, coding, crop
        The attributes of `Model`.
    backbone, full : bytes or None
        The two TFLite files; None where there is none.
    info : mapping
        How the model was made, JSON values; goes to `model.json` under the key ``made``.

    Raises
    ------
    InputError
        `path` holds something else than a model, or cannot be written.
    ModelError
        The parts do not fit each other.
    """
    target = checked_path(path)
    check_replaceable(target)
    given = {"backbone.tflite": backbone, "full.tflite": full, CODING: None if coding is None else coding.to_bytes()}
    parts = {
        **{name: content for name, content in given.items() if content is not None},
        "head.npz": npz_of(head.to_arrays()),
        "head_int8.npz": npz_of(head_int8.to_arrays()),
    }
    description = {
        "format_version": FORMAT_VERSION,
        "network": network,
        "input_shape": None if input_shape is None else list(input_shape),
        "feature_scale": float(feature_scale),
        "feature_zero_point": int(feature_zero_point),
        "class_names": list(class_names),
        **({} if crop is None else {"crop": float(crop)}),
        "made": dict(info),
        "parts": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
    }
    description["sha256"] = identity(description)
    _from_description(target, description, head, head_int8, coding)  # what could not be loaded is not written
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    try:
        write_folder(target, {**parts, DESCRIPTION: text.encode()})
    except OSError as error:
        raise InputError(f"cannot write model {target}: {error.strerror or error}; choose another folder") from error
    return load_model(target)


def check_names(network: str, class_names: Sequence[str]) -> None:
    """Raise InputError where `save_model` would refuse the names, or two are the same, before the work."""
    for what, name in (("network", network), *(("class", name) for name in class_names)):
        if not _is_name(name):
            raise InputError(
                f"{what} {name!r}: expected a name of printable characters, found a line feed or the like; rename it"
            )


def _from_description(
    folder: Path, info: dict[str, Any], head: Head, head_int8: QuantizedHead, coding: Coding | None
) -> Model:
    """Make the model that `model.json` describes; raises ModelError where values or parts do not fit."""
    for key, right in _RIGHT.items():
        if not right(info.get(key)):
            found = short(info.get(key), 80)
            raise ModelError(f"model {folder}: {DESCRIPTION} does not describe a model ({key}: {found}); {AGAIN}")
    shape = info["input_shape"]
    if (shape is None) == ("backbone.tflite" in info["parts"]):
        raise ModelError(f"model {folder}: {DESCRIPTION} has images without a backbone or the other way round; {AGAIN}")
    if coding is not None and len(coding.scale) != head.num_features:
        raise ModelError(
            f"model {folder}: {CODING} is of {len(coding.scale)} features, not {head.num_features}; {AGAIN}"
        )
    names = tuple(info["class_names"])
    kinds = [[(b.rate, b.activation) for b in each.blocks] for each in (head, head_int8)]
    if head.widths != head_int8.widths or kinds[0] != kinds[1] or head.num_classes != len(names):
        raise ModelError(
            f"model {folder}: its parts are of different models: float head {head.widths} "
            f"to {head.num_classes}, int8 head {head_int8.widths}, {len(names)} class names; {AGAIN}"
        )
    return Model(
        path=folder,
        network=info["network"],
        class_names=names,
        input_shape=None if shape is None else (shape[0], shape[1], shape[2]),
        feature_scale=info["feature_scale"],
        feature_zero_point=info["feature_zero_point"],
        head=head,
        head_int8=head_int8,
        sha256=info["sha256"],
        info=info,
        coding=coding,
        crop=info.get("crop"),
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()  # names reach the terminal, where escape codes act


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_IMAGE_SIDE


_RIGHT: dict[str, Callable[[Any], bool]] = {
    "network": _is_name,
    "input_shape": lambda x: x is None or (type(x) is list and len(x) == 3 and all(map(_is_side, x)) and x[2] == 3),
    "class_names": lambda x: type(x) is list and len(x) > 0 and all(map(_is_name, x)),
    "feature_scale": lambda x: type(x) is float and math.isfinite(x) and x > 0,
    "feature_zero_point": lambda x: type(x) is int and -128 <= x <= 127,
    "crop": lambda x: x is None or (type(x) is float and 0.01 <= x <= 1),
}
"""What each value of `model.json` must be."""


def _read_arrays(folder: Path, name: str, contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    try:
        return read_npz(io.BytesIO(contents[name]), MAX_HEAD_BYTES)
    except (ValueError, OSError) as error:
        raise ModelError(f"model {folder}: {name} is no array file ({error}); {AGAIN}") from error
