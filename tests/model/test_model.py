"""The model folder: what is saved comes back, and nothing can change unseen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from models import save_again
from places import TINY

from fastuq.errors import InputError, ModelError
from fastuq.model.folder import DESCRIPTION, PARTS, identity
from fastuq.model.model import load_model
from fastuq.report.about import about


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


def test_several_heads_come_back_and_are_parts_like_the_first(tmp_path):
    model = load_model(TINY)
    blocks = [replace(block, bias=block.bias + number) for number, block in enumerate(model.head.blocks, 1)]
    other = replace(model.head, blocks=tuple(blocks)), model.head_int8
    saved = save_again(model, tmp_path / "m", others=[other, (model.head, model.head_int8)])
    again = load_model(tmp_path / "m")
    further = [f"head_{number}{kind}.npz" for number in (2, 3) for kind in ("", "_int8")]
    assert sorted(again.info["parts"]) == sorted([*PARTS, *further])
    assert (again.sha256, again.info["format_version"]) == (saved.sha256, 2)
    assert [len(each.others) for each in again.members] == [0, 0, 0]
    np.testing.assert_array_equal(again.members[1].head.blocks[0].bias, blocks[0].bias)
    assert "3 heads" in repr(again)
    assert about(tmp_path / "m")["heads"] == 3
    for name in further:
        content = (tmp_path / "m" / name).read_bytes()
        for damage in (content[:-1], b"", None):
            (tmp_path / "m" / name).unlink() if damage is None else (tmp_path / "m" / name).write_bytes(damage)
            with pytest.raises(ModelError) as caught:
                load_model(tmp_path / "m")
            assert name in one_line(caught)
        (tmp_path / "m" / name).write_bytes(content)
    one = save_again(model, tmp_path / "m")  # the further heads go with the folder that is replaced
    assert one.sha256 == model.sha256
    assert sorted(p.name for p in one.path.iterdir()) == sorted([*PARTS, DESCRIPTION])


def test_heads_that_do_not_fit_are_refused(tmp_path):
    model = load_model(TINY)
    *first, last = model.head.blocks
    *first_int8, last_int8 = model.head_int8.blocks
    ends = replace(last, activation="softmax"), replace(last_int8, activation="softmax")
    other = replace(model.head, blocks=(*first, ends[0])), replace(model.head_int8, blocks=(*first_int8, ends[1]))
    for others, words in (([other], "its heads are of different models"), ([(other[0], model.head_int8)], "its parts")):
        with pytest.raises(ModelError, match=words):
            save_again(model, tmp_path / "m", others=others)
    saved = save_again(model, tmp_path / "m", others=[(model.head, model.head_int8)])
    said = json.loads((saved.path / DESCRIPTION).read_text())
    for gone in (["head_2.npz"], ["head_2_int8.npz"], ["head_int8.npz"]):
        left = {name: digest for name, digest in said["parts"].items() if name not in gone}
        changed = {**said, "parts": left}
        (saved.path / DESCRIPTION).write_text(json.dumps({**changed, "sha256": identity(changed)}))
        with pytest.raises(ModelError, match="lists other parts"):
            load_model(saved.path)


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
    info["format_version"] = 3
    (model_folder / DESCRIPTION).write_text(json.dumps(info))
    with pytest.raises(ModelError, match="format version 1 or 2, found 3"):
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
