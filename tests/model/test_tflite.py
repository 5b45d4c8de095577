"""TFLite files of others: read without trust, cut, and their dense layers as a head."""

from contextlib import suppress
from dataclasses import replace

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_files import WHOLE, content, edited, every_tensor, images, schema

from fastuq.errors import ModelError
from fastuq.model.backbone import Backbone
from fastuq.model.image_input import ImageInput
from fastuq.model.tflite_dense import dense_layers, two_classes
from fastuq.model.tflite_graph import Graph
from fastuq.model.tflite_heads import heads_of
from fastuq.model.tflite_schema import unpacked


def graph(name):
    return Graph(content(name), name)


def operator_named(model, kind):
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    number = getattr(schema.BuiltinOperator, kind)
    return next(op for op in model.subgraphs[0].operators if codes[op.opcodeIndex] == number)


@pytest.mark.parametrize("name", ["one_layer", "two_layers", "convolution", "channels_first"])
def test_a_cut_gives_the_bits_of_the_whole(name):
    whole = graph(name)
    taken = unpacked(content(name)).subgraphs[0].tensors[0]
    values = np.random.default_rng(0).integers(-128, 128, taken.shape).astype(np.int8)
    values = values.view(np.uint8) if taken.type == schema.TensorType.UINT8 else values
    expected = every_tensor(content(name), values)
    made = [tensor for tensor in range(len(whole)) if whole.maker(tensor) is not None]
    assert len(made) >= 4
    for tensor in made:
        cut = whole.cut(tensor)
        only = Graph(cut, "cut")
        assert len(cut) <= len(content(name))
        assert np.array_equal(every_tensor(cut, values)[only.output], expected[tensor])


def test_float_ends_are_cut_off():
    whole = graph("binary")
    assert (whole.dtype(0), whole.dtype(whole.output)) == ("FLOAT32", "FLOAT32")
    only = Graph(whole.cut(whole.codes_of(whole.output)), "cut")
    assert (only.dtype(only.image()), only.dtype(only.output)) == ("INT8", "INT8")


@pytest.mark.parametrize(
    ("name", "shapes", "activations"),
    [
        ("one_layer", [(6, 5)], ["softmax"]),
        ("two_layers", [(96, 7), (7, 4)], ["relu", "softmax"]),
        ("binary", [(6, 1)], ["sigmoid"]),
        ("convolution", [(6, 5)], ["softmax"]),
        ("channels_first", [(6, 5)], ["linear"]),
    ],
)
def test_the_dense_layers_at_the_end(name, shapes, activations):
    layers = dense_layers(graph(name))
    assert [layer.weights.shape for layer in layers] == shapes
    assert [layer.activation for layer in layers] == activations
    assert all(np.abs(layer.weights).max() == 127 for layer in layers)
    assert all(layer.bias.any() for layer in layers)


def codes_of_sums(head_int8, layers, features):
    """Return the int8 sums of the last layer that a head without dropout gives, rounded as the file rounds them."""
    ends = [*head_int8.blocks[:-1], replace(head_int8.blocks[-1], activation="linear")]
    masks = [np.ones(len(layer.weights), bool) for layer in layers]
    z = replace(head_int8, blocks=tuple(ends)).forward(features, masks)
    return np.clip(np.rint(z / layers[-1].given.scale) + layers[-1].given.zero_point, -128, 127)


@pytest.mark.parametrize("name", [*WHOLE, "channels_first"])
def test_the_int8_head_is_the_files_own_integers(name):
    """Where features lie within 127 of their zero point, every sum is the file's, to the rounding of the last step."""
    whole = graph(name)
    layers = dense_layers(whole)
    faint = np.linspace(0.05, 1, 60)[:, None, None, None] * images(60)
    shown = np.concatenate([faint, 128 + faint / 2]).astype(np.uint8)  # dark, and about the middle
    features = Backbone(whole.cut(layers[0].source))(shown)
    near = np.abs(features.astype(int) - layers[0].taken.zero_point).max(axis=1) <= 127
    assert near.sum() >= 5
    heads = heads_of(layers, [0.0] * len(layers), reach=127)
    assert (heads.input_step, heads.rounded_outputs) == (1.0, 0)
    for block, layer in zip(heads.head_int8.blocks, layers, strict=True):
        assert np.array_equal(block.weights, layer.weights)
    expected = Backbone(whole.cut(layers[-1].result))(shown)
    found = codes_of_sums(heads.head_int8, layers, features[near])
    assert np.abs(found - expected[near]).max() <= 1
    assert len(np.unique(expected)) > 3


