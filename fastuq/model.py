"""The model folder: load, check, save.

A folder holds `backbone.tflite`, `full.tflite`, `head.npz`, `head_int8.npz` and `model.json`, which says what they are
and carries the SHA-256 of each. The identity of a model is the SHA-256 over the sorted lines ``name:sha256`` of its
parts and of what `model.json` says, so no part can change unseen.
"""

import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fastuq.bundled import bundled_path
from fastuq.errors import InputError, ModelError
from fastuq.files import sha256_file
from fastuq.head import Head
from fastuq.quantized_head import QuantizedHead

FORMAT_VERSION = 1
PARTS = ("backbone.tflite", "full.tflite", "head.npz", "head_int8.npz")
DESCRIPTION = "model.json"
CARD = "README.md"
_AGAIN = "copy the folder again or make it again with `fastuq train`"


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
    input_shape : (int, int, int)
        Height, width and channels of the uint8 images that the backbone takes.
    feature_scale : float
    feature_zero_point : int
        real = feature_scale * (q - feature_zero_point).
    head : Head
    head_int8 : QuantizedHead
    sha256 : str
        The identity of the model, see the module.
    info : dict
        `model.json`.
    """

    path: Path
    network: str
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    feature_scale: float
    feature_zero_point: int
    head: Head
    head_int8: QuantizedHead
    sha256: str
    info: dict[str, Any]

    @property
    def backbone_path(self) -> Path:
        """The int8 backbone: uint8 images -> int8 features."""
        return self.path / "backbone.tflite"

    @property
    def full_path(self) -> Path:
        """The int8 backbone and head: uint8 images -> int8 class outputs."""
        return self.path / "full.tflite"

    def dequantize(self, features_int8: np.ndarray) -> np.ndarray:
        """Return int8 features (N, D) as float32 real values."""
        codes = features_int8.astype(np.float32) - np.float32(self.feature_zero_point)
        return codes * np.float32(self.feature_scale)


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
    """
    folder = bundled_path("model") if path is None else Path(path)
    info = _read_description(folder)
    for name in PARTS:
        expected, found = info["parts"].get(name), _part_sha256(folder / name)
        if expected != found:
            raise ModelError(
                f"model {folder}: {name} is not the file that was saved (expected SHA-256 {str(expected)[:12]}, "
                f"found {found[:12]}); it was altered or truncated; {_AGAIN}"
            )
    if info.get("sha256") != _identity(info):
        raise ModelError(f"model {folder}: {DESCRIPTION} was altered after it was saved; {_AGAIN}")
    model = _from_description(folder, info)
    _check_fit(folder, model.head, model.head_int8, model.class_names)
    return model


def save_model(
    path: str | Path,
    *,
    network: str,
    backbone: bytes,
    full: bytes,
    head: Head,
    head_int8: QuantizedHead,
    class_names: tuple[str, ...],
    input_shape: tuple[int, int, int],
    feature_scale: float,
    feature_zero_point: int,
    info: Mapping[str, Any],
) -> Model:
    """Write a model folder, whole or not at all, and return it loaded.

    An older model folder at `path` is replaced; its model card (README.md) is kept.

    Parameters
    ----------
    path : str or Path
    backbone, full : bytes
        The two TFLite files.
    info : mapping
        How the model was made, JSON values; goes to `model.json` under the key ``made``.

    Other parameters are the attributes of `Model`.

    Raises
    ------
    InputError
        `path` holds something else than a model, or cannot be written.
    ModelError
        The parts do not fit each other.
    """
    target = Path(path)
    _check_replaceable(target)
    _check_fit(target, head, head_int8, class_names)
    parts = {
        "backbone.tflite": backbone,
        "full.tflite": full,
        "head.npz": _npz(head.to_arrays()),
        "head_int8.npz": _npz(head_int8.to_arrays()),
    }
    description = {
        "format_version": FORMAT_VERSION,
        "network": network,
        "input_shape": list(input_shape),
        "feature_scale": float(feature_scale),
        "feature_zero_point": int(feature_zero_point),
        "class_names": list(class_names),
        "made": dict(info),
        "parts": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
    }
    description["sha256"] = _identity(description)
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    try:
        _write_folder(target, {**parts, DESCRIPTION: text.encode()})
    except OSError as error:
        raise InputError(f"cannot write model {target}: {error.strerror or error}; choose another folder") from error
    return load_model(target)


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if not file.is_file():
        problem = f"has no {DESCRIPTION}" if folder.is_dir() else "is not there"
        raise ModelError(f"model {folder}: {problem}; expected a model folder as `fastuq train` writes it")
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        version = info["format_version"]
        info["parts"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"model {folder}: {DESCRIPTION} is damaged or not fastuq's ({error}); {_AGAIN}") from error
    if version != FORMAT_VERSION:
        raise ModelError(
            f"model {folder}: expected format version {FORMAT_VERSION}, found {version}; "
            "it was written by another version of fastuq: use that one, or make the model again"
        )
    return info


def _from_description(folder: Path, info: dict[str, Any]) -> Model:
    try:
        height, width, channels = (int(n) for n in info["input_shape"])
        scale = float(info["feature_scale"])
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"feature_scale {scale}")
        return Model(
            path=folder,
            network=str(info["network"]),
            class_names=tuple(str(name) for name in info["class_names"]),
            input_shape=(height, width, channels),
            feature_scale=scale,
            feature_zero_point=int(info["feature_zero_point"]),
            head=Head.from_arrays(_read_npz(folder / "head.npz")),
            head_int8=QuantizedHead.from_arrays(_read_npz(folder / "head_int8.npz")),
            sha256=info["sha256"],
            info=info,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"model {folder}: {DESCRIPTION} does not describe a model ({error}); {_AGAIN}") from error


def _check_fit(folder: Path, head: Head, head_int8: QuantizedHead, class_names: tuple[str, ...]) -> None:
    if head.widths != head_int8.widths or head.num_classes != len(class_names):
        raise ModelError(
            f"model {folder}: its parts are of different models: float head {head.widths} "
            f"to {head.num_classes}, int8 head {head_int8.widths}, {len(class_names)} class names; {_AGAIN}"
        )


def _part_sha256(file: Path) -> str:
    try:
        return sha256_file(file)
    except OSError as error:
        raise ModelError(f"model {file.parent}: cannot read {file.name} ({error.strerror}); {_AGAIN}") from error


def _identity(info: Mapping[str, Any]) -> str:
    said = {key: value for key, value in info.items() if key != "sha256"}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    digests = {**info["parts"], DESCRIPTION: hashlib.sha256(canonical).hexdigest()}
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ModelError(f"model {file.parent}: {file.name} is no array file ({error}); {_AGAIN}") from error


def _check_replaceable(target: Path) -> None:
    """Raise InputError unless `target` is absent, an empty folder or a folder with nothing but a model."""
    if not target.exists():
        return
    known = {*PARTS, DESCRIPTION, CARD}
    foreign = sorted(p.name for p in target.iterdir() if p.name not in known) if target.is_dir() else [target.name]
    if foreign:
        raise InputError(
            f"model {target}: would replace {foreign[0]!r}, which is no part of a model; choose another path"
        )


def _write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as work:
        new, old = Path(work, "new"), Path(work, "old")
        new.mkdir()
        for name, data in files.items():
            with (new / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if (target / CARD).is_file():
            shutil.copy2(target / CARD, new / CARD)
        if target.exists():
            target.replace(old)
        new.replace(target)
