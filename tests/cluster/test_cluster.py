"""Work on clusters of real processes gives what one machine gives, whoever is killed; what fails is one line."""

import asyncio
import json
import pickle
from dataclasses import fields

import numpy as np
import pytest
import tasks
from commands import refusal
from places import TINY

from fastuq import cli
from fastuq.cache import FeatureCache, cache_features
from fastuq.cluster import connection, luggage, queue
from fastuq.cluster.running import run
from fastuq.errors import BusyError, CacheError, FastUQError, InputError
from fastuq.scoring.result import Result
from fastuq.scoring.scoring import score

pytest.importorskip("distributed", reason="clusters need Dask: pip install 'fastuq[distributed]'")


@pytest.fixture(scope="module")
def client():
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1, "distributed.comm.timeouts.connect": "120s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3)).astype(np.uint8))
    return path


def test_each_item_is_done_by_one_thread_of_some_worker(client, monkeypatch):
    found = dict(run(tasks.square, range(40), client=client))
    assert {place: value[0] for place, value in found.items()} == {n: n**2 for n in range(40)}
    assert {value[1] for value in found.values()} == {1}
    assert len({value[2] for value in found.values()}) == 2
    assert [value[:2] for _, value in run(tasks.square, [3], threads=5)] == [(9, 5)]


def test_shards_of_workers_are_those_of_one_machine(model, images, client, tmp_path):
    pixels = np.load(images)
    with (
        cache_features(pixels, model, tmp_path / "one.h5") as one,
        cache_features(str(images), model, tmp_path / "many", shard_size=60, client=client) as many,
        cache_features(str(images), model, tmp_path / "here", shard_size=60) as here,
    ):
        assert (many.computed, many.data_fingerprint) == (200, here.data_fingerprint)
        assert np.array_equal(many.read(0, 200), one.read(0, 200))
    files = [path.name for path in sorted((tmp_path / "many").iterdir())]
    assert files == [path.name for path in sorted((tmp_path / "here").iterdir())]
    assert all((tmp_path / "many" / name).read_bytes() == (tmp_path / "here" / name).read_bytes() for name in files)
    with cache_features(str(images), model, tmp_path / "many", shard_size=60, client=client) as again:
        assert again.reused


@pytest.mark.parametrize(
    "options",
    [
        {"masks": "per_sample", "views": True},
        {"rule": "score", "score": "energy", "coverage": 0.5, "labels": np.arange(200) % 100},
    ],
)
def test_what_workers_score_is_what_one_machine_scores(model, images, client, tmp_path, monkeypatch, options):
    monkeypatch.setattr("fastuq.scoring.reading.ROWS_AT_ONCE", 64)
    monkeypatch.setattr("fastuq.scoring.spread.AT_ONCE", 64)
    pixels = np.load(images)
    with (
        cache_features(pixels, model, tmp_path / "features", shard_size=50) as cache,
        cache_features(pixels[:, :, ::-1], model, tmp_path / "mirrored.h5") as mirrored,
    ):
        options = options | ({"views": [mirrored]} if options.get("views") else {})
        plain, found = (score(model, cache, num_iter=5, client=by, **options) for by in (None, client))
    for field in fields(Result):
        if field.name != "seconds":
            np.testing.assert_array_equal(getattr(found, field.name), getattr(plain, field.name), field.name)


def test_another_client_is_one_line(client):
    from distributed import Client

    def refused(given, found):
        with pytest.raises(InputError, match=f"expected a connected distributed.Client, found {found}; make one"):
            list(run(tasks.square, [1], client=given))

    async def asynchronous():
        async with Client(address, asynchronous=True, set_as_default=False) as given:
            refused(given, "an asynchronous one")

    address = client.scheduler.address
    refused(address, "str")
    with Client(address, set_as_default=False) as closed:
        pass
    refused(closed, "one that is closed")
    asyncio.run(asynchronous())


def test_arrays_are_not_sent_about(model, client):
    with pytest.raises(InputError, match="make a cache"):
        score(model, np.zeros((3, model.head.num_features), np.int8), client=client)


def test_an_error_of_a_worker_is_that_error(client, monkeypatch):
    with pytest.raises(CacheError, match=r"^worker tcp://127.0.0.1:\d+: no such shard$"):
        list(run(tasks.refused, [0], client=client))
    with pytest.raises(InputError, match=r"piece 1 of 1: a worker failed with PermissionError: .*bucket"):
        list(run(tasks.lost, [0], client=client, unit="piece"))
    monkeypatch.setattr(luggage, "__version__", "0.0")
    with pytest.raises(InputError, match=r"worker .*: expected fastuq 0\.0 and LiteRT .*, found fastuq \d.*install"):
        list(run(tasks.square, [0], client=client))


