"""Writes the golden pixels of the corruptions anew, for a new corruption or a reviewed change of the pixels."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from golden_corruptions import PIXELS, describe, versions

from fastuq.datasets import open_images
from fastuq.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt

pictures = np.asarray(open_images("bundled").images)
pixels = {name: [describe(corrupt(pictures, name, severity)) for severity in SEVERITIES] for name in CORRUPTIONS}
PIXELS.write_text(json.dumps({"versions": versions(), "pixels": pixels}, indent=1) + "\n")