@pytest.mark.parametrize("name", WHOLE)
def test_features_out_of_reach_are_rounded(name):
    layers = dense_layers(graph(name))
    heads = heads_of(layers, [0.0] * len(layers))
    assert heads.input_step == pytest.approx(255 / 127)
    extremes = np.full((1, len(layers[0].weights)), 127, np.int8)
    assert np.abs(heads.head_int8.input_scale * extremes + heads.head_int8.input_shift).max() == pytest.approx(127)


def test_the_rate_is_in_the_scale_of_the_int8_head():
    layers = dense_layers(graph("two_layers"))
    without, dropped = (heads_of(layers, rates).head_int8 for rates in ([0, 0], [0.5, 0.2]))
    assert np.allclose(dropped.blocks[0].scale, without.blocks[0].scale / 0.5)
    assert np.allclose(dropped.blocks[1].scale, without.blocks[1].scale / 0.8)
    assert dropped.rates == (0.5, 0.2)


@pytest.mark.parametrize("lowest", [-128, -127])
def test_weights_that_leave_the_range_are_rounded_again_in_their_output_alone(lowest):
    def edit(model):
        weights = model.subgraphs[0].operators[-2].inputs[1]
        data = model.buffers[model.subgraphs[0].tensors[weights].buffer].data.copy()
        data[0] = lowest % 256
        model.buffers[model.subgraphs[0].tensors[weights].buffer].data = data

    layer = dense_layers(Graph(edited("one_layer", edit), "edited"))[0]
    assert layer.weights[0, 0] == lowest
    heads = heads_of([layer], [0.2])
    assert heads.rounded_outputs == (lowest == -128)
    block = heads.head_int8.blocks[0]
    assert block.weights[0, 0] == -127
    assert np.array_equal(block.weights[:, 1:], layer.weights[:, 1:])
    keep = 0.8 / heads.input_step
    real = block.weights * (block.scale * keep / layer.taken.scale)
    assert np.abs(real - layer.weights * layer.scales).max() <= 0.51 * layer.scales.max()
    assert np.allclose(heads.head.blocks[0].weights, layer.weights * layer.scales)


