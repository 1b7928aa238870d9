"""engine/cluster: who trains together, by options, TF_CONFIG or Slurm, what is wrong with it; whose share is which."""
import json
import socket
from argparse import Namespace

import pytest
import tensorflow as tf

from config import get_config
from conftest import words
from datasets.image_sets import ImageSet, Pairs, Renderings
from engine.cluster import addresses, liveness, slurm
from engine.cluster.addresses import Cluster
from engine.cluster.collectives import Exchange
from engine.cluster.joining import digest_of_images
from engine.cluster.replicas import Replicas, replicas_of
from engine.cluster.team import ALONE
from tool import one_line
from utils import UserError

TWO = ["a:1", "b:2"]
SLURM = dict(SLURM_PROCID="2", SLURM_NTASKS="3", SLURM_JOB_NODELIST="node[08-09]", SLURM_JOB_ID="5",
             SLURM_TASKS_PER_NODE="2,1")


def options(cluster="", worker=None, **more):
    """Options of a command as typed."""
    return Namespace(cluster=cluster, worker=worker, collective_timeout=300., num_gpu=1, **more)


def tf_config(cluster, kind="worker", index=0):
    """The environment with a TF_CONFIG."""
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize("given, environment, wanted", [
    (options(), {}, ("", None)),
    (options("a:1, b:2", 1), {}, ("a:1,b:2", 1)),
    (options("[::1]:7,b:2", 0), tf_config({"worker": ["c:1", "d:1"]}), ("[::1]:7,b:2", 0)),
    (options("a:1", 0), {}, ("", None)),
    (options(), {"TF_CONFIG": " "}, ("", None)),
    (options(), {"TF_CONFIG": "{}"}, ("", None)),
    (options(), tf_config({"worker": TWO}, index=1), ("a:1,b:2", 1)),
    (options(), tf_config({"worker": ["a:1"]}), ("", None)),
    (options(), tf_config({"chief": ["c:3"], "worker": TWO}, "chief"), ("c:3,a:1,b:2", 0)),
    (options(), tf_config({"chief": ["c:3"], "worker": TWO}, index=1), ("c:3,a:1,b:2", 2)),
    (options("slurm"), SLURM, ("node08:10040,node08:10041,node09:10040", 2)),
    (options("Slurm"), {**SLURM, "SLURM_TASKS_PER_NODE": "", "SLURM_NTASKS": "4"},
     ("node08:10040,node08:10041,node09:10040,node09:10041", 2)),
    (options("slurm"), {**SLURM, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "login",
                        "SLURM_TASKS_PER_NODE": "1"}, ("", None)),
    (options("slurm"), {**SLURM, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "node[07-08]",
                        "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_PROCID": "1"}, ("node07:10040,node08:10040", 1)),
    (options(), SLURM, ("", None))])
def test_who_trains_together(given, environment, wanted):
    addresses.resolve(given, pytest.fail, environment)
    assert (given.cluster, given.worker) == wanted


