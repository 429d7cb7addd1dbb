"""Writes the files that must be refused with a sentence: tests/models/bad/*.onnx.

usage: make_bad.py [--out DIR]      truncated, empty, not ONNX, an operator nobody knows, another input width, NaN weights,
                                and small files that take 4 GiB of memory, or minutes of the processor.
"""

import argparse
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def linear(weights, nodes=None, opsets=(("", 15),)):
    width = weights.shape[0]
    nodes = nodes or [helper.make_node("MatMul", ["features", "w"], ["probabilities"])]
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="driftline").SerializeToString(deterministic=True)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(here, "bad"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    good = linear(np.eye(5, 3))
    unknown = [helper.make_node("DictVectorizer", ["features"], ["probabilities"], domain="ai.onnx.ml", int64_vocabulary=[0, 1, 2])]
    bomb = [
        helper.make_node("Constant", [], ["repeats"], value=numpy_helper.from_array(np.array([1 << 26, 1], dtype=np.int64))),
        helper.make_node("Tile", ["w", "repeats"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["features", "w"], ["product"]),
        helper.make_node("Add", ["product", "sum"], ["probabilities"]),
    ]
    # Products of constants, which are worked out when the model is prepared.
    large = [helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1500, 1500], dtype=np.int64)))]
    large.append(helper.make_node("ConstantOfShape", ["shape"], ["p0"], value=helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5 / 1500])))
    large += [helper.make_node("MatMul", [f"p{i}", "p0"], [f"p{i + 1}"]) for i in range(2000)]
    slow = large + [
        helper.make_node("ReduceSum", ["p2000"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["features", "w"], ["product"]),
        helper.make_node("Add", ["product", "sum"], ["probabilities"]),
    ]
    files = {
        "empty.onnx": b"",
        "truncated.onnx": open(os.path.join(here, "pump-v1.onnx"), "rb").read()[:700],
        "not-onnx.onnx": b"\x89PNG\r\n\x1a\n" + bytes(range(200)),
        "unsupported-op.onnx": linear(np.eye(5, 3), unknown, (("", 15), ("ai.onnx.ml", 2))),
        "bomb.onnx": linear(np.eye(5, 3), bomb),
        "slow.onnx": linear(np.eye(5, 3), slow),
        "wrong-shape.onnx": linear(np.eye(7, 3)),
        "nan-weights.onnx": linear(np.full((5, 3), np.nan)),
    }
    onnx.load_from_string(good)
    for name, content in files.items():
        with open(os.path.join(out, name), "wb") as file:
            file.write(content)


if __name__ == "__main__":
    main()
