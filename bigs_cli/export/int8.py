"""An ONNX model with 8-bit matrices: fewer bytes and faster products, the same outputs whatever else is in the batch.

Weights have one scale a column (the word embedding: a row), computed here; activations have one scale a token, computed
as the model runs. A scale over the whole batch, which `onnxruntime.quantization.quantize_dynamic` computes, would make
the outputs of a text depend on the texts beside it. All operators are those of the ONNX standard.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bigs_cli.checkpoints.arrays import Array

LARGEST_WEIGHT = 64
"""Processors with AVX2 or AVX-512 but no VNNI add two products in 16 bits, which must not overflow: 2·255·64 < 2¹⁵."""

SMALLEST_SIDE = 8
"""A matrix with fewer rows or columns, such as a classifier's, would save nothing; it stays float32."""

POOLER = "pooler/dense/kernel"
"""Stays float32: the sum over tokens is added up in an order that depends on the batch; 8 bits would magnify that."""

_DOMAIN = "bigs"
_HEAD = '<domain: "bigs", opset_import: ["": %d]>'

# x [..., K] and w int8 [K, N] to x·w [..., N]. The scale of a token makes its largest activation 127; unsigned numbers
# with 128 for 0 are what processors multiply with signed ones. A cast cuts the fraction off, so that 128.5 rounds.
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
    """Return `model`, an `onnx.ModelProto` of a forward pass, with its large matrices in 8 bits; it is used up."""
    from onnx import helper, inliner, parser  # pyright: ignore[reportMissingImports]

    graph = model.graph
    source = _quantize_matrices(graph)
    nodes: list[Any] = []
    for node in graph.node:
        given, result = list(node.input), node.output[0]
        if node.op_type == "Gather" and given[0] in source:
            table = source[given[0]]
            nodes.append(helper.make_node("Lookup", [*_names(table), given[1]], [result], domain=_DOMAIN))
        elif node.op_type == "Transpose" and given[0] in source:
            nodes.append(helper.make_node("Transpose", [_names(given[0])[0]], [f"{result}_int8"], perm=[1, 0]))
        elif node.op_type in ("MatMul", "Gemm") and given[1] in source:
            matrix, scale = f"{given[1]}_int8", _names(source[given[1]])[1]
            products = f"{result}_products" if len(given) == 3 else result
            nodes.append(helper.make_node("Dense", [given[0], matrix, scale], [products], domain=_DOMAIN))
            if len(given) == 3:
                nodes.append(helper.make_node("Add", [products, given[2]], [result]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    model.functions.extend(parser.parse_function(_HEAD % opset + text) for text in (_DENSE, _LOOKUP))
    made = inliner.inline_local_functions(model)
    made.opset_import.remove(next(entry for entry in made.opset_import if entry.domain == _DOMAIN))
    return made


def _names(name: str) -> tuple[str, str]:
    return f"{name}_int8", f"{name}_scale"


def _quantize_matrices(graph: Any) -> dict[str, str]:
    """Replace large matrices of `graph` by 8 bits and scales; return which of them each operand of a node comes from.

    An operand is the matrix itself or, of a tied model, the transposed word embedding.
    """
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    large = {
        tensor.name: tensor
        for tensor in graph.initializer
        if len(tensor.dims) == 2 and min(tensor.dims) >= SMALLEST_SIDE and not tensor.name.endswith(POOLER)
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
    """Return int8 numbers and the scales, one for all along `axis`, whose products are near `matrix`."""
    scale = np.maximum(np.abs(matrix).max(axis, keepdims=True) / LARGEST_WEIGHT, np.float32(1e-30))
    return np.rint(matrix / scale).astype(np.int8), scale.squeeze(axis).astype(np.float32)
