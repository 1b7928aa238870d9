"""Start commands in forks of one process that has loaded TensorFlow, which takes seconds: python tests/worker_pool.py

It reads a JSON object a line, and answers each with one. {"start": [module, function, words...], "log": path} calls
`module.function(words)`, as a program, with stdout and stderr in a file -> the process id. {"ask": pid} -> the exit
status, null while it runs.
"""
import importlib
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import main  # noqa: F401
import recognizer  # noqa: F401
from cli import program
from engine import startup


def work(module, function, words, log):
    """Call a function as a program, and end this process with its exit status."""
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for number in (1, 2):
        os.dup2(opened, number)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    status = 1
    try:
        status = program.run(f"{module}.py", getattr(importlib.import_module(module), function), words)
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve():
    """Answer the lines of stdin."""
    startup.start()
    import trainer  # noqa: F401
    from recognition import training  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        if "ask" in asked:
            pid, status = os.waitpid(asked["ask"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                module, function, *words = asked["start"]
                work(module, function, words, asked["log"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
