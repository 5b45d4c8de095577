"""The table of activations, and codes that are looked up: a table stands for the function, and files keep it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from heads import FEATURE_SCALE, ZERO_POINT, dequantize, random_features, random_head
from models import save_again, tiny_model
from places import TINY

from fastuq.errors import ModelError
from fastuq.model.activations import ACTIVATIONS, activation_of
from fastuq.model.head import Head
from fastuq.model.int8_head import POINTS, QuantizedHead
from fastuq.model.model import load_model
from fastuq.training import head_rounding
from fastuq.training.head_rounding import quantize_head

HIDDEN = sorted({*ACTIVATIONS} - {"softmax"} | {"leaky_relu(0.01)"})


def with_affine(head, seed=5):
    """Give the second block an affine of its inputs, of both signs."""
    rng = np.random.default_rng(seed)
    width = head.widths[1]
    scale = (rng.uniform(0.3, 2, width) * rng.choice([-1, 1], width)).astype(np.float32)
    second = replace(head.blocks[1], scale=scale, shift=rng.normal(size=width).astype(np.float32))
    return replace(head, blocks=(head.blocks[0], second, *head.blocks[2:]))


def quantized(name, affine, width=96):
    head = random_head([(width, 40, 0.2, name), (40, 6, 0.4, "softmax")])
    head = with_affine(head) if affine else head
    features = random_features(900, width)
    return head, quantize_head(head, features[:600], FEATURE_SCALE, ZERO_POINT), features[600:]


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", HIDDEN)
def test_the_int8_head_follows_the_float_one(name, affine):
    head, rounded, features = quantized(name, affine)
    rng = np.random.default_rng(0)
    masks = [rng.random((len(features), width)) >= rate for width, rate in zip(head.widths, head.rates, strict=True)]
    exact = head.forward(dequantize(features), masks)
    found = rounded.forward(features, masks)
    assert np.abs(found - exact).mean() < 0.015 * exact.std()
    assert (found.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.96
    assert (rounded.blocks[0].table is None) == (name in ("relu", "linear", "sigmoid") and not affine)


@pytest.mark.parametrize("name", HIDDEN)
def test_codes_that_are_looked_up_stand_for_the_outputs(name):
    """Code times step is the output of the affine, to half a step, wherever the calibration has been."""
    head, rounded, _ = quantized(name, True)
    block, following = rounded.blocks[0], head.blocks[1]
    step = following.scale / block.code_scale
    z = np.linspace(0, POINTS - 1, 500, dtype=np.float32)[:, None] * np.ones(40, np.float32)
    codes = block.codes(z)
    values = block.table[np.rint(z).astype(int)] * following.scale + following.shift
    inside = (codes > -block.zero_point) & (codes < 255 - block.zero_point)
    assert inside.mean() > 0.2
    assert np.abs(codes * step - values)[inside].max() <= 0.501 * np.abs(step).max()
    assert codes.min() >= -block.zero_point
    assert codes.max() <= 255 - block.zero_point


@pytest.mark.parametrize("name", HIDDEN)
def test_functions_take_both_precisions(name):
    x = np.linspace(-9, 9, 1001)
    forward = activation_of(name).forward
    small, large = forward(x.astype(np.float32)), forward(x)
    assert (small.dtype, large.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(small, large, atol=2e-6)


@pytest.mark.parametrize(
    "name", ["gelu(1)", "leaky_relu(2)", "leaky_relu(-0.1)", "leaky_relu()", "leaky_relu(1e-3)", "GELU"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ModelError, match="expected one of relu, linear"):
        activation_of(name)


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_head_with_affine_and_table_goes_through_a_model_folder(tmp_path):
    model = tiny_model()
    head = random_head(
        [(model.head.num_features, 9, 0.2, "gelu"), (9, 5, 0.4, "leaky_relu(0.1)"), (5, 4, 0.0, "softmax")]
    )
    head = with_affine(head)
    features = random_features(300, model.head.num_features)
    rounded = quantize_head(head, features, model.feature_scale, model.feature_zero_point)
    names = tuple("abcd")
    saved = save_again(model, tmp_path / "m", head=head, head_int8=rounded, class_names=names)
    again = load_model(saved.path)
    for mine, other in ((again.head, head), (again.head_int8, rounded)):
        for name, array in other.to_arrays().items():
            np.testing.assert_array_equal(mine.to_arrays()[name], array)
    masks = [np.ones(width, bool) for width in head.widths]
    np.testing.assert_array_equal(again.head_int8.forward(features, masks), rounded.forward(features, masks))


def test_folders_from_before_are_written_as_they_were(tmp_path):
    model = load_model(TINY)
    assert save_again(model, tmp_path / "again").sha256 == model.sha256
    assert {*model.head.to_arrays()} == {"layout", "scale", "shift"} | {
        f"{n}_{i}" for n in ("weights", "bias") for i in (0, 1)
    }


def damaged(rounded, **changes):
    return rounded.to_arrays() | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"table_0": np.zeros(9, np.float32)}, "expected a table"),
        ({"code_scale_0": np.zeros(9, np.float32)}, "others"),
        ({"table_0": np.full(POINTS, np.nan, np.float32)}, "finite"),
        ({"table_0": np.zeros(POINTS)}, "float64"),
        ({"table_1": np.zeros(POINTS, np.float32)}, "or none"),
    ],
)
def test_damaged_tables_are_refused(changes, words):
    _, rounded, _ = quantized("gelu", True)
    with pytest.raises(ModelError, match=words):
        QuantizedHead.from_arrays(damaged(rounded, **changes))


@pytest.mark.parametrize("zero_point", [-1, 256, "x", None, [3]])
def test_impossible_zero_points_are_refused(zero_point):
    _, rounded, _ = quantized("gelu", True)
    layout = json.loads(str(rounded.to_arrays()["layout"]))
    layout[0]["zero_point"] = zero_point
    with pytest.raises(ModelError):
        QuantizedHead.from_arrays(damaged(rounded, layout=np.array(json.dumps(layout))))


def test_tables_are_where_they_are_needed_and_nowhere_else():
    _, rounded, _ = quantized("gelu", False)
    first, last = rounded.blocks
    bare = {"table": None, "code_scale": None, "code_shift": None, "zero_point": None}
    with pytest.raises(ModelError, match="expected a table for gelu"):
        replace(rounded, blocks=(replace(first, **bare), last))
    with pytest.raises(ModelError, match="last block without codes"):
        replace(rounded, blocks=(replace(first, weights=first.weights),))


def test_affines_are_whole_and_not_in_the_first_block():
    head = with_affine(random_head([(8, 5, 0.2, "relu"), (5, 3, 0.1, "softmax")]))
    second = head.blocks[1]
    with pytest.raises(ModelError, match="or neither"):
        replace(second, shift=None)
    with pytest.raises(ModelError, match="no affine of its own"):
        replace(head, blocks=(second,), scale=second.scale, shift=second.shift)
    with pytest.raises(ModelError, match="dense block"):
        replace(second, scale=second.scale[:3])


# -- wide heads ----------------------------------------------------------------------------------------------------


def test_groups_of_inputs_lose_little(monkeypatch):
    head = random_head([(256, 8, 0.2, "softmax")])
    features = random_features(900, 256)
    errors = []
    for group in (256, 64, 1):
        monkeypatch.setattr(head_rounding, "_GROUP", group)
        rounded = quantize_head(head, features[:600], FEATURE_SCALE, ZERO_POINT)
        masks = [np.random.default_rng(0).random((300, 256)) >= 0.2]
        errors.append(
            np.abs(rounded.forward(features[600:], masks) - head.forward(dequantize(features[600:]), masks)).mean()
        )
    assert max(errors) < 1.2 * min(errors)  # of inputs that are independent, as these are


def test_a_wide_head_needs_no_moments_of_all_inputs(monkeypatch):
    sizes = []
    second_moment = head_rounding._second_moment

    def seen(codes, keep):
        sizes.append(codes.shape[1])
        return second_moment(codes, keep)

    monkeypatch.setattr(head_rounding, "_second_moment", seen)
    monkeypatch.setattr(head_rounding, "_GROUP", 100)
    quantize_head(random_head([(250, 3, 0.2, "softmax")]), random_features(64, 250), FEATURE_SCALE, ZERO_POINT)
    assert sizes == [100, 100, 50]


def test_a_head_of_arrays_keeps_its_affine():
    head = with_affine(random_head([(8, 5, 0.2, "silu"), (5, 3, 0.1, "softmax")]))
    again = Head.from_arrays(head.to_arrays())
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    np.testing.assert_array_equal(again.forward(x), head.forward(x))
    bare = replace(head, blocks=(head.blocks[0], replace(head.blocks[1], scale=None, shift=None)))
    assert np.abs(bare.forward(x) - head.forward(x)).max() > 1e-3
