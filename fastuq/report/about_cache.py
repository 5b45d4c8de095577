"""What a feature cache is, a file or a folder of shards, described."""

from pathlib import Path
from typing import Any

from fastuq.cache.cache_files import CacheFiles
from fastuq.cache.file import CacheFile
from fastuq.errors import CacheError


def cache_about(file: CacheFile) -> dict[str, Any]:
    """Return what a file of a feature cache says of itself."""
    header, written = file.header, file.written()
    return {
        "file": str(file.path),
        "complete": written == header.num_batches,
        "being_written": file.being_written(),
        "batches": header.num_batches,
        "batches_written": written,
        "num_features": file.num_features,
        **header.to_json(),
    }


def shards_about(folder: Path) -> dict[str, Any]:
    """Return what a folder of shards is, and whether each is there and complete."""
    files, problem = CacheFiles.of_folder(folder), {}
    try:
        for place in range(len(files.paths)):
            files.open(place)
    except CacheError as error:
        problem = {"problem": str(error)}
    finally:
        files.close()
    of_files = ("shard", "batch_size", "labels_sha256", "fastuq_version")
    header = {key: value for key, value in files.header.to_json().items() if key not in of_files}
    about = {"file": str(folder), "shards": len(files.paths), "num_features": files.num_features, **header}
    return {**about, "whole": not problem, **problem}
