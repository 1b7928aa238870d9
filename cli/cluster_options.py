"""The options by which several machines train together, of main.py and of recognizer.py."""
from cli.options import checked, number, one_of, place, whole

workers = checked("WORKERS", place, bool, "HOST:PORT of each worker, with commas between them, or slurm")


def cluster_options(add):
    """Add the options of the group Cluster."""
    add("cluster", workers, "", "processes that train together: HOST:PORT of each, with commas between them, or slurm, "
        "for those of a step of a Slurm job; each is started with the same options", "those of TF_CONFIG, if it is set")
    add("worker", whole(0, 9999), None, "number of this process in cluster, from 0; worker 0 writes the run",
        "that of TF_CONFIG or of Slurm")
    add("collective_timeout", number(5, 86400), 300.,
        "seconds after which a worker that does not answer any more, or never came, ends all others")
    add("collectives", one_of(("auto", "ring", "nccl")), "auto", "how workers add up gradients: ring, by TensorFlow's "
        "own connections; nccl, by NVIDIA's library; auto, nccl where networks lie on GPUs, else ring")
