"""Keras networks from files: what can be refused is refused from the file alone, before TensorFlow is loaded."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastuq.errors import InputError, short
from fastuq.training.tensorflow import silence, tensorflow

_HDF5 = b"\x89HDF\r\n\x1a\n"
_DROPOUT_KEYS = {"name", "trainable", "dtype", "rate", "seed", "noise_shape"}
_AGAIN = "save or copy it again"
KINDS = "a network saved by Keras 3 as a .keras file, or an .h5 file of layers that Keras 3 knows"


def check_file(path: Path) -> dict[str, str]:
    """Refuse what is no network that can be read, without TensorFlow.

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
        problem = f"is no {path.suffix or '.keras'} file" if path.exists() else "is not there"
        raise InputError(f"network {path}: {problem}; give {KINDS}")
    if path.suffix != ".keras":
        if _first_bytes(path) != _HDF5:
            raise InputError(f"network {path}: truncated, or not saved by Keras as an .h5 file; {_AGAIN}")
        return {}
    if not _is_whole(path):
        raise InputError(f"network {path}: truncated, or not saved by Keras 3 as a .keras file; {_AGAIN}")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"network {path}: its config.json is damaged ({short(error, 80)}); {_AGAIN}") from None
    _check_ends(path, config)
    return _dropout_like(path, config)


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


def _check_ends(path: Path, config: Any) -> None:
    """Refuse what is no network from images to one output, as far as the configuration says; Keras checks the rest."""
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict):
        raise InputError(f"network {path}: its config.json describes no network; {_AGAIN}")
    kind = config.get("class_name")
    if kind not in ("Functional", "Sequential", "Model") or _is_foreign(config):
        raise InputError(
            f"network {path}: is a {kind}, which is code of its own; expected a file without code of its own: build "
            "the network as keras.Sequential or from keras.Input to keras.Model, and save it again"
        )
    for what in ("input", "output"):
        count = _count(inner.get(f"{what}_layers"))
        if count > 1:
            raise InputError(
                f"network {path}: expected one {what}, found {count}; save the part from images to classes"
            )
    shape = next((s for entry in _layers(config) if (s := _image_shape(entry)) is not None), None)
    if shape is not None and (len(shape) != 4 or shape[3] not in (1, 3)):
        raise InputError(
            f"network {path}: takes inputs {tuple(shape[1:])}, expected images (H, W, 3) or (H, W, 1); for other data, "
            "bring the features before the first dropout as an array"
        )


def _count(ends: Any) -> int:
    """Return how many tensors `input_layers` or `output_layers` lists."""
    if isinstance(ends, dict):
        return len(ends)
    if not isinstance(ends, list):
        return 1
    return 1 if len(ends) == 3 and isinstance(ends[0], str) else len(ends)


def _image_shape(entry: dict[str, Any]) -> list[Any] | None:
    settings = entry.get("config")
    shape = settings.get("batch_shape") if isinstance(settings, dict) else None
    return shape if isinstance(shape, list) else None


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """Yield the entries of all layers, those of nested networks too."""
    inner = config.get("config")
    for entry in inner.get("layers") or [] if isinstance(inner, dict) else []:
        if isinstance(entry, dict):
            yield entry
            yield from _layers(entry)


def _is_foreign(entry: dict[str, Any]) -> bool:
    """Return whether a class is not one of Keras's own."""
    module = entry.get("module")
    return not (isinstance(module, str) and (module == "keras" or module.startswith("keras.")))


def _dropout_like(path: Path, config: Any) -> dict[str, str]:
    """Return the classes that `check_file` returns; raises InputError for other code of the network's own."""
    found = {}
    for entry in _layers(config):
        kind, settings = str(entry.get("class_name")), entry.get("config")
        settings = settings if isinstance(settings, dict) else {}
        if kind != "Lambda" and not _is_foreign(entry):
            continue
        if kind != "Lambda" and "dropout" in kind.lower() and {"rate"} <= set(settings) <= _DROPOUT_KEYS:
            found[str(entry.get("registered_name") or kind)] = kind
            continue
        raise InputError(
            f"network {path}: layer {settings.get('name')} ({kind}) has code of its own, which is not run; expected a "
            "file without code of its own: build it from layers of Keras, leave it out, or export an int8 .tflite"
        )
    return found
