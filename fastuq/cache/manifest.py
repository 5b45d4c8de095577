"""The manifest of a folder of shards: which files are one cache, and of what; written when all of them are whole."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from fastuq import __version__
from fastuq.errors import CacheError
from fastuq.util.files import write_text
from fastuq.util.json_reading import parse_json, read_json
from fastuq.util.remote import is_remote, read_bytes

MANIFEST = "shards.json"
FORMAT = "fastuq feature shards 1"
"""Kind and version of the format; docs/cache-format.md specifies it."""
MAX_BYTES = 2**24
"""Longest manifest that is read, of 200,000 shards."""
_NAME = re.compile(r"shard-(\d+)-of-(\d+)\.h5")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What the manifest says.

    Attributes
    ----------
    images : str
        Name of the data set.
    model_sha256 : str
    samples : tuple of int
        Of each shard, in order.
    fingerprints : tuple of str
        Data fingerprint of each shard.
    """

    images: str
    model_sha256: str
    samples: tuple[int, ...]
    fingerprints: tuple[str, ...]

    @property
    def num_samples(self) -> int:
        """Number of samples of all shards."""
        return sum(self.samples)

    @property
    def data_fingerprint(self) -> str:
        """SHA-256 over the fingerprints of the shards."""
        return hashlib.sha256("".join(f"{each}\n" for each in self.fingerprints).encode()).hexdigest()

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the first sample of each shard and the one after its last."""
        stops = list(accumulate(self.samples))
        return zip([0, *stops], stops, strict=False)

    def names(self) -> list[str]:
        """Return the names of the files."""
        return [shard_name(number, len(self.samples)) for number in range(1, len(self.samples) + 1)]


def shard_name(index: int, count: int) -> str:
    """Return the name of the file of a shard, counted from 1."""
    return f"shard-{index:05}-of-{count:05}.h5"


def check_folder(folder: Path, count: int) -> None:
    """Raise CacheError unless `count` shards can go into a folder: it is new, empty, or holds shards of that number."""
    try:
        names = [path.name for path in folder.iterdir() if path.name[0] != "."] if folder.exists() else []
    except OSError as error:
        raise CacheError(f"{folder}: expected a folder for shards, found {error.strerror}; choose another") from None
    for name in sorted(names):
        match = _NAME.fullmatch(name)
        if match and int(match[2]) != count:
            raise CacheError(
                f"{folder}: expected a place for {count} shards, found {name}, of a run with {int(match[2])}; "
                "give the shard size of that run, or another folder, or delete this one"
            )
    if names and not any(_NAME.fullmatch(name) for name in names):
        raise CacheError(f"{folder}: expected a new folder for shards, found {min(names)} in it; choose another")


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, whole or not at all."""
    about = {
        "format": FORMAT,
        "fastuq_version": __version__,
        "images": manifest.images,
        "model_sha256": manifest.model_sha256,
        "num_samples": manifest.num_samples,
        "data_fingerprint": manifest.data_fingerprint,
        "samples": list(manifest.samples),
        "fingerprints": list(manifest.fingerprints),
    }
    write_text(folder / MANIFEST, json.dumps({**about, "sha256": _stamp(about)}, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder of shards.

    Raises
    ------
    CacheError
        There is none, it is damaged or of another version, or a file that it counts is not there.
    """
    path = folder / MANIFEST
    try:
        about = _read(path)
        manifest = _checked(about)
    except FileNotFoundError:
        raise _no_manifest(folder) from None
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{path}: expected the manifest of a folder of shards, found a damaged or foreign file ({error}); "
            "run the `fastuq cache-features` command that made the shards again: it keeps what is whole"
        ) from None
    return manifest


def _read(path: Path) -> Any:
    if not is_remote(path):
        return read_json(path, MAX_BYTES)
    if not path.exists():
        raise FileNotFoundError
    return parse_json(read_bytes(str(path), MAX_BYTES), MAX_BYTES)


def _checked(about: Any) -> Manifest:
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise ValueError(f"its format is {str(found)[:40]!r}, not {FORMAT!r}")
    if about.pop("sha256", None) != _stamp(about):
        raise ValueError("its SHA-256 does not match: it was altered after it was written")
    samples, fingerprints = about["samples"], about["fingerprints"]
    if not isinstance(samples, list) or not all(type(n) is int and 0 < n < 2**40 for n in samples):
        raise ValueError("samples are no list of numbers above 0")
    if not isinstance(fingerprints, list) or not all(type(f) is str and _DIGEST.fullmatch(f) for f in fingerprints):
        raise ValueError("fingerprints are no list of SHA-256")
    if not 0 < len(samples) == len(fingerprints):
        raise ValueError(f"samples of {len(samples)} shards and fingerprints of {len(fingerprints)}")
    manifest = Manifest(str(about["images"]), str(about["model_sha256"]), tuple(samples), tuple(fingerprints))
    said = (about["num_samples"], about["data_fingerprint"])
    if said != (manifest.num_samples, manifest.data_fingerprint):
        raise ValueError("number of samples or fingerprint are not those of its shards")
    return manifest


def _stamp(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _no_manifest(folder: Path) -> CacheError:
    found = sum(1 for path in folder.glob("shard-*.h5") if _NAME.fullmatch(path.name))
    if found:
        return CacheError(
            f"{folder}: expected {MANIFEST} beside {found} shards, found none: the run that made them did not end; "
            "the same `fastuq cache-features` command goes on from there"
        )
    return CacheError(
        f"{folder}: expected a feature cache, found a folder without {MANIFEST}; check the path: it is a file, or the "
        "folder that `fastuq cache-features --shard-size` made"
    )
