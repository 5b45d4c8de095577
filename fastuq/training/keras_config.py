"""What the configuration in a .keras file says of a network, as JSON: enough to refuse most of what cannot be taken.

What it does not say, or says in a way that is not known here, is left to Keras.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastuq.errors import InputError
from fastuq.model.folding import LOGITS
from fastuq.training.keras_graph import QUANTIZED
from fastuq.training.keras_steps import KINDS
from fastuq.training.wishes import Wishes

AGAIN = "save or copy it again"
_DROPOUT_KEYS = {"name", "trainable", "dtype", "rate", "seed", "noise_shape"}
_OTHER_DROPOUTS = ("alpha", "gauss", "spatial", "variational", "concrete", "block", "path", "connect", "depth")
"""In the name of a class: another kind than dropping single units."""
_LONGEST = 1000
"""Most layers of a tail that are looked at."""


def check_precision(path: Path, config: Any) -> None:
    """Raise InputError where Keras quantized the weights."""
    for entry in _layers(config):
        dtype = (entry.get("config") or {}).get("dtype")
        if isinstance(dtype, dict) and str(dtype.get("class_name")).startswith("Quantized"):
            raise InputError(f"network {path}: " + QUANTIZED.format(entry["config"].get("name")))


def check_ends(path: Path, config: Any, shape: tuple[int, ...] | None) -> None:
    """Raise InputError for what is no network from images, of this shape where one is given, to one output."""
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict):
        raise InputError(f"network {path}: its configuration describes no network; {AGAIN}")
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
    taken = next((s for entry in _layers(config) if (s := _input_shape(entry)) is not None), None)
    if taken is not None:
        check_input(path, tuple(taken[1:]), shape)


def check_input(path: Path, taken: tuple[Any, ...], shape: tuple[int, ...] | None) -> None:
    """Raise InputError unless inputs without their batch are images, of `shape` where one is given."""
    if len(taken) != 3 or taken[2] not in (1, 3):
        raise InputError(
            f"network {path}: takes inputs {taken}, expected images (H, W, 3) or (H, W, 1); for other data, bring the "
            "features before the first dropout as an array"
        )
    if shape is not None and any(side not in (None, found) for side, found in zip(taken[:2], shape[:2], strict=True)):
        raise InputError(
            f"network {path}: takes images {(*taken[:2], 3)}, found {shape}; give images of that size with --data"
        )


def dropout_like(path: Path, config: Any) -> dict[str, str]:
    """Return the classes of a network's own that say they are dropouts: name as registered -> name.

    Raises
    ------
    InputError
        There is other code of its own.
    """
    found = {}
    for entry in _layers(config):
        kind, settings = str(entry.get("class_name")), entry.get("config")
        settings = settings if isinstance(settings, dict) else {}
        if kind != "Lambda" and not _is_foreign(entry):
            continue
        plain = "dropout" in kind.lower() and not any(word in kind.lower() for word in _OTHER_DROPOUTS)
        if kind != "Lambda" and plain and {"rate"} <= set(settings) <= _DROPOUT_KEYS:
            found[str(entry.get("registered_name") or kind)] = kind
            continue
        raise InputError(
            f"network {path}: layer {settings.get('name')} ({kind}) has code of its own, which is not run; expected a "
            "file without code of its own: build it from layers of Keras, leave it out, or export an int8 .tflite"
        )
    return found


def check_tail(path: Path, config: Any, wishes: Wishes) -> None:
    """Raise InputError where the last layers plainly can be no head: see `fastuq.training.cut`, which looks at all."""
    tail = list(_tail(config))
    ends = next((e for e in tail if e["class_name"] not in _SILENT and not _drops(e)), None)
    if ends is not None and ends["class_name"] in ("Dense", "Conv2D") and wishes.activation is None:
        settings = ends["config"]
        if settings.get("activation") == "linear":
            raise InputError(LOGITS.format(f"{path}: ends in {settings.get('units') or settings.get('filters')}"))
    if wishes.cut is not None or wishes.dropout is not None:
        return
    dense = False
    for entry in tail:
        kind = entry["class_name"]
        if _drops(entry) and kind not in ("AlphaDropout", "GaussianDropout"):
            return
        if kind not in KINDS or _drops(entry):
            lost = [str(e["config"].get("name")) for e in _layers(config) if _drops(e) and e["config"].get("rate")]
            if lost:
                reason = f"layer {entry['config'].get('name')} ({kind}) is no layer that a head can have"
                raise InputError((NO_DROPOUT if dense else NO_HEAD).format(", ".join(lost[:4]), reason))
            return
        dense = dense or kind in ("Dense", "Conv2D")  # a convolution of a map is found out later


NO_HEAD = (
    "head: no dropout of the network ({}) can be in a head: {}; a head ends in dense layers of a vector, and this "
    "network has none: put a Dense layer after its pooling, train that, and import it"
)
NO_DROPOUT = (
    "head: no dropout of the network ({}) can be in a head: {}; give a dropout before the last dense layers with "
    "--dropout RATE"
)
_SILENT = ("Flatten", "Reshape", "Identity", "ActivityRegularization")


def _drops(entry: dict[str, Any]) -> bool:
    return "dropout" in entry["class_name"].lower()


def _tail(config: Any) -> Iterator[dict[str, Any]]:
    """Yield the layers from the output back, of nested networks too, as long as each has one before it."""
    inner = config.get("config") or {}
    layers = [entry for entry in inner.get("layers") or [] if isinstance(entry, dict)]
    if config.get("class_name") == "Sequential":
        for entry in reversed(layers):
            if entry.get("class_name") != "InputLayer":
                yield from _opened(entry)
        return
    names = {entry.get("name"): entry for entry in layers}
    ends = _histories(inner.get("output_layers"))
    for _ in range(_LONGEST):
        found = names.get(ends[0]) if len(ends) == 1 else None
        nodes = (found or {}).get("inbound_nodes") or []
        if found is None or len(nodes) != 1:
            return
        yield from _opened(found)
        ends = _histories(nodes[0])


def _opened(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if entry.get("class_name") in ("Sequential", "Functional", "Model"):
        yield from _tail(entry)
    else:
        yield entry


def _histories(value: Any) -> list[str]:
    """Return the names of the layers that tensors in a configuration come from."""
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        return [value[0]]
    if isinstance(value, dict):
        return _histories(list(value.values()))
    return [name for each in value for name in _histories(each)] if isinstance(value, list) else []


def _count(ends: Any) -> int:
    """Return how many tensors `input_layers` or `output_layers` lists."""
    if isinstance(ends, dict):
        return len(ends)
    if not isinstance(ends, list):
        return 1
    return 1 if len(ends) == 3 and isinstance(ends[0], str) else len(ends)


def _input_shape(entry: dict[str, Any]) -> list[Any] | None:
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
