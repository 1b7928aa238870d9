"""Go on with one run in many short-lived processes, at the cost of one graph: python tests/forked_run.py [options]

Takes the options of main.py. At each line "go on" on stdin it forks where main.py opens its session, and prints
"started"; at "kill" it kills that process with SIGKILL, and prints "killed".
"""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

os.environ["TF_OVERRIDE_GLOBAL_THREADPOOL"] = "1"      # threads do not survive a fork: each session makes its own

import main
import trainer
from cli import program

Session = trainer.tf1.Session


def forked_session(*arguments, **options):
    """A session in a new process, one after the other; never returns in the first process."""
    while sys.stdin.readline() == "go on\n":
        child = os.fork()
        if child == 0:
            return Session(*arguments, **options)
        print("started", flush=True)
        sys.stdin.readline()                            # "kill", or nothing when the test has failed
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)
    os._exit(0)


trainer.tf1.Session = forked_session
sys.exit(program.run("main.py", main.main, sys.argv[1:]))
