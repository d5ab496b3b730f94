"""Quantization of an ONNX model to 8-bit matrices, which are smaller and faster.

Weights have one scale per column (the word embedding: per row), computed here. Activations have one scale per token,
computed at run time. With one scale per batch, as in `onnxruntime.quantization.quantize_dynamic`, the outputs for a
text would depend on the other texts of the batch. All operators are standard ONNX operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bigs_cli.checkpoints.arrays import Array

MAX_WEIGHT = 64
"""The largest 8-bit weight. Processors with AVX2 or AVX-512 but without VNNI add two products in 16 bits, and this sum
must not overflow: 2·255·64 < 2¹⁵."""

MIN_SIZE = 8
"""A matrix with fewer rows or columns, such as that of a classifier, stays float32: quantization would save nothing."""

POOLER = "pooler/dense/kernel"
"""This matrix stays float32: its input is a sum over tokens whose order depends on the batch, and 8 bits would amplify
the rounding differences."""

_DOMAIN = "bigs"
_HEAD = '<domain: "bigs", opset_import: ["": %d]>'

# Maps x [..., K] and w int8 [K, N] to x·w [..., N]. The scale of a token maps its largest activation to 127. Processors
# multiply unsigned by signed numbers, so activations are offset by 128. The cast truncates; adding 128.5 rounds.
_DENSE = """
Dense (x, w, w_scale) => (y) {
    last_axis = Constant <value_ints = [-1]> ()
    steps = Constant <value_float = 127.0> ()
    smallest = Constant <value_float = 1e-30> ()
    rounding = Constant <value_float = 128.5> ()
    zero = Constant <value = uint8 {128}> ()
    magnitude = Abs (x)
    largest = ReduceMax <keepdims = 1> (magnitude, last_axis)
    step = Div (largest, steps)
    scale = Max (step, smallest)
    scaled = Div (x, scale)
    shifted = Add (scaled, rounding)
    quantized = Cast <to = 2> (shifted)
    sums = MatMulInteger (quantized, w, zero)
    products = Cast <to = 1> (sums)
    of_columns = Mul (products, w_scale)
    y = Mul (of_columns, scale)
}"""
_LOOKUP = """
Lookup (table, scales, ids) => (y) {
    last_axis = Constant <value_ints = [-1]> ()
    rows = Gather (table, ids)
    numbers = Cast <to = 1> (rows)
    of_rows = Gather (scales, ids)
    column = Unsqueeze (of_rows, last_axis)
    y = Mul (numbers, column)
}"""


def to_int8(model: Any) -> Any:
    """Return `model`, an `onnx.ModelProto` of a forward pass, with 8-bit large matrices; **consumes** `model`."""
    from onnx import helper, inliner, parser  # pyright: ignore[reportMissingImports]

    graph = model.graph
    source = _quantize_matrices(graph)
    nodes: list[Any] = []
    for node in graph.node:
        inputs, result = list(node.input), node.output[0]
        if node.op_type == "Gather" and inputs[0] in source:
            table = source[inputs[0]]
            nodes.append(helper.make_node("Lookup", [*_names(table), inputs[1]], [result], domain=_DOMAIN))
        elif node.op_type == "Transpose" and inputs[0] in source:
            nodes.append(helper.make_node("Transpose", [_names(inputs[0])[0]], [f"{result}_int8"], perm=[1, 0]))
        elif node.op_type in ("MatMul", "Gemm") and inputs[1] in source:
            matrix, scale = f"{inputs[1]}_int8", _names(source[inputs[1]])[1]
            products = f"{result}_products" if len(inputs) == 3 else result
            nodes.append(helper.make_node("Dense", [inputs[0], matrix, scale], [products], domain=_DOMAIN))
            if len(inputs) == 3:
                nodes.append(helper.make_node("Add", [products, inputs[2]], [result]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    model.functions.extend(parser.parse_function(_HEAD % opset + text) for text in (_DENSE, _LOOKUP))
    inlined = inliner.inline_local_functions(model)
    inlined.opset_import.remove(next(entry for entry in inlined.opset_import if entry.domain == _DOMAIN))
    return inlined


def _names(name: str) -> tuple[str, str]:
    return f"{name}_int8", f"{name}_scale"


def _quantize_matrices(graph: Any) -> dict[str, str]:
    """Replace the large matrices of `graph` by 8-bit matrices and scales; return operand name → name of its matrix.

    An operand of a node is a matrix itself or, in a tied model, the transposed word embedding.
    """
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    large = {
        tensor.name: tensor
        for tensor in graph.initializer
        if len(tensor.dims) == 2 and min(tensor.dims) >= MIN_SIZE and not tensor.name.endswith(POOLER)
    }
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    source = {operand: name for operand, name in source.items() if name in large}
    tables = {node.input[0] for node in graph.node if node.op_type == "Gather"} | set(source.values())
    kernels = {node.input[1] for node in graph.node if node.op_type in ("MatMul", "Gemm")}
    for name in (tables | kernels) & large.keys():
        source[name] = name
        arrays = _quantized(numpy_helper.to_array(large[name]), 1 if name in tables else 0)
        graph.initializer.remove(large[name])
        graph.initializer.extend(map(numpy_helper.from_array, arrays, _names(name)))
    return source


def _quantized(matrix: Array, axis: int) -> tuple[Array, Array]:
    """Return int8 numbers and scales whose products approximate `matrix`; values along `axis` share a scale."""
    scale = np.maximum(np.abs(matrix).max(axis, keepdims=True) / MAX_WEIGHT, np.float32(1e-30))
    return np.rint(matrix / scale).astype(np.int8), scale.squeeze(axis).astype(np.float32)
