"""The files of a model folder: each read once and checked, all written whole or not at all."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastuq.errors import InputError, ModelError, short
from fastuq.util.files import partial_prefix
from fastuq.util.json_reading import read_json

FORMAT_VERSIONS = (1, 2)
"""Of a model with one head, and with several."""
MAX_HEADS = 100
HEADS = ("head.npz", "head_int8.npz")
FULL = "full.tflite"
PARTS = ("backbone.tflite", FULL, *HEADS)
"""What a model folder of images holds; the heads are always there."""
CODING = "features.npz"
"""What a model of embeddings has in place of the networks."""
DESCRIPTION = "model.json"
CARD = "README.md"
_FURTHER = re.compile(r"head_([2-9]|[1-9]\d|100)(_int8)?\.npz")
MAX_NETWORK_BYTES = 2**30
"""Largest TFLite file that is read."""
MAX_HEAD_BYTES = 2**28
"""Largest head, packed or unpacked."""
AGAIN = "copy or `fastuq download` it again, or make it again with `fastuq train`"


def read_description(folder: Path) -> dict[str, Any]:
    """Return `model.json`, its format version, list of parts and own checksum checked.

    Raises
    ------
    ModelError
        The file is missing, altered, foreign or of another format version.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        problem = f"has no {DESCRIPTION}" if folder.is_dir() else "is not there"
        raise ModelError(f"model {folder}: {problem}; expected a model folder as `fastuq train` writes it")
    try:
        info = read_json(file)
        version = info["format_version"]
        parts = sorted(info["parts"].keys())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model {folder}: {DESCRIPTION} is damaged or not fastuq's ({short(error, 80)}); {AGAIN}"
        ) from error
    if version not in FORMAT_VERSIONS:
        raise ModelError(
            f"model {folder}: {DESCRIPTION}: expected format version 1 or 2, found {short(version, 80)}; "
            "it was written by another version of fastuq: use that one, or make the model again"
        )
    further = [part for part in parts if _FURTHER.fullmatch(part)]
    known = {*PARTS, CODING, *further}
    whole = {*HEADS, *(name for number in range((len(further) + 1) // 2) for name in head_names(number + 1))}
    if not whole <= set(parts) <= known or ("backbone.tflite" in parts) == (CODING in parts):
        raise ModelError(f"model {folder}: {DESCRIPTION} lists other parts than {', '.join(PARTS)}; {AGAIN}")
    if info.get("sha256") != identity(info):
        raise ModelError(f"model {folder}: {DESCRIPTION} was altered after it was saved; {AGAIN}")
    return info


def head_names(number: int) -> tuple[str, str]:
    """Return the names of the float and the int8 head of this number, from 0."""
    return HEADS if number == 0 else (f"head_{number + 1}.npz", f"head_{number + 1}_int8.npz")


def read_part(folder: Path, name: str, info: Mapping[str, Any]) -> bytes:
    """Return the content of a part after checking its SHA-256: what is checked is what is used.

    Raises
    ------
    ModelError
        The part is missing, no file, altered or truncated.
    """
    file, limit = folder / name, MAX_NETWORK_BYTES if name.endswith(".tflite") else MAX_HEAD_BYTES
    try:
        size = file.stat().st_size
        if not file.is_file() or size > limit:
            raise ModelError(f"model {folder}: {name} is no file of at most {limit} bytes; {AGAIN}")
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"model {folder}: cannot read {name} ({error.strerror}); {AGAIN}") from error
    expected, found = info["parts"][name], hashlib.sha256(content).hexdigest()
    if expected != found:
        raise ModelError(
            f"model {folder}: {name} is not the file that was saved (expected SHA-256 {str(expected)[:12]}, "
            f"found {found[:12]}); it was altered or truncated; {AGAIN}"
        )
    return content


def identity(info: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the sorted lines ``name:sha256`` of the parts and of what `model.json` says."""
    said = {key: value for key, value in info.items() if key != "sha256"}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    digests = {**info["parts"], DESCRIPTION: hashlib.sha256(canonical).hexdigest()}
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_replaceable(target: Path) -> None:
    """Raise InputError unless `target` can be made, is an empty folder or holds nothing but a model."""
    parent = next(p for p in target.absolute().parents if p.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        problem = "is not writable" if parent.is_dir() else "is a file"
        raise InputError(f"cannot write model {target}: {parent} {problem}; choose another folder")
    if not target.exists():
        return
    known = {*PARTS, CODING, DESCRIPTION, CARD}
    there = [p.name for p in target.iterdir() if not _FURTHER.fullmatch(p.name)] if target.is_dir() else [target.name]
    foreign = sorted(name for name in there if name not in known) if target.is_dir() else there
    if foreign:
        raise InputError(
            f"model {target}: would replace {foreign[0]!r}, which is no part of a model; choose another path"
        )


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` as the folder `target`, in place of an older one, whose model card is kept; may raise OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=partial_prefix(target.name), dir=target.parent) as work:
        new, old = Path(work, "new"), Path(work, "old")
        new.mkdir()
        for name, data in files.items():
            with (new / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if (target / CARD).is_file():
            shutil.copy2(target / CARD, new / CARD)
        try:
            if target.exists():
                target.replace(old)
            new.replace(target)
        finally:
            if old.exists() and not target.exists():
                old.replace(target)