@pytest.mark.parametrize("given, environment, named", [
    (options("a:1,b:2"), {}, "needs --worker"),
    (options("a:1,b:2", 2), {}, "--worker 2: must be from 0 to 1"),
    (options(worker=1), {}, "--worker 1: needs --cluster"),
    (options("a:1,b", 0), {}, "--cluster b: must be HOST:PORT"),
    (options("a:1,,b:2", 0), {}, "--cluster : must be HOST:PORT"),
    (options("a:1,http://b:2", 0), {}, "--cluster http://b:2: must be"),
    (options("a:1,b:65536", 0), {}, "the port must be from 1 to 65535"),
    (options("a:1,b:0", 0), {}, "the port must be"),
    (options("a:1,b:2,a:1", 0), {}, "a:1 stands there twice"),
    (options(), {"TF_CONFIG": "{'cluster'"}, "TF_CONFIG: not JSON"),
    (options(), {"TF_CONFIG": "[" * 100000}, "TF_CONFIG: not JSON"),
    (options(), {"TF_CONFIG": json.dumps({"cluster": {"worker": TWO}})}, "does not tell which worker this is"),
    (options(), {"TF_CONFIG": json.dumps({"cluster": {"worker": TWO}, "task": {"type": "worker"}})}, "does not tell"),
    (options(), {"TF_CONFIG": json.dumps({"task": {"type": "worker", "index": 0}})}, "has no list of workers"),
    (options(), tf_config({"worker": "a:1"}), "has no list of workers"),
    (options(), tf_config({"ps": TWO}), "has no list of workers"),
    (options(), tf_config({"worker": TWO}, index=2), "task index 2: its cluster has 2 of type worker"),
    (options(), tf_config({"worker": TWO}, index=-1), "task index -1"),
    (options(), tf_config({"worker": TWO}, "evaluator"), "task type evaluator"),
    (options(), tf_config({"worker": ["a:1", 7]}), "TF_CONFIG 7: must be HOST:PORT"),
    (options(), tf_config({"worker": ["a:1", "a:1"]}), "twice"),
    (options("slurm"), {}, "SLURM_PROCID is not set"),
    (options("slurm"), {**SLURM, "SLURM_NTASKS": "many"}, "SLURM_NTASKS is many"),
    (options("slurm"), {**SLURM, "SLURM_PROCID": "3"}, "do not fit together"),
    (options("slurm"), {**SLURM, "SLURM_TASKS_PER_NODE": "2"}, "do not fit together"),
    (options("slurm"), {**SLURM, "SLURM_TASKS_PER_NODE": "two"}, "two has an unknown form"),
    (options("slurm"), {**SLURM, "SLURM_NODEID": "0"}, "--distribution=block"),
    (options("slurm"), {**SLURM, "SLURM_JOB_NODELIST": "node[08-"}, "unknown form")])
def test_a_wrong_cluster_is_one_line(given, environment, named):
    said = []
    addresses.resolve(given, said.append, environment)
    assert len(said) == 1 and named in said[0] and "\n" not in said[0], said
    assert (given.cluster, given.worker) == ("", None)


@pytest.mark.parametrize("text, names", [
    ("login", ["login"]), ("a,b-1,c.local", ["a", "b-1", "c.local"]),
    ("node[01-03,7]", ["node01", "node02", "node03", "node7"]), ("n[9-11]", ["n9", "n10", "n11"]),
    ("gpu-[a]1,x", None), ("r[1-2]n[3,5]-ib,z", ["r1n3-ib", "r1n5-ib", "r2n3-ib", "r2n5-ib", "z"]),
    ("n[098-100]", ["n098", "n099", "n100"]), ("n[3-1]", None), ("n[1-2", None), ("n]1", None), ("", None),
    ("n[1-999999999]", None), ("n[]", None)])
def test_slurm_s_list_of_machines_is_unfolded(text, names):
    if names:
        assert slurm.unfold(text) == names
    else:
        with pytest.raises(UserError) as error:
            slurm.unfold(text)
        one_line(error, "unknown form")


def test_a_host_that_nobody_knows_and_a_port_in_use():
    with pytest.raises(UserError) as error:
        addresses.check(Cluster(("localhost:1", "nowhere.invalid:2"), 0, 300))
    one_line(error, "nowhere.invalid:2", "no machine of this name")
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        cluster = Cluster((f"localhost:{port}", "localhost:1"), 0, 300)
        with pytest.raises(UserError) as error:
            addresses.check(cluster)
        one_line(error, f"worker 0 (localhost:{port})", "another program uses it")
    addresses.check(cluster)


@pytest.mark.parametrize("cluster, worker, gpus, wanted, part", [
    ("", None, 1, Replicas(1, 0, 1), (0, 4)), ("", None, 2, Replicas(2, 0, 2), (0, 8)),
    ("a:1,b:2,c:3", 2, 1, Replicas(3, 2, 1), (8, 4)), ("a:1,b:2", 1, 2, Replicas(4, 2, 2), (8, 8))])
def test_the_share_of_a_worker(cluster, worker, gpus, wanted, part):
    found = replicas_of(Namespace(cluster=cluster, worker=worker, num_gpu=gpus))
    assert found == wanted and found.part(4) == part


