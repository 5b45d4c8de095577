"""From tar files on S3 to features and a Parquet table there by a cluster, one worker killed: as on one machine."""

import io
import json

import numpy as np
import pytest
from places import TINY
from stores import picture, write_tar

from fastuq import cli
from fastuq.cache import FeatureCache

for library in ("distributed", "pyarrow.parquet"):
    pytest.importorskip(library, reason="needs Dask and pyarrow: pip install 'fastuq[distributed,parquet]'")


def test_from_tars_to_parquet_with_a_worker_killed(store, dying_cluster, workplace):
    import pyarrow.parquet as pq

    address, dying = dying_cluster
    for number in range(3):
        members = {
            f"{n:03}.{kind}": picture(n) if kind == "png" else str(n % 100)
            for n in range(40 * number, 40 * (number + 1))
            for kind in ("png", "cls")
        }
        store.put(f"cluster/in/t-{number}.tar", write_tar(workplace / f"t-{number}.tar", members))
    features, table = f"{store.bucket}/cluster/features", f"{store.bucket}/cluster/table.parquet"
    there = ["--model", str(TINY), "--scheduler", address, "--json", "done.json"]
    make = ["cache-features", f"{store.bucket}/cluster/in/t-*.tar", "--batch-size", "9", "--output", features, *there]
    assert cli.main(make) == 0
    assert dying.wait(60) == -9
    done = json.loads((workplace / "done.json").read_text())
    assert (done["shards"], done["num_samples"], done["computed"]) == (3, 120, 120 - 2 * 9)
    assert cli.main(["score", "--cache", features, "--csv", table, *there]) == 0
    assert cli.main(["cache-features", "t-*.tar", "--model", str(TINY), "--output", "one.h5"]) == 0
    assert cli.main(["score", "--cache", "one.h5", "--model", str(TINY), "--csv", "one.parquet"]) == 0
    with FeatureCache.open("one.h5") as one, FeatureCache.open(features) as many:
        assert np.array_equal(many.read(0, 120), one.read(0, 120))
    found = pq.read_table(io.BytesIO(store.get("cluster/table.parquet")))
    assert found.equals(pq.read_table("one.parquet"))
    assert not [name for name in store.names("cluster/") if "partial" in name]
