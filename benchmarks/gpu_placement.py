"""Where the operations of a step run, and whether each of them has a kernel for a GPU.

TensorFlow's wheel for CPUs is that for GPUs, so that its registry of kernels can be asked on any machine.
"""
import collections
import functools
import re

import tensorflow as tf
from tensorflow.python.framework import dtypes, kernels

tf1 = tf.compat.v1

# Operations that no device computes: they pass values into a graph, out of it, and between devices.
PASSED_ON = {"_Arg", "_Retval", "_Send", "_Recv", "_HostSend", "_HostRecv", "NoOp", "_SOURCE", "_SINK"}
# Types of numbers whose few values a GPU's kernels keep in the host's memory themselves.
HOST_TYPES = {"int32", "int64", "bool", "string", "resource", "variant"}
READS_IMAGES = "input pipeline: images are read, decoded and ordered by the CPU"
COUNTS = "shapes, seeds and counters: a few whole numbers, which the host computes on its own"
TELLS = "text for TensorBoard"
FEEDS = "a number that Python feeds or fetches, or a constant of the host"
WAITS = "an order: an operation of the host waits for one of the device"
_OF_PIPELINE = ("Dataset", "Iterator")
_NUMBER = re.compile(r"/_\d+$")         # ends the names of what TensorFlow adds where it cuts a graph


def run_with_metadata(session, fetches, feed):
    """Run `fetches` of a session -> the RunMetadata, with what ran, and the graph of each device as it ran."""
    metadata = tf1.RunMetadata()
    options = tf1.RunOptions(output_partition_graphs=True, trace_level=tf1.RunOptions.FULL_TRACE)
    session.run(fetches, feed, options=options, run_metadata=metadata)
    return metadata


def nodes_of(metadata):
    """List the NodeDefs that a RunMetadata has of all devices, as they ran."""
    return [node for graph in metadata.partition_graphs for node in graph.node]


def count_operations(metadata):
    """Count the operations that ran -> {type: count}, the most frequent first. Those of a loop count once."""
    return dict(collections.Counter(node.op for node in nodes_of(metadata)).most_common())


def device_of(node):
    """Name the kind of device that a NodeDef was placed on: "CPU", "GPU", ..."""
    return node.device.rpartition("device:")[2].partition(":")[0] or "CPU"


def host_reason(node):
    """Tell why a NodeDef belongs on the host, even in a session with a GPU; None where it does not."""
    if node.op in PASSED_ON:
        return FEEDS
    if _ends_wait(node):
        return WAITS
    if any(word in node.op for word in _OF_PIPELINE):
        return READS_IMAGES
    types = types_of(node)
    if "Summary" in node.op or (types and types <= {"string"}):
        return TELLS
    if node.op in ("Placeholder", "Const") and types:
        return FEEDS if node.op == "Placeholder" or types <= HOST_TYPES else None
    return COUNTS if types and types <= HOST_TYPES - {"resource", "variant"} else None


def _ends_wait(node):
    """Tell whether a NodeDef ends a control dependency between two devices.

    TensorFlow makes such an end of a _Recv of an empty tensor and an Identity of it (graph_partition.cc). Both have the
    name of the operation that is waited for, and another number each.
    """
    return (node.op == "Identity" and len(node.input) == 1 and bool(_NUMBER.search(node.input[0]))
            and node.name != node.input[0] and _NUMBER.sub("", node.name) == _NUMBER.sub("", node.input[0]))


def types_of(node):
    """Collect the types of the numbers that a NodeDef takes and gives, as its attributes tell -> {"float32", ...}."""
    found = set()
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        listed = [value.type] if kind == "type" else value.list.type if kind == "list" else []
        found |= {dtypes.as_dtype(each).name for each in listed}
    return found


def sort_out(nodes, wanted):
    """Sort NodeDefs by where they run -> {"on device": count, "host": {reason: {type: count}}, "fell back": ...}.

    What fell back is {type: names}. `wanted` is the kind of device for all that has no reason to be on the host.
    """
    host, fell_back, on_device = collections.defaultdict(collections.Counter), collections.defaultdict(list), 0
    for node in nodes:
        if device_of(node) == wanted:
            on_device += 1
        elif host_reason(node):
            host[host_reason(node)][node.op] += 1
        else:
            fell_back[node.op].append(node.name)
    return {"on device": on_device, "host": {reason: dict(counts.most_common()) for reason, counts in host.items()},
            "fell back": dict(fell_back)}


