"""Exports a scikit-learn MLP to a small ONNX file that tract runs as it is.

The StandardScaler is folded into the first layer's weights (W/sd, b - mean·W/sd), because tract has no ai.onnx.ml Scaler; the label
branch (ArrayFeatureExtractor, ZipMap) is left out. What Driftline wants to know about the model travels as metadata. Leaves out every
other kind of estimator.
"""

import json
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    # One thread: sums in a fixed order, so that two runs write the same bytes.
    os.environ[variable] = "1"

import numpy as np
import onnx
from onnx.utils import Extractor
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType


def fold(scaler, mlp):
    """Moves the scaler into the first layer; `mlp` then takes raw values."""
    first = mlp.coefs_[0] / scaler.scale_[:, None]
    mlp.intercepts_[0] = mlp.intercepts_[0] - scaler.mean_ @ first
    mlp.coefs_[0] = first
    return mlp


def export(mlp, path, *, name, release, features, label, units=None):
    """Writes `mlp` with one input `features` [N, F] float32 and one output `probabilities` [N, C] float32."""
    shape = [("features", FloatTensorType([None, len(features)]))]
    model = to_onnx(mlp, initial_types=shape, options={id(mlp): {"zipmap": False}}, target_opset=15)
    model = Extractor(model).extract_model(["features"], ["probabilities"])
    model.ir_version = 8
    model.producer_name, model.producer_version, model.doc_string = "driftline", "", ""
    facts = {
        "driftline.name": name,
        "driftline.release": release,
        "driftline.features": json.dumps(features),
        "driftline.classes": json.dumps([str(c) for c in mlp.classes_]),
        "driftline.label": label,
    }
    if units:
        facts["driftline.units"] = json.dumps(units, ensure_ascii=False)
    del model.metadata_props[:]
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    with open(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


def answers(path, rows):
    """The classes onnxruntime gives for `rows`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["probabilities"], {"features": np.asarray(rows, dtype=np.float32)})
    return scores.argmax(axis=1)
