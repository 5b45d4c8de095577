"""The model folder: what is saved comes back, and nothing can change unseen."""

import json

import numpy as np
import pytest
from models import save_again
from places import TINY

from fastuq.errors import InputError, ModelError
from fastuq.model.folder import DESCRIPTION, PARTS
from fastuq.model.model import load_model


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_model_comes_back_with_the_same_identity(tmp_path):
    model = load_model(TINY)
    again = save_again(model, tmp_path / "copy")
    assert again.sha256 == model.sha256
    assert len(again.sha256) == 64
    assert again.info == model.info
    assert again.class_names == model.class_names
    assert (again.feature_scale, again.feature_zero_point) == (model.feature_scale, model.feature_zero_point)
    for mine, other in zip(again.head.blocks, model.head.blocks, strict=True):
        np.testing.assert_array_equal(mine.weights, other.weights)
    assert sorted(p.name for p in again.path.iterdir()) == sorted([*PARTS, DESCRIPTION])


def test_dequantize_undoes_scale_and_zero_point():
    model = load_model(TINY)
    q = np.array([[model.feature_zero_point, model.feature_zero_point + 3]], np.int8)
    np.testing.assert_allclose(model.dequantize(q), [[0, 3 * model.feature_scale]], rtol=1e-6)
    assert model.dequantize(q).dtype == np.float32


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_a_damaged_part_is_refused_in_one_line(model_folder, part, damage):
    file = model_folder / part
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif damage == "truncate":
        file.write_bytes(data[:-1])
    elif damage == "remove":
        file.unlink()
    else:
        file.write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        load_model(model_folder)
    assert part in one_line(caught)


@pytest.mark.parametrize(
    ("key", "value"), [("feature_scale", 0.5), ("feature_zero_point", 3), ("class_names", ["a"]), ("network", "other")]
)
def test_an_altered_description_is_refused(model_folder, key, value):
    info = json.loads((model_folder / DESCRIPTION).read_text())
    info[key] = value
    (model_folder / DESCRIPTION).write_text(json.dumps(info))
    with pytest.raises(ModelError) as caught:
        load_model(model_folder)
    assert DESCRIPTION in one_line(caught)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1, "parts": 3}', "\x00\x01"])
def test_a_foreign_description_is_refused(model_folder, text):
    (model_folder / DESCRIPTION).write_text(text)
    with pytest.raises(ModelError) as caught:
        load_model(model_folder)
    one_line(caught)


def test_a_newer_format_is_told_apart_from_damage(model_folder):
    info = json.loads((model_folder / DESCRIPTION).read_text())
    info["format_version"] = 2
    (model_folder / DESCRIPTION).write_text(json.dumps(info))
    with pytest.raises(ModelError, match="format version 1, found 2"):
        load_model(model_folder)


def test_parts_of_two_models_are_refused(tmp_path):
    model = load_model(TINY)
    with pytest.raises(ModelError, match="different models"):
        save_again(model, tmp_path / "mixed", class_names=("a", "b"))
    assert not (tmp_path / "mixed").exists()


def test_no_folder_and_no_model_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="is not there"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"has no model\.json"):
        load_model(tmp_path)


def test_saving_over_a_model_replaces_it_and_keeps_its_card(model_folder):
    (model_folder / "README.md").write_text("card")
    model = load_model(model_folder)
    again = save_again(model, model_folder, network="renamed")
    assert again.network == "renamed"
    assert again.sha256 != model.sha256
    assert (model_folder / "README.md").read_text() == "card"
    assert [p.name for p in model_folder.parent.iterdir()] == ["model"]


def test_saving_over_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        save_again(load_model(TINY), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_save_leaves_the_old_model(model_folder, monkeypatch):
    before = load_model(model_folder)

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastuq.model.folder.os.fsync", full_disk)
    with pytest.raises(InputError, match="No space left"):
        save_again(before, model_folder, network="renamed")
    assert load_model(model_folder).sha256 == before.sha256
    assert [p.name for p in model_folder.parent.iterdir()] == ["model"]
