#!/usr/bin/env python3
"""Puts each bug of this folder into a copy of the checkout, and runs the test that has to find it.

A bug is found if the test fails and its failure matches the expression in the patch. The exit code is 0 if all bugs
are found. The script needs git and cargo. The copy and its build stay in `planted` of the target folder, so the next
run compiles this crate only.
"""

import argparse
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "planted"
COPY = FOLDER / "copy"
ENVIRONMENT = os.environ | {
    "CARGO_TARGET_DIR": str(FOLDER / "target"),
    "CARGO_TERM_COLOR": "never",
    # git apply must not use a repository around the copy.
    "GIT_CEILING_DIRECTORIES": str(FOLDER),
    "RUST_BACKTRACE": "0",
    # Each run has the same traces.
    "PROPTEST_RNG_SEED": "1",
    # A shorter trace is easier to read, and the reason of the failure is the same.
    "PROPTEST_MAX_SHRINK_ITERS": "200",
}
# A model that needs more traces than this to find a bug is too weak.
TRACES_MAX = 200
# The longest test, in seconds. A bug may hang the test; without a bug, the model takes about a minute.
TEST_MAX = 600
# The characters that are shown of a failure that was expected, and of an output that was not.
SHOWN = 200
TAIL = 3_000


class Bug:
    """A patch, its test, and the failure that it expects."""

    def __init__(self, path):
        self.path = path
        self.name = path.stem
        head = path.read_text().split("\ndiff --git ", 1)[0]
        self.test = re.search(r"^Test: (.+)$", head, re.M)[1]
        self.says = re.search(r"^Says: (.+)$", head, re.M)[1]

    def apply(self, *options):
        """Applies the patch to the copy. Returns the error of git, or None."""
        done = run(["git", "apply", *options, str(self.path)])
        return done.stdout if done.returncode else None

    def find(self):
        """Compiles the copy with the bug and runs the test. Returns how the bug was found, or raises NotFound."""
        arguments = shlex.split(self.test)
        target = arguments[: arguments.index("--")]
        built = run(["cargo", "test", "--locked", "--no-run", *target])
        if built.returncode:
            raise NotFound("the copy does not compile", built.stdout)
        try:
            tested = run(["cargo", "test", "--locked", *arguments], timeout=TEST_MAX)
        except subprocess.TimeoutExpired:
            raise NotFound(f"the test did not end within {TEST_MAX} s") from None
        output = tested.stdout
        if tested.returncode == 0:
            raise NotFound("the test passes: no bug, no such test, or a test that is too weak", output)
        # The last output of proptest, for the shortest trace.
        failure = re.search(r"Test failed: (.*?)\.?\nminimal failing input.*?\tsuccesses: (\d+)", output, re.S)
        if not failure or not re.search(self.says, failure[1]):
            raise NotFound(f"the test fails for another reason than {self.says!r}", output)
        print(f"  {' '.join(failure[1].split())[:SHOWN]}", flush=True)
        traces = int(failure[2]) + 1
        if traces > TRACES_MAX:
            raise NotFound(f"it took {traces} traces, more than {TRACES_MAX}")
        return f"found in trace {traces}"


class NotFound(Exception):
    """A bug was not found. Has the reason, and the output that shows it."""

    def __init__(self, why, output=""):
        super().__init__(why)
        self.output = output[-TAIL:]


def run(command, **options):
    return subprocess.run(
        command, cwd=COPY, env=ENVIRONMENT, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )


def copy_checkout():
    """Copies all files that git would commit. The copies are newer than an earlier build, so cargo compiles them."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, COPY / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bugs", nargs="*", help="names of patches; all by default")
    names = parser.parse_args().bugs
    bugs = [Bug(path) for path in sorted(HERE.glob("*.patch"))]
    unknown = set(names) - {bug.name for bug in bugs}
    if unknown or not bugs:
        sys.exit(f"no such patch in {HERE}: {', '.join(sorted(unknown)) or '*.patch'}")
    bugs = [bug for bug in bugs if not names or bug.name in names]

    copy_checkout()
    for bug in bugs:
        if wrong := bug.apply("--check"):
            sys.exit(f"{bug.path.name} does not apply; rewrite it for the present code:\n{wrong}")

    rows, missed = [], False
    for bug in bugs:
        print(f"{bug.name}: cargo test {bug.test}", flush=True)
        begun = time.monotonic()
        bug.apply()
        try:
            verdict = bug.find()
        except NotFound as error:
            print(error.output)
            verdict, missed = f"NOT FOUND: {error}", True
        bug.apply("--reverse")
        rows.append((bug.name, shlex.split(bug.test)[-1], verdict, f"{time.monotonic() - begun:.0f}"))

    rows.insert(0, ("bug", "test", "verdict", "seconds"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return missed


if __name__ == "__main__":
    sys.exit(main())
