"""What tests of several folders share: the tiny model, and a folder to work in."""

import os
import shutil
from pathlib import Path

import models
import pytest
import stores
from hypothesis import settings
from places import SUPPORT, TINY

settings.register_profile("fastuq", deadline=None)  # a busy machine says nothing about the code
settings.load_profile("fastuq")

os.environ.pop("COLUMNS", None)  # which the workers of pytest-xdist are given: lines would be wrapped

# The programs that tests start import from tests/support too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH"))))


@pytest.fixture(scope="session")
def model():
    return models.tiny_model()


@pytest.fixture(scope="session")
def store():
    """Start an S3 server on the loopback, one for all tests."""
    for library in ("s3fs", "moto.server"):
        pytest.importorskip(library, reason="needs s3fs and moto: pip install 'fastuq[remote,dev]'")
    with pytest.MonkeyPatch.context() as patch, stores.serving(patch) as store:
        yield store


@pytest.fixture
def workplace(tmp_path, tmp_path_factory, monkeypatch):
    """Make an empty folder the working directory, and an empty one the data folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTUQ_DATA", str(tmp_path_factory.mktemp("no-data")))
    return tmp_path


@pytest.fixture
def model_folder(tmp_path):
    """Copy the tiny model to where it may be damaged."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))