# The registry of kernels

def has_gpu_kernel(node):
    """Tell whether a kernel for GPUs is registered for a NodeDef's operation and the types of its attributes."""
    return any(kernel.device_type in ("GPU", "DEFAULT") and _takes(kernel, node) for kernel in _kernels_for(node.op))


@functools.cache
def _kernels_for(op):
    """List the KernelDefs of an operation."""
    return kernels.get_registered_kernels_for_op(op).kernel


def _takes(kernel, node):
    """Tell whether the types that a KernelDef is for are those of a NodeDef."""
    for constraint in kernel.constraint:
        value = node.attr[constraint.name]
        given = value.list.type if value.WhichOneof("value") == "list" else [value.type]
        if not set(given) <= set(constraint.allowed_values.list.type):
            return False
    return True


def without_gpu_kernel(nodes):
    """Collect NodeDefs that could run on no GPU, and have no reason to be on the host -> {type: names}."""
    found = collections.defaultdict(list)
    for node in nodes:
        if not host_reason(node) and not has_gpu_kernel(node):
            found[node.op].append(node.name)
    return dict(found)


# Determinism

# Operations whose kernels for GPUs have no deterministic form: with op determinism, they raise an error when they run.
# The source are these errors' texts in the library of TensorFlow 2.21 (libtensorflow_cc.so.2, "A deterministic GPU
# implementation of ... is not currently available", "Determinism is not yet supported for ..."), as
# tf.config.experimental.enable_op_determinism announces them. Left out are depthwise convolutions, which only lack one
# with cuDNN before 7.6.3, Svd of matrices with 1 column, and segment reductions: the library has such a text for them,
# but TensorFlow's own deterministic form of sparse_softmax_cross_entropy_with_logits is made of one.
NOT_DETERMINISTIC = {
    "AdjustContrast", "AdjustContrastv2", "Bincount", "DenseBincount", "CropAndResizeGradBoxes",
    "CropAndResizeGradImage", "DebugNumericSummaryV2", "Dilation2DBackpropFilter", "Dilation2DBackpropInput",
    "FakeQuantWithMinMaxVarsGradient", "FakeQuantWithMinMaxVarsPerChannelGradient", "MaxPoolGradWithArgmax",
    "ResizeNearestNeighborGrad", "SparseTensorDenseMatMul",
    # Scatter into variables that are no resource variables.
    "ScatterAdd", "ScatterSub", "ScatterMul", "ScatterDiv", "ScatterMin", "ScatterMax", "ScatterUpdate",
    "ScatterNdAdd", "ScatterNdSub", "ScatterNdUpdate"}
# The same holds of these where they belong to a batch norm that is not training.
OF_BATCH_NORM = {"FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3"}


def not_deterministic(nodes):
    """Collect NodeDefs that have no deterministic kernel for GPUs -> {type: names}."""
    found = collections.defaultdict(list)
    for node in nodes:
        if node.op in NOT_DETERMINISTIC or (node.op in OF_BATCH_NORM and not node.attr["is_training"].b):
            found[node.op].append(node.name)
    return dict(found)


def needed_for(graph, fetches):
    """List the NodeDefs that the operations `fetches` of a tf.Graph need, those in bodies of loops and calls too.

    Functions of the input pipeline are left out: they run on the CPU.
    """
    definition = graph.as_graph_def()
    library = {function.signature.name: function.node_def for function in definition.library.function}
    found = list(tf1.graph_util.extract_sub_graph(definition, [operation.name for operation in fetches]).node)
    called, waiting = set(), list(found)
    while waiting:
        node = waiting.pop()
        if any(word in node.op for word in _OF_PIPELINE):
            continue
        for value in node.attr.values():
            functions = [value.func] if value.WhichOneof("value") == "func" else value.list.func
            for name in {function.name for function in functions} - called:
                called.add(name)
                found += library[name]
                waiting += library[name]
    return found
