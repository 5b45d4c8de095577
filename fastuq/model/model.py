"""The model folder: load, check, save.

A folder holds `backbone.tflite`, `full.tflite`, `head.npz`, `head_int8.npz` and `model.json`, which says what they are
and carries the SHA-256 of each. Further heads are `head_2.npz`, `head_2_int8.npz` and so on. A model of embeddings has
`features.npz` in place of the networks, and one whose head was put on a tensor no `full.tflite`. The identity of a
model is the SHA-256 over the sorted lines ``name:sha256`` of its parts and of what `model.json` says, so no part can
change unseen.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.errors import InputError, ModelError
from fastuq.model.coding import Coding
from fastuq.model.description import HeadPair, check_heads, check_values
from fastuq.model.folder import (
    AGAIN,
    CODING,
    DESCRIPTION,
    FORMAT_VERSIONS,
    FULL,
    MAX_HEAD_BYTES,
    check_replaceable,
    head_names,
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
    others : tuple of (Head, QuantizedHead)
        Further heads on the same features: a model of several heads is scored as all of them together.
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
    others: tuple[HeadPair, ...] = ()

    def __repr__(self) -> str:
        takes = f"images {self.input_shape}" if self.input_shape else "embeddings"
        heads = f"{1 + len(self.others)} heads, " if self.others else ""
        return (
            f"Model({str(self.path)!r}, network={self.network!r}, {len(self.class_names)} classes, "
            f"{takes}, {self.head.num_features} features, {heads}sha256={self.sha256[:12]!r})"
        )

    @property
    def members(self) -> tuple["Model", ...]:
        """The model with each of its heads alone."""
        alone = replace(self, others=())
        return (alone, *(replace(alone, head=head, head_int8=rounded) for head, rounded in self.others))

    def check_one_head(self, what: str) -> None:
        """Raise ModelError where the model has several heads and `what` is made for one."""
        if self.others:
            raise ModelError(
                f"{what}: expected a model of one head, found one of {1 + len(self.others)} heads; give another model, "
                "or one of `Model.members`"
            )

    @property
    def backbone_path(self) -> Path:
        """The int8 backbone: uint8 images -> int8 features."""
        return self.path / "backbone.tflite"

    @property
    def full_path(self) -> Path:
        """The int8 backbone and head: uint8 images -> int8 class outputs."""
        return self.path / FULL

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
        if FULL not in self.info["parts"]:
            raise ModelError(
                f"model {self.path}: has no {FULL}: it was left out, or head and backbone never were one network"
            )
        return read_part(self.path, FULL, self.info)

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
    count = sum(name.startswith("head") for name in contents) // 2
    heads = [_read_heads(folder, contents, number) for number in range(count)]
    coding = Coding.from_bytes(contents[CODING], MAX_HEAD_BYTES) if CODING in contents else None
    return _from_description(folder, info, heads, coding)


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
    others: Sequence[HeadPair] = (),
) -> Model:
    """Write a model folder, whole or not at all, and return it loaded.

    An older model folder at `path` is replaced; its model card (README.md) is kept.

    Parameters
    ----------
    path : str or Path
    network, head, head_int8, class_names, input_shape, feature_scale, feature_zero_point, coding, crop, others
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
    given = {"backbone.tflite": backbone, FULL: full, CODING: None if coding is None else coding.to_bytes()}
    heads = [(head, head_int8), *others]
    parts = {name: content for name, content in given.items() if content is not None}
    for number, pair in enumerate(heads):
        parts |= {name: npz_of(each.to_arrays()) for name, each in zip(head_names(number), pair, strict=True)}
    description = {
        "format_version": FORMAT_VERSIONS[len(heads) > 1],
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
    _from_description(target, description, heads, coding)  # what could not be loaded is not written
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    try:
        write_folder(target, {**parts, DESCRIPTION: text.encode()})
    except OSError as error:
        raise InputError(f"cannot write model {target}: {error.strerror or error}; choose another folder") from error
    return load_model(target)


def _from_description(folder: Path, info: dict[str, Any], heads: Sequence[HeadPair], coding: Coding | None) -> Model:
    """Make the model that `model.json` describes; raises ModelError where values or parts do not fit."""
    check_values(folder, info)
    names = tuple(info["class_names"])
    check_heads(folder, heads, len(names))
    (head, head_int8), *others = heads
    if coding is not None and len(coding.scale) != head.num_features:
        raise ModelError(
            f"model {folder}: {CODING} is of {len(coding.scale)} features, not {head.num_features}; {AGAIN}"
        )
    return Model(
        path=folder,
        network=info["network"],
        class_names=names,
        input_shape=None if (shape := info["input_shape"]) is None else (shape[0], shape[1], shape[2]),
        feature_scale=info["feature_scale"],
        feature_zero_point=info["feature_zero_point"],
        head=head,
        head_int8=head_int8,
        sha256=info["sha256"],
        info=info,
        coding=coding,
        crop=info.get("crop"),
        others=tuple(others),
    )


def _read_heads(folder: Path, contents: Mapping[str, bytes], number: int) -> HeadPair:
    first, second = (_read_arrays(folder, name, contents) for name in head_names(number))
    return Head.from_arrays(first), QuantizedHead.from_arrays(second)


def _read_arrays(folder: Path, name: str, contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    try:
        return read_npz(io.BytesIO(contents[name]), MAX_HEAD_BYTES)
    except (ValueError, OSError) as error:
        raise ModelError(f"model {folder}: {name} is no array file ({error}); {AGAIN}") from error
