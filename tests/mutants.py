"""Small faults in the code that decides what is believed, and whether a test notices each.

``python -m tests.mutants [PATTERN…]``: mutmut (its section of setup.cfg) makes the faults in a copy
of the project, ``mutants/``, and tries each with the quick tests of these modules. What is not
noticed is shown, with a table at the end; the status is 1 if that is more than `MOST_LEFT` of a
module's. docs/security.md says what the known ones are. Run it in a clone; it takes half an hour or
so, and goes on where it was stopped.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

KILLED = {"killed", "segfault"}  # a timeout may be the machine's fault
MOST_LEFT = 0.1


def mutmut(*arguments: str) -> str:
    """Runs it; what it prints."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def statuses() -> dict[str, str]:
    """Of each fault that was tried, by its name."""
    lines = mutmut("results", "--all", "true").splitlines()
    pairs = (line.strip().split(": ") for line in lines if ": " in line)
    return {name: status for name, status in pairs if status != "not checked"}


def main(patterns: list[str]) -> int:
    subprocess.run([sys.executable, "-m", "mutmut", "run", *patterns], check=True)
    made, left = Counter[str](), Counter[str]()
    for name, status in statuses().items():
        module = name.partition(".x")[0]
        made[module] += 1
        if status not in KILLED:
            left[module] += 1
            print(mutmut("show", name), flush=True)
    for module, count in made.items():
        share = (count - left[module]) / count
        print(f"{module:30} {count:4} faults, {left[module]:3} not noticed, {share:.1%} killed")
    return int(any(left[module] > MOST_LEFT * count for module, count in made.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