def test_steps_and_options_of_several_workers(monkeypatch, capsys):
    """TF_CONFIG counts for a training alone; all GPUs of all workers share the steps."""
    monkeypatch.setenv("TF_CONFIG", tf_config({"worker": TWO}, index=1)["TF_CONFIG"])
    config, _ = get_config(words(max_step=4, num_gpu=2))
    assert (config.cluster, config.worker) == ("a:1,b:2", 1)
    config, _ = get_config(["--generate_dataset"])
    assert (config.cluster, config.worker) == ("", None)
    with pytest.raises(SystemExit):
        get_config(words(max_step=3, num_gpu=2))
    assert "less than the 4 GPUs" in capsys.readouterr().err


def test_a_digest_tells_sets_apart_and_not_where_they_are():
    photos = ImageSet("/a", ["1.jpg", "2.jpg"])
    one, other = (Renderings(root, ["1/1.jpg", "2/1.jpg"], [0, 1], ["1", "2"]) for root in ("/a", "/b"))
    assert digest_of_images(photos) == digest_of_images(ImageSet("/b", photos.names)) and digest_of_images(
        photos).startswith("2 images")
    assert digest_of_images(one) == digest_of_images(other)
    changed = [photos, one, one._replace(labels=[0, 0]), one._replace(identities=["1", "3"]), Pairs(photos, photos),
               Pairs(photos, ImageSet("/a", ["1.jpg", "3.jpg"]))]
    assert len({digest_of_images(each) for each in changed}) == len(changed)


class Answers:
    """In the place of liveness.Questions: the next answers of worker 1."""

    wait = .01

    def __init__(self, *answers):
        self.answers = list(answers)

    def ask(self):
        return {1: self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]}


@pytest.mark.parametrize("answers, lost", [
    ([b"x"], []), ([None], [1]), (["refused"], [1]), ([None] * 3 + [b"x"], []), ([b"another"], [1])])
def test_a_silent_worker_is_lost_and_one_that_comes_back_is_not(answers, lost):
    """One that was started anew answers otherwise."""
    called = []
    watch = liveness.Watch(Cluster(("a:1", "b:2"), 0, .3), Answers(*answers), {1: b"x"}, lambda: called.append(1))
    watch._thread.join(1.5)
    watch.close()
    assert watch.lost == lost and bool(called) == bool(lost)


def test_after_an_error_the_lost_worker_is_found_and_a_healthy_one_is_not():
    cluster = Cluster(("a:1", "b:2"), 0, .3)
    for answers, lost in (([b"x"], []), ([None, None, b"x"], []), ([None], [1])):
        watch = liveness.Watch(cluster, Answers(b"x"), {1: b"x"}, lambda: None)
        watch.close()
        watch._end.clear()
        watch._questions = Answers(*answers)
        assert watch.find_lost(patient=False) == lost


def test_one_process_alone_adds_nothing_to_the_graph():
    with tf.Graph().as_default() as graph:
        tensors = [tf.constant([1., 2.]), tf.constant([1, 2])]
        before, alone = len(graph.get_operations()), ALONE.exchange()
        assert alone.gather(*tensors) == alone.means(tensors) == tensors and alone.sum(tensors[0]) is tensors[0]
        assert len(graph.get_operations()) == before and alone.votes is None


def test_the_operations_of_a_worker_have_one_order_and_their_own_keys():
    """The rows of a worker lie at its own place; nothing of a gathered tensor has a gradient."""
    with tf.Graph().as_default() as graph:
        exchange = Exchange(Cluster(("a:1", "b:2", "c:3"), 1, 300), "nccl")
        rows, labels = tf.zeros([4, 2]), tf.zeros([4], tf.int32)
        gathered = exchange.gather(rows, labels)
        assert [(each.shape.as_list(), each.dtype) for each in gathered] == [([12, 2], tf.float32), ([12], tf.int32)]
        mean, = exchange.means([tf.ones([2, 3])])
        assert mean.shape == [2, 3] and exchange.votes.shape == [2] and exchange.counts.shape == [2]
        first, second = [op for op in graph.get_operations() if op.type == "CollectiveReduce"]
        assert first in second.control_inputs
        assert [op.get_attr("instance_key") for op in (first, second)] == [1, 2]
        assert {op.get_attr("communication_hint") for op in (first, second)} == {b"nccl"}
        assert tf.compat.v1.gradients(gathered[0], rows) == [None]
