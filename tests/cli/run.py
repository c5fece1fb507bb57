#!/usr/bin/env python3
"""Runs one text test of the command line.

usage: run.py [--update] AUTOGLM SOURCE_DIR FILE.test

A test is a list of
    $ command            a bash line; `autoglm`, $SOURCE and $GOLDEN are set
    expected output      stdout, then stderr, as it is; [..] stands for any
                         run of characters in a line, a line ... for any lines
    ? 2                  the exit code, when it is not 0
Lines starting with # outside output are comments. All commands of a file run
in one fresh folder. --update writes what was printed into the file.
"""
import os
import re
import subprocess
import sys
import tempfile


def parse(text):
    """[(comments, command, expected lines, exit code)]"""
    cases, notes = [], []
    for line in text.splitlines():
        if line.startswith("$ "):
            cases.append([notes, line[2:], [], 0])
            notes = []
        elif line.startswith("? ") and cases:
            cases[-1][3] = int(line[2:])
        elif (line.startswith("#") or not line.strip()) and not notes and (
                not cases or line.startswith("#")):
            notes.append(line)
        elif notes:
            notes.append(line)
        else:
            cases[-1][2].append(line)
    for case in cases:
        while case[2] and not case[2][-1].strip():
            case[2].pop()
    return cases


def line_matches(expected, found):
    pattern = ".*".join(re.escape(part) for part in expected.split("[..]"))
    return re.fullmatch(pattern, found) is not None


def matches(expected, found):
    if not expected:
        return not found
    if expected[0] == "...":
        return any(matches(expected[1:], found[i:]) for i in range(len(found) + 1))
    return bool(found) and line_matches(expected[0], found[0]) and matches(
        expected[1:], found[1:])


def main():
    update = sys.argv[1] == "--update"
    program, source, file = sys.argv[1 + update:]
    source = os.path.abspath(source)
    env = dict(os.environ, SOURCE=source, NO_COLOR="1", LC_ALL="C.UTF-8",
               GOLDEN=os.path.join(source, "tests", "golden"),
               PATH=os.path.dirname(os.path.abspath(program)) + ":" + os.environ["PATH"])
    # Threads that wait by spinning would take the processor from the test beside.
    env.setdefault("GOMP_SPINCOUNT", "0")
    cases = parse(open(file, encoding="utf-8").read())
    if not cases:
        sys.exit(f"{file}: no commands")
    failed, out = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for notes, command, expected, code in cases:
            run = subprocess.run(["bash", "-c", command], cwd=folder, env=env,
                                 stdin=subprocess.DEVNULL, capture_output=True)
            text = (run.stdout + run.stderr).decode("utf-8", "replace")
            found = [line.rstrip() for line in text.splitlines()]
            while found and not found[-1]:
                found.pop()
            out += notes + ["$ " + command]
            fine = run.returncode == code and matches([e.rstrip() for e in expected], found)
            if fine:
                out += expected + ([f"? {code}"] if code else [])
            else:
                failed += 1
                out += found + ([f"? {run.returncode}"] if run.returncode else [])
                print(f"--- {file}: $ {command}\nexpected (exit code {code}):")
                print("\n".join(expected))
                print(f"found (exit code {run.returncode}):")
                print("\n".join(found))
            out.append("")
    if update:
        open(file, "w", encoding="utf-8").write("\n".join(out).rstrip() + "\n")
    elif failed:
        sys.exit(1)
    print(f"{len(cases)} commands, {failed} different")


main()
