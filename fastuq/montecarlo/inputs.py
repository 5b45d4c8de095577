"""What the engine is given: features and what is added to outputs, checked."""

import numpy as np

from fastuq.errors import InputError


def check_features(features: np.ndarray, width: int) -> None:
    """Raise InputError where the features are not int8 (N, width)."""
    if getattr(features, "dtype", None) != np.int8 or features.ndim != 2 or features.shape[1] != width:
        found = f"{getattr(features, 'dtype', type(features).__name__)} {getattr(features, 'shape', '')}".strip()
        raise InputError(
            f"features: expected int8 (N, {width}), found {found}; use the features of this model's backbone"
        )


def checked_addend(addend: np.ndarray | None, samples: int, classes: int) -> np.ndarray:
    """Return an addend as kernels take it, (N, C) or (0, C) float32; raises InputError for another shape."""
    added = np.ascontiguousarray(np.empty((0, classes)) if addend is None else addend, np.float32)
    if addend is not None and added.shape != (samples, classes):
        raise InputError(f"addend: expected ({samples}, {classes}) numbers, found {added.shape}")
    return added
