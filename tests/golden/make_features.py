"""Writes the golden feature cache and moments file of the present format version.

A file of a format version is made once and never again: the tests show that what was written then is still read.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

import caches  # noqa: E402

from fastuq.report.moments_file import save_moments  # noqa: E402
from fastuq.scoring.scoring import score  # noqa: E402

caches.write(HERE / "feature_cache_1.h5", count=20, batch_size=8)
save_moments(HERE / "moments_1.h5", score(caches.tiny_model(), caches.features(20), labels=caches.images(20).labels))
