"""`make mutate`: puts each fault into a copy of the package, and tells which ones no test caught.

python -m tests.mutations [WORD...]: only those whose file or description holds one of the words.
"""

import signal
import subprocess
import sys

from tests.mutations.applying import Copy, Mutation, copied
from tests.mutations.faults import MUTATIONS


def main(words: list[str]) -> int:
    """Return 1 where a fault is caught by no test, or tests fail without one."""
    chosen = [
        one for one in MUTATIONS if not words or any(w in one.file + one.breaks for w in words)
    ]
    if not chosen:
        say(f"found no mutation with {' or '.join(words)}; leave the words out to try all")
        return 1
    with copied() as copy:
        say(f"{len(chosen)} mutations; first their tests without any ...")
        whole = copy.tested(sorted({test for one in chosen for test in one.tests}))
        if whole.returncode:
            say(whole.stdout)
            return 1
        survived = [one for one in chosen if not caught(copy, one)]
    say(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    return 1 if survived else 0


def caught(copy: Copy, mutation: Mutation) -> bool:
    """Try one, and say what became of it."""
    try:
        is_caught = copy.catches(mutation)
        what = "caught" if is_caught else "SURVIVED"
    except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        is_caught, what = False, f"NOT TRIED: {error}"
    say(f"{what:<9} {mutation.file}: {mutation.breaks}")
    return is_caught


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the copy goes then too
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
