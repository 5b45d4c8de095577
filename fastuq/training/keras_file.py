"""Keras networks from files: what can be refused is refused from the file alone, before TensorFlow is loaded."""

import json
import zipfile
from pathlib import Path
from typing import Any

from fastuq.errors import InputError, short
from fastuq.training.keras_config import AGAIN, check_ends, check_precision, check_tail, dropout_like
from fastuq.training.keras_h5 import classes_of_keras2, config_of_h5
from fastuq.training.tensorflow import silence, tensorflow
from fastuq.training.wishes import Wishes

_MAX_CONFIG = 2**26
_HDF5 = b"\x89HDF\r\n\x1a\n"
KINDS = "a network saved by Keras 3 as a .keras file, or an .h5 file of layers that Keras 3 knows"


def check_file(path: Path, shape: tuple[int, ...] | None = None, wishes: Wishes | None = None) -> dict[str, str]:
    """Refuse what is no network that can be read, without TensorFlow.

    Parameters
    ----------
    path : Path
    shape : tuple of int, optional
        Of the images that the network must take, (H, W, 3).
    wishes : Wishes, optional
        Whether the network can be cut as wished is looked at too, as far as its configuration says.

    Returns
    -------
    dict
        Class name, as registered in the file, of each layer that has code of its own but says that it is a dropout; and
        that class name without its package.

    Raises
    ------
    InputError
        The file is missing, damaged, of another format, has code of its own, or is no network from images to an output.
    """
    if path.is_dir() and (path / "saved_model.pb").is_file():
        raise InputError(
            f"network {path}: a SavedModel is a program without layers, and cannot be cut; save the model as a .keras "
            "file (model.save('m.keras')) where it was made, or convert it to an int8 .tflite file and import that"
        )
    if path.suffix not in (".keras", ".h5", ".hdf5") or not path.is_file():
        problem = "is no .keras or .h5 file" if path.exists() else "is not there"
        raise InputError(f"network {path}: {problem}; give {KINDS}")
    try:
        config = _config(path)
        check_ends(path, config, shape)
        check_precision(path, config)
        found = dropout_like(path, config)
        if wishes is not None:
            check_tail(path, config, wishes)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"network {path}: its configuration is damaged ({short(error, 80)}); {AGAIN}") from None
    return found


def _config(path: Path) -> Any:
    """Return the configuration of the network in a file."""
    if path.suffix != ".keras":
        if _first_bytes(path) != _HDF5:
            raise InputError(f"network {path}: truncated, or not saved by Keras as an .h5 file; {AGAIN}")
        return config_of_h5(path, _MAX_CONFIG)
    if not _is_whole(path):
        raise InputError(f"network {path}: truncated, or not saved by Keras 3 as a .keras file; {AGAIN}")
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _MAX_CONFIG:
            raise ValueError(f"more than {_MAX_CONFIG} bytes")
        return json.loads(archive.read("config.json"))


def load_network(path: Path, dropouts: dict[str, str] | None = None) -> Any:
    """Return the Keras network of a file, read in Keras's safe mode, which runs no code from the file.

    Parameters
    ----------
    path : Path
    dropouts : dict, optional
        What `check_file` returned; called before where it is not given.

    Raises
    ------
    InputError
        Keras cannot read it.
    """
    names = check_file(path) if dropouts is None else dropouts
    tensorflow()
    import keras

    def stand_in(name: str) -> type:
        return type(name, (keras.layers.Dropout,), {})

    custom = {registered: stand_in(name) for registered, name in names.items()}
    if path.suffix != ".keras":
        custom |= classes_of_keras2()
    try:
        with silence():
            return keras.models.load_model(path, custom_objects=custom, compile=False, safe_mode=True)
    except Exception as error:  # What a foreign archive makes Keras raise is not one kind.
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"network {path}: expected a file without code of its own ({reason}); give {KINDS}") from error


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_HDF5))
    except OSError as error:
        raise InputError(f"network {path}: cannot be read ({error.strerror}); mend it and run again") from error


def _is_whole(path: Path) -> bool:
    """Return whether a file is an archive with the members of a .keras file, their checksums right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"config.json", "model.weights.h5"} <= set(archive.namelist()) and archive.testzip() is None
    except Exception:  # what a damaged archive raises is not one kind
        return False
