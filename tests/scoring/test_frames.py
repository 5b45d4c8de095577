"""Results as data frames."""

import csv
import sys
from dataclasses import replace

import caches
import numpy as np
import pytest

from fastuq.errors import InputError, MissingExtraError
from fastuq.report.samples import write_sample_table
from fastuq.scoring.scoring import score


@pytest.fixture(scope="module")
def result():
    labels = caches.images(9).labels
    found = score(caches.tiny_model(), caches.features()[:9], num_iter=5, labels=labels, mutual_information=True)
    return replace(found, files=[f"d/{n}\n\udcff.jpg" for n in range(9)])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_says_what_the_csv_says(result, library, workplace):
    frames = pytest.importorskip(library, reason=f"needs {library}: pip install {library}")
    frame = result.to_frame(library)
    assert isinstance(frame, frames.DataFrame)
    write_sample_table("t.csv", result, caches.tiny_model().class_names)
    with open("t.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert list(frame.columns) == header
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        values = frame[name].to_list()
        if isinstance(values[0], float):
            np.testing.assert_allclose(values, list(map(float, cells)), rtol=1e-5)
        else:
            assert list(map(str, values)) == list(cells), name
    np.testing.assert_array_equal(frame["entropy"].to_numpy(), result.entropy)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_what_there_is_not_is_null_or_no_column(result, library):
    pytest.importorskip(library, reason=f"needs {library}: pip install {library}")
    bare = replace(result, labels=None, files=None, mutual_information=None)
    frame = bare.to_frame(library)
    assert frame["label"].to_list() == frame["label_name"].to_list() == [None] * 9
    assert not {"file", "mutual_information"} & set(frame.columns)
    if library == "pandas":
        assert bare.to_frame().equals(frame)


def test_refusals(result, monkeypatch):
    with pytest.raises(InputError, match="library: expected one of pandas, polars, found 'arrow'"):
        result.to_frame("arrow")
    monkeypatch.setitem(sys.modules, "polars", None)  # an import of it fails
    with pytest.raises(MissingExtraError, match="pip install polars"):
        result.to_frame("polars")
