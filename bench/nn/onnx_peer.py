"""Inference of the event encoder with ONNX Runtime. Run by compare.py, see bench_worker.cpp for the lines.

    onnx_peer.py padded|equal --data FILE --weights FILE [--threads N] --dim D

The graph is what ONNX Runtime's own transformer optimiser makes of such a model: fused attention, skip-norm and GELU; as in
the engine the last layer works on the hidden tokens only. padded: one batch, padded to its longest event. equal: one batch
for each length, without padding.
"""
import argparse
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import peer

VOCABULARY, LAYERS = 967, 6


def make_graph(weights, dim, heads, masked):
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(op, inputs, outputs=1, domain="", **attributes):
        names = [f"n{len(nodes)}_{i}" for i in range(outputs)]
        nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def weight(name, transpose=False):
        return constant(name, weights[name].T if transpose else weights[name])

    def fused(op, inputs, outputs=1, **attributes):
        return node(op, inputs, outputs, domain="com.microsoft", **attributes)

    rows = constant("rows", np.array([-1, dim], dtype=np.int64))
    x = node("Add", [node("Gather", [weight("encoder/token"), "tokens"]), node("Gather", [weight("encoder/position"), "positions"])])
    h = node("LayerNormalization", [x, weight("encoder/0/norm1/weight"), weight("encoder/0/norm1/bias")], axis=-1, epsilon=1e-5)
    for layer in range(LAYERS):
        at = f"encoder/{layer}/"
        h = fused("Attention", [h, weight(at + "qkv/weight", True), weight(at + "qkv/bias")] + (["lengths"] if masked else []), num_heads=heads)
        if layer == LAYERS - 1:
            h, x = (node("Gather", [node("Reshape", [v, rows]), "hidden"]) for v in (h, x))
        h = node("MatMul", [h, weight(at + "out/weight", True)])
        h, _, _, x = fused("SkipLayerNormalization", [h, x, weight(at + "norm2/weight"), weight(at + "norm2/bias"), weight(at + "out/bias")], 4, epsilon=1e-5)
        h = fused("FastGelu", [node("MatMul", [h, weight(at + "up/weight", True)]), weight(at + "up/bias")])
        h = node("MatMul", [h, weight(at + "down/weight", True)])
        norm = f"encoder/{layer + 1}/norm1" if layer + 1 < LAYERS else "encoder/norm"
        h, _, _, x = fused("SkipLayerNormalization", [h, x, weight(norm + "/weight"), weight(norm + "/bias"), weight(at + "down/bias")], 4, epsilon=1e-5)
    logits = node("Gemm", [h, weight("head/weight"), weight("head/bias")], transB=1)
    nodes.append(helper.make_node("GatherElements", [node("LogSoftmax", [logits], axis=-1), "targets"], ["score"], axis=1))
    inputs = {"tokens": ["batch", "length"], "positions": ["length"], "hidden": ["batch"], "targets": ["batch", 1]}
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in inputs.items()]
    if masked:
        values.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))
    graph = helper.make_graph(nodes, "encoder", values, [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=9)
    return model.SerializeToString()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["padded", "equal"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dim", type=int, required=True)
    options = parser.parse_args()
    memory_at_start = peer.peak_memory()
    batches = peer.read_data(options.data)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    masked = options.mode == "padded"
    graph = make_graph(peer.read_weights(options.weights), options.dim, 4 if options.dim == 64 else 8, masked)
    session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])

    def feed(batch, events):
        """The events (indices) padded to the longest of them."""
        lengths = batch.lengths[events]
        longest = int(lengths.max())
        tokens = np.zeros((len(events), longest), dtype=np.int64)
        for row, (e, n) in enumerate(zip(events, lengths)):
            tokens[row, :n] = batch.tokens[batch.starts[e] : batch.starts[e] + n]
        hidden = np.arange(len(events)) * longest + batch.hidden[events]
        targets = tokens.reshape(-1)[hidden][:, None].copy()
        tokens.reshape(-1)[hidden] = VOCABULARY - 1
        feeds = {"tokens": tokens, "positions": np.arange(longest), "hidden": hidden, "targets": targets}
        return feeds | {"lengths": lengths.astype(np.int32)} if masked else feeds

    def answer(verb, number):
        batch = batches[number]
        if verb == "score":
            groups = [np.arange(len(batch.lengths))] if masked else [np.flatnonzero(batch.lengths == n) for n in np.unique(batch.lengths)]
            feeds = [feed(batch, g) for g in groups]
            scores, result = peer.timed(lambda: [session.run(None, f)[0] for f in feeds])
        elif verb == "latency":
            scores, each = [], []
            for f in [feed(batch, np.array([e])) for e in range(len(batch.lengths))]:
                start = time.perf_counter()
                scores.append(session.run(None, f)[0])
                each.append(1e6 * (time.perf_counter() - start))
            result = {"microseconds": each}
        else:
            raise ValueError(f"onnx_peer: no verb {verb}")
        return result | {"events": len(batch.lengths), "tokens": len(batch.tokens), "score": float(np.concatenate(scores).mean())}

    peer.serve({"engine": f"ONNX Runtime {onnxruntime.__version__}"}, answer, memory_at_start)


if __name__ == "__main__":
    main()
