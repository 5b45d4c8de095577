"""The table of samples: the same as CSV and as Parquet."""

import csv
from dataclasses import replace

import caches
import numpy as np
import pytest
from commands import refusal
from places import TINY

from fastuq import cli
from fastuq.report import samples
from fastuq.report.samples import write_sample_table
from fastuq.scoring.scoring import score

NAMES = tuple(f"=class {n}\n" for n in range(100))


@pytest.fixture(scope="module")
def result():
    found = score(caches.tiny_model(), caches.features(20), num_iter=5, labels=caches.images(20).labels)
    return replace(found, files=["a\udcff.png", *(f"={n}\n.png" for n in range(1, 20))])


@pytest.mark.parametrize("labelled", [True, False])
def test_parquet_has_the_values_of_the_csv(result, tmp_path, monkeypatch, labelled):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'fastuq[parquet]'")
    monkeypatch.setattr(samples, "GROUP", 7)
    result = result if labelled else replace(result, labels=None)
    for suffix in ("csv", "parquet"):
        write_sample_table(tmp_path / f"t.{suffix}", result, NAMES)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    file = parquet.ParquetFile(tmp_path / "t.parquet")
    table = file.read().to_pydict()
    assert (list(table), file.num_row_groups) == (list(rows[0]), 3)
    kinds = {"int64": int, "float": float, "string": str}
    for column, kind in zip(file.schema_arrow.names, map(str, file.schema_arrow.types), strict=True):
        cells = [row[column].removeprefix("'") for row in rows]
        expected = [kinds[kind](cell) if cell else None for cell in cells]
        if kind == "float":
            assert np.allclose(table[column], expected, rtol=1e-5)
        else:
            assert table[column] == expected
    assert {column for column in table if str(file.schema_arrow.field(column).type) == "int64"} == {
        "index", "label", "prediction", "plain_prediction"
    }  # fmt: skip
    assert table["file"][0] == "a\\udcff.png"


def test_the_suffix_decides_on_the_command_line(workplace, capsys, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'fastuq[parquet]'")
    assert cli.main(["score", "bundled", "--model", str(TINY), "--csv", "t.parquet"]) == 0
    assert parquet.read_metadata("t.parquet").num_rows == 20
    assert cli.main(["info", "t.parquet"]) == 0
    assert "table of samples, Parquet" in capsys.readouterr().out
    monkeypatch.setattr("fastuq.report.moments_tables.find_spec", lambda name: None)
    line = refusal(capsys, ["score", "bundled", "--model", str(TINY), "--csv", "new.parquet"], workplace)
    assert "Parquet files need pyarrow" in line