@pytest.mark.parametrize(("kind", "tries"), [("mistake", 1), ("connection", 3)])
def test_only_what_may_pass_is_tried_again(client, tmp_path, kind, tries):
    with pytest.raises(FastUQError, match=f"^worker .*: {kind} of somebody$"):
        list(run(tasks.counted, [(tmp_path / "log", kind)], client=client))
    assert (tmp_path / "log").read_text() == "x" * tries


def test_what_another_process_holds_comes_last(client, tmp_path):
    log, lock = tmp_path / "log", tmp_path / "shard.h5"
    lock.touch()
    places = []
    for place, _ in run(tasks.held, [(log, lock), *[(log, None)] * 20], client=client):
        places.append(place)
        if len(places) == 20:
            lock.unlink()
    assert places[-1] == 0
    assert log.read_text().split() == ["free"] * 20 + ["held"]


def test_what_stays_held_is_one_line(client, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "HELD", 1.5)
    lock = tmp_path / "shard.h5"
    lock.touch()
    with pytest.raises(BusyError, match=r"worker .*/shard\.h5: another .*nothing else was left .* a worker that hangs"):
        list(run(tasks.held, [(tmp_path / "log", each) for each in (lock, None)], client=client))
    assert (tmp_path / "log").read_text() == "free\n"


def test_workers_open_the_features_of_the_same_model_alone(model, images, tmp_path):
    with cache_features(str(images), model, tmp_path / "features", shard_size=100) as cache:
        cache.model_sha256 = "f" * 64  # as if those of another model had been put at its path
        sent = pickle.dumps(cache)
    with pytest.raises(CacheError, match=f"of model f{{12}}, found one of {model.sha256[:12]}"):
        pickle.loads(sent)


def test_certificates_are_those_that_dask_is_told_of(capsys):
    pytest.importorskip("cryptography", reason="certificates are made with cryptography")
    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    made = Security.temporary()
    files = {"ca-file": made.tls_ca_file, "client.key": made.tls_client_key, "client.cert": made.tls_client_cert}
    told = {f"distributed.comm.tls.{name}": value for name, value in files.items()}
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", security=made
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with dask.config.set(told), connection.connected(address) as found:
            assert list(found.ncores().values()) == [1]


@pytest.mark.parametrize("version", ["0.0", None])
def test_every_machine_has_the_same_fastuq(client, monkeypatch, version):
    found = client.get_versions(packages=["fastuq"])
    next(iter(found["workers"].values()))["packages"]["fastuq"] = version
    monkeypatch.setattr(client, "get_versions", lambda packages: found)
    with pytest.raises(InputError, match=rf"tcp://.*: expected fastuq \d.*, found {version or 'none'}; install"):
        list(run(tasks.square, [0], client=client))


def test_an_item_that_kills_its_workers_is_given_up(client):
    with pytest.raises(InputError, match=r"shard 1 of 1: 2 workers died .*, the last at tcp:.*memory"):
        list(run(tasks.killed, [0], client=client))


def test_nobody_there_is_one_line(monkeypatch, images, capsys, tmp_path):
    monkeypatch.setattr(connection, "SECONDS", 0.5)
    argv = ["cache-features", str(images), "--model", str(TINY), "--output", str(tmp_path / "features")]
    for address in ("tcp://127.0.0.1:1", "10.0.0.1", "http://127.0.0.1:80"):
        assert f"scheduler {address}: expected a Dask scheduler" in refusal(capsys, [*argv, "--scheduler", address])
    assert "expected --cache" in refusal(capsys, ["score", str(images), "--scheduler", "tcp://127.0.0.1:1"])
    assert not (tmp_path / "features").exists()


def test_a_worker_that_is_killed_in_a_shard_has_it_done_by_another(dying_cluster, images, model, tmp_path, capsys):
    """Scheduler and workers are the commands; the killed one leaves two batches of a shard, where the other goes on."""
    (address, dying), folder = dying_cluster, tmp_path / "features"
    argv = ["--model", str(TINY), "--scheduler", address, "--json", str(tmp_path / "done.json")]
    assert (
        cli.main(
            ["cache-features", str(images), "--output", str(folder), "--shard-size", "40", "--batch-size", "9", *argv]
        )
        == 0
    )
    assert dying.wait(60) == -9
    done = json.loads((tmp_path / "done.json").read_text())
    assert (done["num_samples"], done["computed"], done["shards"]) == (200, 200 - 2 * 9, 5)
    assert cli.main(["score", "--cache", str(folder), *argv, "--csv", str(tmp_path / "there.csv")]) == 0
    with cache_features(np.load(images), model, tmp_path / "one.h5") as one, FeatureCache.open(folder) as many:
        assert np.array_equal(many.read(0, 200), one.read(0, 200))
    assert (
        cli.main(
            ["score", "--cache", str(tmp_path / "one.h5"), "--model", str(TINY), "--csv", str(tmp_path / "here.csv")]
        )
        == 0
    )
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert "dashboard at" in capsys.readouterr().err
