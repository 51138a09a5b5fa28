"""Small faults in the code that decides what is believed, and whether a test notices each.

``python -m tests.mutants [PATTERN…]``: mutmut (its section of setup.cfg) makes the faults in a copy
of the project, ``mutants/``, and tries each with the quick tests of these modules. What survives
is tried here with wider tests, which take too long for all. What then is left is shown, with a
table at the end. Run it in a clone; it takes an hour or so, and goes on where it was stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

COPY = Path("mutants")
KILLED = {"killed", "segfault"}  # a timeout may be the machine's fault
WIDER = ["pipeline", "streams", "drives", "contents", "pipe", "keep_damaged"]
WIDER += ["limits", "salvage", "journal", "damage"]  # these take longest
PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "300"]
PYTEST += ["--hypothesis-profile", "ci"]  # no deadlines


def mutmut(*arguments: str) -> str:
    """Runs it; what it prints."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def statuses() -> dict[str, str]:
    """Of each fault, by its name."""
    lines = mutmut("results", "--all", "true").splitlines()
    pairs = (line.strip().split(": ") for line in lines if ": " in line)
    return {name: status for name, status in pairs if status != "not checked"}


def is_noticed(mutant: str) -> bool:
    """Whether the wider tests fail with it; without a name they must pass."""
    environment = {**os.environ, "MUTANT_UNDER_TEST": mutant, "PYTHONPATH": str(COPY.resolve())}
    tests = [f"tests/test_{name}.py" for name in WIDER]
    ended = subprocess.run(
        [*PYTEST, *tests], cwd=COPY, env=environment, stdout=subprocess.DEVNULL, check=False
    )
    return ended.returncode != 0


def main(patterns: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "mutmut", "run", *patterns], check=True)
    if is_noticed(""):
        sys.exit("the wider tests fail without any fault")
    made, left = Counter[str](), Counter[str]()
    for name, status in statuses().items():
        module = name.partition(".x")[0]
        made[module] += 1
        if status not in KILLED and not is_noticed(name):
            left[module] += 1
            print(mutmut("show", name), flush=True)
    for module, count in made.items():
        share = (count - left[module]) / count
        print(f"{module:30} {count:4} faults, {left[module]:3} not noticed, {share:.1%} killed")


if __name__ == "__main__":
    main(sys.argv[1:])