def test_one_sigmoid_unit_is_two_classes():
    layer = dense_layers(graph("binary"))[0]
    heads = heads_of([two_classes(layer)], [0.1])
    features = np.random.default_rng(0).integers(-128, 128, (9, 6)).astype(np.int8)
    plain = heads.head.forward((features - np.float32(layer.taken.zero_point)) * np.float32(layer.taken.scale))
    assert np.allclose(plain.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(heads.head_int8.blocks[0].weights[:, 0], -heads.head_int8.blocks[0].weights[:, 1])


def test_images_go_in_as_the_file_says():
    """Grey, two at once and with channels first: what LiteRT gives for the input made by hand."""
    shown = images(5)
    grey = ((shown @ np.array([299, 587, 114]) + 500) // 1000).astype(int)
    for name, taken in (("convolution", grey[..., None]), ("channels_first", np.moveaxis(shown.astype(int), 3, 1))):
        backbone = Backbone(content(name), xnnpack=False)
        assert backbone.input_shape == (8, 8, 3)
        found = np.concatenate([backbone(shown), backbone(shown[:1])])
        batch = 2 if name == "convolution" else 1
        for row in range(6):
            one = np.repeat(taken[[row % 5]] - 128, batch, axis=0).astype(np.int8)
            assert np.array_equal(every_tensor(content(name), one)[graph(name).output][0].ravel(), found[row])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["convolution", "channels_first"])
def test_batches_of_the_file_do_not_show(name, threads):
    shown, backbone = images(37), Backbone(content(name), threads=threads)
    alone = np.concatenate([backbone(shown[n : n + 1]) for n in range(37)])
    assert np.array_equal(backbone(shown), alone)
    assert np.array_equal(backbone(shown[3:20]), alone[3:20])


def test_a_greys_brightness_is_itself():
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(4, 8, 8, 3)
    taken = ImageInput(1, (8, 8, 3), True, False, None)(levels)
    assert np.array_equal(taken[..., 0], levels[..., 0])


@pytest.mark.parametrize(("name", "as_unsigned"), [("two_layers", True), ("one_layer", False)])
def test_unsigned_outputs_are_signed_ones_less_128(name, as_unsigned):
    backbone = Backbone(content(name))
    assert (backbone.scale, backbone.zero_point) == (1 / 256, -128)
    found = backbone(images(3))
    assert found.dtype == np.int8
    assert np.abs((found.astype(int) + 128).sum(axis=1) - 256).max() <= 3  # softmax


def custom(model):
    code = model.operatorCodes[operator_named(model, "MEAN").opcodeIndex]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, "edgetpu-\nop"


def two_inputs(model):
    model.subgraphs[0].inputs = [0, 1]


def two_graphs(model):
    model.subgraphs = [*model.subgraphs, *model.subgraphs]


def ends_in_mean(model):
    graph = model.subgraphs[0]
    graph.operators, graph.outputs = graph.operators[:-2], graph.operators[-3].outputs


def float_weights(model):
    tensor = model.subgraphs[0].tensors[operator_named(model, "FULLY_CONNECTED").inputs[1]]
    tensor.quantization = None


REFUSED = {
    "custom operation edgetpu- op, which LiteRT does not know": custom,
    "one of 2 inputs and 1 outputs": two_inputs,
    "one of 1 inputs and 1 outputs, one of": two_graphs,
    r"expected int8 dense layers .*, found MEAN from INT8 \(1, 4, 4, 6\) to INT8 \(1, 6\)": ends_in_mean,
    "expected int8 dense layers .*, found FULLY_CONNECTED": float_weights,
}


@pytest.mark.parametrize(("message", "edit"), REFUSED.items())
def test_what_is_no_int8_classifier_is_refused_in_one_line(message, edit):
    with pytest.raises(ModelError, match=message) as raised:
        dense_layers(Graph(edited("one_layer", edit), "zoo.tflite"))
    assert "\n" not in str(raised.value)


def test_a_float_file_is_refused():
    with pytest.raises(ModelError, match="8-bit images, found FLOAT32 input; it is a float or partly quantized model"):
        graph("float").image()


def test_tensors_are_found_by_name():
    with pytest.raises(ModelError, match="expected one tensor 'nothing' that an operation makes, found 0; its last"):
        graph("one_layer").find("nothing")
    whole = graph("one_layer")
    source = dense_layers(whole)[0].source
    assert whole.find(whole.tensor_name(source)) == source


def tried(file):
    """Read and cut a file that may be anything; nothing but ModelError may come of it. Return whether it was cut."""
    with suppress(ModelError):
        found = Graph(file, "fuzzed")
        layers = dense_layers(found)
        heads_of(layers, [0.1] * len(layers))
        return bool(found.cut(layers[0].source) and found.cut(found.codes_of(found.output)))
    return False


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from([*WHOLE, "channels_first"]),
    edits=st.lists(st.tuples(st.integers(0, 4095), st.sampled_from([0, 1, 4, 127, 128, 255])), max_size=4),
    end=st.integers(0, 4096) | st.none(),
)
def test_damaged_files_are_refused_or_read(name, edits, end):
    file = bytearray(content(name)[:end])
    for place, value in edits:
        if place < len(file):
            file[place] = value
    tried(bytes(file))


def test_every_cut_is_refused_or_read():
    whole = content("one_layer")
    assert tried(whole)
    assert not any(tried(whole[:end]) for end in range(0, len(whole) // 2, 16))


def test_a_file_that_lists_a_table_again_and_again_is_refused():
    """Ten thousand tensors that are one of a hundred thousand dimensions would be a thousand million objects."""
    builder = flatbuffers.Builder(2**20)
    shape = builder.CreateNumpyVector(np.ones(100_000, np.int32))
    schema.TensorStart(builder)
    schema.TensorAddShape(builder, shape)
    tensor = schema.TensorEnd(builder)
    tensors = vector_of(builder, [tensor] * 10_000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = vector_of(builder, [schema.SubGraphEnd(builder)])
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    with pytest.raises(ModelError, match="more tables than a network has"):
        Graph(bytes(builder.Output()), "bomb")


def vector_of(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in offsets:
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
