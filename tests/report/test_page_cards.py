"""The cards of a page say what the table says, whatever decided."""

import json
from pathlib import Path

import numpy as np
import pytest
from banks import bank, cached, embeddings, parts
from commands import refusal
from pages import Page, check_cards

import fastuq
from fastuq import cli
from fastuq.errors import InputError
from fastuq.scoring.scoring import score

BANK, VIEWS = ["--bank", "bank.h5"], ["--views", "view.h5"]
AUTO = ["--num-iter", "auto", "--max-iter", "200"]
SCORE = ["--rule", "score", "--coverage", "0.5"]

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture
def command(workplace):
    """The command that scores embeddings with labels, beside which lie a bank and another view."""
    model = parts().model
    bank().save("bank.h5")
    cached(model, Path("x.h5"), *embeddings(70, 3)).close()
    cached(model, Path("view.h5"), embeddings(70, 9)[0], embeddings(70, 3)[1]).close()
    return ["score", "--cache", "x.h5", "--model", str(model.path), "--conf-factor", "0.3"]


@pytest.mark.parametrize(
    "how",
    [
        BANK,
        VIEWS,
        [*BANK, *VIEWS, "--gate", "0.5", "--masks", "per_sample"],
        [*BANK, *SCORE],
        [*VIEWS, *SCORE],
        AUTO,
        [*AUTO, *BANK, "--masks", "per_sample"],
        ["--method", "analytic"],
        ["--masks", "per_sample", "--precision", "float32", "--mixed", "keep", "--interval", "sem"],
    ],
    ids=" ".join,
)
def test_the_cards_say_what_the_table_says(how, command, capsys):
    outputs = {"--csv": "t.csv", "--json": "s.json", "--report": "p.html", "--moments": "m.npz"}
    assert cli.main([*command, *how, *(word for pair in outputs.items() for word in pair)]) == 0
    rows = check_cards(Page(Path("p.html").read_text(encoding="utf-8")), Path("t.csv"))
    assert sum(row["decision"] == "keep" for row in rows) == json.loads(Path("s.json").read_text())["kept"]
    with np.load("m.npz") as moments:
        for row, mean in zip(rows, moments["mean"], strict=True):
            assert f"{mean[int(row['prediction'])]:.6g}" == row["mean"]


def test_another_bank_has_no_page(tmp_path):
    """The bars would be of other outputs than the decisions beside them."""
    of = parts()
    result = score(of.model, of.other, bank=bank())
    with pytest.raises(InputError, match=r"expected the outputs that image \d+ was decided by"):
        fastuq.save_report("page.html", result, of.model, of.other, bank=bank(components=8))
    assert not Path("page.html").exists()


def test_where_one_output_fails_there_is_none(command, capsys, monkeypatch):
    outputs = ["--csv", "t.csv", "--json", "s.json", "--report", "p.html", "--moments", "m.npz"]
    for writer in ("report.samples.write_sample_table", "report.page.write.write_text", "util.files.write_json"):
        for table in ("t.csv", "-"):
            with monkeypatch.context() as broken:
                broken.setattr(f"fastuq.{writer}", _no_space)
                assert "No space left" in refusal(capsys, [*command, *outputs, "--csv", table], Path())
    assert cli.main([*command, *outputs]) == 0
    assert {"t.csv", "s.json", "p.html", "m.npz"} <= {path.name for path in Path().iterdir()}


def _no_space(*_, **__):
    raise OSError(28, "No space left on device")
