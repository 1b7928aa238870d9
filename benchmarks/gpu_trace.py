"""Where a step's time goes, read from a trace of engine/profiling.py: the kernels, and the time in which none runs."""
import collections
import glob
import os

STEP = "train"              # the name of a step's event in engine/profiling.py
COPIES = "Memcpy", "Memset"         # begin the names of a GPU's events that are no kernels


def read(folder, gpu, most=20):
    """Read the trace in `folder` of training steps -> {"steps", "ms a step", "idle", "kernels"}.

    `idle` is the share of the steps' time in which no kernel runs: on a GPU, what is lost while the next one is
    launched. `kernels` are the `most` costliest, [name, ms a step, number a step] each. Without a `gpu`, operations of
    TensorFlow take the place of kernels, by their types.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    path, = glob.glob(os.path.join(glob.escape(folder), "plugins/profile/*/*.xplane.pb"))
    space = xplane_pb2.XSpace()
    with open(path, "rb") as file:
        space.ParseFromString(file.read())
    return summarize(space, gpu, most)


def summarize(space, gpu, most=20):
    """Do what `read` does for an XSpace. Raises ValueError where it has no steps, or no kernels."""
    host = [event for plane in space.planes if plane.name.startswith("/host") for event in _events(plane)]
    steps = sorted((start, end) for _, name, start, end in host if name == STEP)
    if not steps:
        raise ValueError("the trace has no steps")
    if gpu:
        planes = [plane for plane in space.planes if plane.name.startswith("/device:GPU")]
        ran = [(name, start, end) for plane in planes for line, name, start, end in _events(plane)
               if line.startswith("Stream") and not name.startswith(COPIES)]
    else:           # an operation is called NAME:TYPE on a thread of the executor
        ran = [(name.rpartition(":")[2], start, end) for line, name, start, end in host
               if line.startswith("tf_Compute") and ":" in name and "::" not in name]
    ran = [(name, start, end) for name, start, end in ran if any(a <= start < b for a, b in steps)]
    if not ran:
        raise ValueError("the trace has no kernels; may this user profile the GPU? (NVIDIA's ERR_NVGPUCTRPERM)")
    wall = sum(end - start for start, end in steps)
    cost, number = collections.Counter(), collections.Counter()
    for name, start, end in ran:
        cost[name] += end - start
        number[name] += 1
    count = len(steps)
    return {"steps": count, "ms a step": wall / count / 1e9, "idle": 1 - _covered(ran, steps) / wall,
            "kernels a step": sum(number.values()) / count,
            "kernels": [[name, picoseconds / count / 1e9, number[name] / count]
                        for name, picoseconds in cost.most_common(most)]}


def _events(plane):
    """Yield the events of an XPlane: (line's name, event's name, start, end), in picoseconds."""
    for line in plane.lines:
        begin = line.timestamp_ns * 1000
        for event in line.events:
            start = begin + event.offset_ps
            yield line.name, plane.event_metadata[event.metadata_id].name, start, start + event.duration_ps


def _covered(ran, steps):
    """Compute in how much of the time of `steps` [(start, end)] something ran: an interval of `ran`, or several."""
    total, waiting = 0, sorted((start, end) for _, start, end in ran)
    for first, last in steps:
        reached = first
        for start, end in waiting:
            start, end = max(start, reached), min(end, last)
            if end > start:
                total += end - start
                reached = end
    return total
