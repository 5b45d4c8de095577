"""What a file that fastuq made is: known by its content alone, and described."""

import csv
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache.feature_cache import FeatureCache
from fastuq.cache.file import CacheFile
from fastuq.cache.manifest import MANIFEST
from fastuq.cache.sealed import open_file, read_seal
from fastuq.datasets.checksums import RECORD, read_record
from fastuq.errors import FastUQError, InputError, MissingExtraError, short
from fastuq.model.folder import DESCRIPTION
from fastuq.model.head import Head
from fastuq.model.head_file import load_head
from fastuq.model.model import Model, load_model
from fastuq.report.about_cache import cache_about, shards_about
from fastuq.report.moments_tables import check_suffix
from fastuq.scoring.calibration.promise import load_promise
from fastuq.util.checks import checked_path
from fastuq.util.json_reading import parse_json, read_json
from fastuq.util.npy import npz_shapes, open_regular, read_npz
from fastuq.util.rawio import read_into

About = dict[str, Any]
_SEAL = b"fastuq "
_PROMISE = b'"format": "fastuq promise'
_PAGE = b'<span class="brand">fastuq</span>'
_TABLES = {
    "table of samples": {"index", "prediction", "decision"},
    "table of splits": {"corruption", "severity", "accuracy_plain"},
    "moments": {"mean_0", "std_0", "keep"},
}
"""Columns by which a CSV is known, or a Parquet that has no moments."""
_ROOM = 2**20
_FIRST_NAME = 60
"""Bytes of a .npz within which its first array is named."""


def about(path: str | Path) -> About:
    """Return what a file or folder that fastuq made is, ready for JSON.

    Returns
    -------
    dict
        ``file``, ``kind``, ``whole`` (False with ``problem`` where it is damaged or not finished), and what there is to
        say of its kind: model, data, shapes, how it was made.

    Raises
    ------
    InputError
        It is nothing that fastuq made.
    """
    path = checked_path(path)
    kind, describe = _kind_of(path)
    said: About = {"file": str(path), "kind": kind, "whole": True}
    try:
        return said | describe(path)
    except MissingExtraError:
        raise
    except FastUQError as error:
        return said | {"whole": False, "problem": str(error)}
    except (ValueError, KeyError, EOFError, csv.Error, OSError) as error:
        return said | _damaged(error)


def _damaged(error: Exception) -> About:
    return {"whole": False, "problem": f"it is damaged ({short(error)}); make it again"}


def _kind_of(path: Path) -> tuple[str, Callable[[Path], About]]:
    """Return what a path leads to and what describes it, by the content alone."""
    try:
        if path.is_dir():
            return _kind_of_folder(path)
        with open(open_regular(path), "rb") as file:
            head = file.read(_ROOM)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    except ValueError:
        raise _foreign(path) from None
    if head.startswith(_SEAL):
        title = head[: head.find(b"\n")].decode("ascii", "replace").removeprefix("fastuq ")
        kind = title.rpartition(" ")[0]
        return (kind, _cache) if kind == "feature cache" else (f"{kind} file"[:80], lambda path: _sealed(path, title))
    if head.startswith(b"PK"):
        return _kind_of_npz(path, head)
    if head.startswith(b"PAR1"):
        return "moments, Parquet", _parquet
    if head.startswith(b"<!") and _PAGE in head:
        return "report page", _page
    if head.startswith(b"{") and _PROMISE in head:
        return "promise", lambda path: load_promise(path).summary()
    if head.startswith((b"{", b"[")) and (figures := _figures(path, head)) is not None:
        return "figures of a command, JSON", lambda path: figures
    return _kind_of_table(path, set(head[: head.find(b"\n")].decode("utf-8", "replace").split(","))), _table


def _kind_of_folder(folder: Path) -> tuple[str, Callable[[Path], About]]:
    if (folder / DESCRIPTION).exists():
        return "model", lambda path: _model(load_model(path))
    if (folder / RECORD).exists():
        return "corrupted images", _corrupted
    if (folder / MANIFEST).exists() or any(folder.glob("shard-*-of-*.h5")):
        return "feature cache in shards", shards_about
    if any(folder.glob("*.h5")):
        return "folder of feature caches", _caches
    raise _foreign(folder)


