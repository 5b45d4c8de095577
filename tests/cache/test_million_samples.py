"""A million samples, written, verified, scored and put on a page within bounded memory."""

import json
import subprocess
import sys

import pytest

LOAD = """
import json, sys
import caches, numpy as np, fastuq.model.backbone
from fastuq.datasets import ImageSet
from fastuq.cache import FeatureCache, cache_features
from fastuq.cache.file import CacheFile
from fastuq.report.page.write import save_report
from fastuq.scoring.scoring import score

class Drawn(fastuq.model.backbone.Backbone):
    "Features drawn from the number in the first pixels, in place of a network."
    def __call__(self, images):
        numbers = images[:, 0, 0, :].astype(np.int64) @ np.array([1, 256, 65536])
        return (numbers[:, None] * np.arange(3, 35) % 251 - 128).astype(np.int8)

class Numbered:
    shape, dtype = (1_000_000, 32, 32, 3), np.dtype(np.uint8)
    def __len__(self):
        return self.shape[0]
    def __getitem__(self, key):
        numbers = np.arange(*key.indices(len(self)))
        pixels = np.zeros((len(numbers), 32, 32, 3), np.uint8)
        for channel in range(3):
            pixels[:, 0, 0, channel] = numbers >> 8 * channel & 255
        return pixels

def peak():
    # Not ru_maxrss: a process inherits that of the one that started it.
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024

fastuq.model.backbone.Backbone = Drawn
model, images = caches.tiny_model(), ImageSet(Numbered(), np.arange(1_000_000) % 100, None, "million")
before = peak()
cache_features(images, model, sys.argv[1]).close()
written = peak()
file = CacheFile(sys.argv[1])
pending = file.pending()
file.close()
with FeatureCache.open(sys.argv[1], model=model, images=images) as cache:
    row = cache.read(765_432, 765_433)[0].tolist()
    verified = peak()
    result = score(model, cache, details=False)
    scored = peak()
    save_report(sys.argv[2], result, model, cache, images)
print(json.dumps({"growth_mb": verified - before, "scored_mb": scored - before, "page_mb": peak() - before,
                  "pending": pending, "row": row, "n": len(result)}))
"""


@pytest.mark.torture
def test_a_million_samples(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "million.h5", tmp_path / "page.html"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["pending"] == []
    assert found["n"] == 1_000_000
    assert found["row"] == [(765_432 * factor % 251) - 128 for factor in range(3, 35)]
    assert found["growth_mb"] < 200
    assert found["scored_mb"] < 1000
    assert found["page_mb"] < 1000
    assert (tmp_path / "page.html").stat().st_size < 4 * 2**20
