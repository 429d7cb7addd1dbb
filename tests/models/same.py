"""Whether the models a script has just made are those of the repository: the same file, or the same in everything but trained weights.

usage: same.py MADE REPOSITORY      every .onnx below MADE is compared with the one of the same name below REPOSITORY

Training adds numbers in an order that depends on the processor, so trained weights may differ in their last digits and, after many steps, in more.
What may not differ: inputs, outputs, metadata, operators and the shapes of all tensors. Files below bad/ must be the same to the byte.
"""

import os
import sys

import onnx


def form(path):
    model = onnx.load(path)
    graph = model.graph
    return {
        "inputs": [str(i) for i in graph.input],
        "outputs": [str(o) for o in graph.output],
        "metadata": {p.key: p.value for p in model.metadata_props},
        "operators": [(n.op_type, list(n.input), list(n.output)) for n in graph.node],
        "tensors": [(t.name, t.data_type, list(t.dims)) for t in graph.initializer],
    }


def main():
    made, kept = sys.argv[1:]
    status = 0
    for folder, _, files in os.walk(made):
        for name in sorted(f for f in files if f.endswith(".onnx")):
            path = os.path.relpath(os.path.join(folder, name), made)
            with open(os.path.join(made, path), "rb") as a, open(os.path.join(kept, path), "rb") as b:
                same = a.read() == b.read()
            if not same and os.path.dirname(path) != "bad":
                same = form(os.path.join(made, path)) == form(os.path.join(kept, path))
                print(f"{path}: {'other weights, the same form' if same else 'DIFFERENT'}")
            else:
                print(f"{path}: {'the same' if same else 'DIFFERENT'}")
            status |= not same
    sys.exit(status)


if __name__ == "__main__":
    main()