def _kind_of_npz(path: Path, head: bytes) -> tuple[str, Callable[[Path], About]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if b".npy" not in head[:_FIRST_NAME]:
            raise _foreign(path) from None
        problem = _damaged(error)
        return "arrays, NumPy", lambda path: problem
    if {"layout", "scale", "shift"} <= names:
        return "head", lambda path: _head(load_head(path))
    if {"about", "mean", "std", "keep"} <= names:
        return "moments, NumPy", _npz
    raise _foreign(path)


def _kind_of_table(path: Path, header: set[str]) -> str:
    for kind, columns in _TABLES.items():
        if columns <= header:
            return f"{kind}, CSV"
    raise _foreign(path)


def _foreign(path: Path) -> InputError:
    return InputError(
        f"{path}: expected something that fastuq made (a model folder, feature cache, head, moments, table, figures, "
        "promise or page), found nothing of that kind or a damaged one; check the path"
    )


def _model(model: Model) -> About:
    return {
        "network": model.network,
        "takes": "embeddings" if model.input_shape is None else list(model.input_shape),
        **({} if model.input_shape is None else {"crop": model.crop or "none"}),
        **({"heads": 1 + len(model.others)} if model.others else {}),
        **_head(model.head),
        "class_names": list(model.class_names),
        "sha256": model.sha256,
        "made": model.info.get("made"),
    }


def _head(head: Head) -> About:
    layers = [f"dropout {b.rate} {b.weights.shape[1]} {b.activation}" for b in head.blocks]
    return {"num_features": head.num_features, "num_classes": head.num_classes, "layers": layers}


def _cache(path: Path) -> About:
    file = CacheFile(path)
    try:
        said = cache_about(file)
    finally:
        file.close()
    return {**said, "whole": said["complete"]}


def _caches(folder: Path) -> About:
    """Describe each cache of a folder; shards are whole together."""
    parts = []
    for path in sorted(folder.glob("*.h5")):
        try:
            parts.append(about(path))
        except InputError:
            continue  # another program's
    if not parts:
        raise _foreign(folder)
    whole = all(part["whole"] for part in parts)
    if whole and any(part.get("shard", {}).get("count", 1) > 1 for part in parts):
        FeatureCache.open([part["file"] for part in parts]).close()
    return {"whole": whole, "parts": parts}


def _corrupted(folder: Path) -> About:
    record = read_record(folder) or {}
    missing = [name for name in record["files"] if not (folder / name).is_file()]
    said = {key: value for key, value in record.items() if key != "files"}
    return {**said, "whole": not missing, "files": sorted(record["files"]), "missing": missing}


def _sealed(path: Path, title: str) -> About:
    """Describe moments and other sealed arrays, each of which lies under its SHA-256."""
    descriptor = open_file(path, os.O_RDONLY)
    try:
        seal = read_seal(descriptor, path, title)
        digests = seal.about.get("sha256")
        for name, extent in seal.datasets.items():
            array = np.empty(extent.shape, extent.dtype)
            read_into(descriptor, array, extent.offset)
            if not isinstance(digests, dict) or hashlib.sha256(array.data).hexdigest() != digests.get(name):
                raise ValueError(f"array {name} does not match its SHA-256")
    finally:
        os.close(descriptor)
    arrays = {name: f"{each.dtype} {list(each.shape)}" for name, each in seal.datasets.items()}
    return {"arrays": arrays, "made": {key: value for key, value in seal.about.items() if key != "sha256"}}


def _npz(path: Path) -> About:
    with open(open_regular(path), "rb") as file:
        shapes = npz_shapes(file)
        made = parse_json(str(read_npz(file, _ROOM, lambda names: ["about"])["about"]).encode())
    arrays = {name: f"{dtype} {list(shape)}" for name, (shape, dtype) in shapes.items() if name != "about"}
    return {"arrays": arrays, "made": made}


def _parquet(path: Path) -> About:
    """Describe moments or a table; their values lie under checksums, the description at their end does not."""
    check_suffix(".parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema, samples = file.schema_arrow, file.metadata.num_rows
            for group in range(file.num_row_groups):
                file.read_row_group(group)  # for the checksums
    except pa.ArrowException as error:
        raise ValueError(error) from None
    made = parse_json(schema.metadata[b"fastuq"]) if schema.metadata else None
    arrays = {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
    table = {f"{kind}, Parquet" for kind, columns in _TABLES.items() if columns <= set(schema.names)}
    return {"samples": samples, "arrays": arrays, "made": made} | ({"kind": table.pop()} if table else {})


def _page(path: Path) -> About:
    text = path.read_bytes()
    title = text.partition(b"<title>")[2].partition(b"</title>")[0].decode("utf-8", "replace")
    whole = text.rstrip().endswith(b"</html>")
    problem = {} if whole else {"problem": "expected its last line to be </html>: it was cut off, or something follows"}
    return {"title": title, "bytes": len(text), "whole": whole, **problem}


def _figures(path: Path, head: bytes) -> About | None:
    """Return the figures that a command wrote; None where no version of fastuq and no model stands in them."""
    try:
        said = read_json(path)
    except (ValueError, OSError) as error:
        return _damaged(error) if b'"fastuq_version": ' in head or b'"model_sha256": ' in head else None
    found = said if isinstance(said, dict) else {}
    rows: Any = found.get("rows")
    first = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else found
    if not {"fastuq_version", "model_sha256"} & set(first):
        return None
    return {"figures": found if first is found else {**found, "rows": f"{len(rows)} splits"}}


def _table(path: Path) -> About:
    """Count the rows and what was decided; a table that was cut off has a short last row, or no end of line."""
    rows, kept, problem = 0, 0, ""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file)
        header = next(reader)
        decision = header.index("decision") if "decision" in header else None
        for row in reader:
            rows += 1
            if len(row) != len(header) and not problem:
                problem = f"row {rows}: expected {len(header)} cells, found {len(row)}; it was cut off or changed"
            kept += decision is not None and len(row) > decision and row[decision] == "keep"
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            problem = problem or "its last line has no end: it was cut off or changed"
    counts = {"rows": rows} if decision is None else {"rows": rows, "kept": kept, "ignored": rows - kept}
    return {"whole": not problem, **({"problem": problem} if problem else {}), **counts, "columns": header}
