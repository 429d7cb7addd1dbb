"""Drives an agent's inference endpoint with NVIDIA's public client.

usage: triton.py HOST:PORT MODEL
"""

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

host, model = sys.argv[1:]
client = triton.InferenceServerClient(host, concurrency=4)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
print(client.get_server_metadata())
about = client.get_model_metadata(model)
name, width = about["inputs"][0]["name"], about["inputs"][0]["shape"][1]
output = about["outputs"][0]["name"]
rows = np.random.default_rng(1).normal([62, 1.8, 30, 12, 1450], [1, 0.2, 1, 1, 10], size=(64, width)).astype(np.float32)


def ask(rows, binary_in, binary_out, kind="FP32"):
    tensor = triton.InferInput(name, list(rows.shape), kind)
    tensor.set_data_from_numpy(rows.astype({"FP32": np.float32, "FP64": np.float64}[kind]), binary_data=binary_in)
    wanted = [triton.InferRequestedOutput(output, binary_data=binary_out), triton.InferRequestedOutput("label", binary_data=binary_out)]
    answer = client.infer(model, [tensor], outputs=wanted, request_id="r1")
    return answer.as_numpy(output), answer.as_numpy("label")


first, labels = ask(rows, True, True)
assert first.shape == (64, about["outputs"][0]["shape"][1]) and labels.shape == (64,)
for binary_in, binary_out, kind in ((False, False, "FP32"), (True, False, "FP64"), (False, True, "FP32")):
    again, names = ask(rows, binary_in, binary_out, kind)
    assert np.allclose(first, again, atol=1e-6)
    assert [n.decode() if isinstance(n, bytes) else n for n in names] == [n.decode() for n in labels]
alone = np.concatenate([ask(rows[i : i + 1], True, True)[0] for i in range(20)])
assert np.allclose(alone, first[:20], atol=1e-6)
tensor = triton.InferInput(name, [1, width], "FP32")
tensor.set_data_from_numpy(rows[:1])
running = [client.async_infer(model, [tensor]) for _ in range(40)]
assert all(np.allclose(r.get_result().as_numpy(output), first[:1], atol=1e-6) for r in running)
for bad in (rows[:1, :-1], np.zeros((2, width + 1), np.float32)):
    try:
        ask(bad, True, True)
        sys.exit("a wrong shape was taken")
    except InferenceServerException as error:
        assert "shape" in str(error), error
packed = client.infer(model, [tensor], request_compression_algorithm="gzip", response_compression_algorithm="deflate", model_version=about["versions"][0])
assert np.allclose(packed.as_numpy(output), first[:1], atol=1e-6)
assert np.allclose(client.infer(model, [tensor], request_compression_algorithm="deflate").as_numpy(output), first[:1], atol=1e-6)
whole = np.round(rows[:1]).astype(np.int64)
integers = triton.InferInput(name, [1, width], "INT64")
integers.set_data_from_numpy(whole)
assert np.allclose(client.infer(model, [integers]).as_numpy(output), ask(whole, True, True)[0], atol=1e-6)
only = client.infer(model, [tensor], outputs=[triton.InferRequestedOutput("label")])
assert only.as_numpy(output) is None and only.as_numpy("label").shape == (1,)
text = triton.InferInput(name, [1, width], "BYTES")
text.set_data_from_numpy(np.array([[b"a"] * width], dtype=object))
nobody = triton.InferInput("nobody", [1, width], "FP32")
nobody.set_data_from_numpy(rows[:1])
classes = [triton.InferRequestedOutput(output, class_count=2)]
for inputs, outputs, sentence in (([text], None, "datatype BYTES"), ([nobody], None, "no input nobody"), ([tensor], classes, "classification")):
    try:
        client.infer(model, inputs, outputs=outputs)
        sys.exit("taken, though it must not be: " + sentence)
    except InferenceServerException as error:
        assert sentence in str(error), error
print("all of it agrees")
