"""Read from Slurm's variables which processes a step of a job has, and on which machines they run. No TensorFlow."""
import itertools
import re

from utils import UserError

WORD = "slurm"                  # as the value of --cluster
# A job's first port follows from its number, so that jobs which share a machine have others.
FIRST_PORT, PORTS = 10000, 20000
MOST_TASKS = 100_000
OF_A_STEP = {"SLURM_STEP_NUM_TASKS": "SLURM_NTASKS", "SLURM_STEP_NODELIST": "SLURM_JOB_NODELIST",
             "SLURM_STEP_TASKS_PER_NODE": "SLURM_TASKS_PER_NODE"}
NEEDED = "SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NODELIST", "SLURM_JOB_ID"


def read(environment):
    """Read the variables of a process that srun started -> (addresses of all workers, number of this one).

    The tasks lie on the machines in blocks, as by default. Raises UserError where a variable is missing or unusable.
    """
    # Of a step, which may be smaller than its job, there are variables of their own.
    own = {name: environment[of_step] for of_step, name in OF_A_STEP.items() if environment.get(of_step)}
    environment = {**environment, **own}
    missing = [name for name in NEEDED if not environment.get(name)]
    if missing:
        raise UserError(f"--cluster {WORD}: {missing[0]} is not set; start the program with srun in a job of Slurm, or "
                        "name the workers")
    index, count, job = (_whole(environment, name) for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID"))
    nodes = unfold(environment["SLURM_JOB_NODELIST"])
    tasks = _tasks_of(environment, nodes, count)
    if sum(tasks) != count or not 0 <= index < count:
        raise UserError(f"--cluster {WORD}: SLURM_PROCID {index}, SLURM_NTASKS {count} and {sum(tasks)} tasks on "
                        f"{len(nodes)} machines do not fit together; start the program with srun, and one step at a "
                        "time")
    places = [(node, number) for node, its_tasks in enumerate(tasks) for number in range(its_tasks)]
    if environment.get("SLURM_NODEID", str(places[index][0])) != str(places[index][0]):
        raise UserError(f"--cluster {WORD}: task {index} does not run on {nodes[places[index][0]]}; start the program "
                        "with srun --distribution=block")
    first = FIRST_PORT + job * 8 % PORTS                # 8: most jobs have no more tasks on a machine
    return [f"{nodes[node]}:{first + number}" for node, number in places], index


def _whole(environment, name):
    """Read a whole number. Raises UserError for another word."""
    word = environment[name]
    if not word.isdecimal() or len(word) > 18:
        raise UserError(f"--cluster {WORD}: {name} is {word}, and no whole number; start the program with srun")
    return int(word)


def _tasks_of(environment, nodes, count):
    """Read how many tasks each of the `nodes` has, such as "2(x3),1" -> list. By default, all have as many."""
    text = environment.get("SLURM_TASKS_PER_NODE")
    if not text:
        return [count // len(nodes)] * len(nodes)
    if not re.fullmatch(r"\d{1,6}(\(x\d{1,6}\))?(,\d{1,6}(\(x\d{1,6}\))?)*", text):
        raise UserError(f"--cluster {WORD}: tasks per node: {text} has an unknown form; name the workers")
    return [int(tasks) for tasks, _, times in re.findall(r"(\d+)(\(x(\d+)\))?", text) for _ in range(int(times or 1))]


def unfold(text):
    """Unfold Slurm's list of machines, such as "node[01-03,7],login" -> list of names. Raises UserError."""
    names = []
    for word in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", text):
        parts = [_ranges(part[1:-1], text) if part.startswith("[") else [part]
                 for part in re.findall(r"\[[^\]]*\]|[^\[\]]+", word)]
        names += ["".join(choice) for choice in itertools.islice(itertools.product(*parts), MOST_TASKS)]
    rest = re.sub(r"(?:[^,\[\]]|\[[^\[\]]*\])+", "", text).strip(",")
    if rest or not names:
        raise _unknown(text)
    return names


def _ranges(text, whole):
    """Unfold "01-03,7" -> ["01", "02", "03", "7"]. Raises UserError, which shows the `whole` list."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        first, last = (match[1], match[2] or match[1]) if match else ("1", "0")
        if not 0 <= int(last) - int(first) < MOST_TASKS:
            raise _unknown(whole)
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return found


def _unknown(text):
    return UserError(f"--cluster {WORD}: the list of machines {text} has an unknown form; name the workers")
