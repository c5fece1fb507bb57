#!/usr/bin/env python3
"""Checks what the documents say against the tree.

Links between files lead somewhere; a script, configuration or document that
is named in backquotes exists; docs/design.md has a line for every folder of
the house; no file carries the path of somebody's machine. Prints file:line
for every problem; exit 1.
"""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
NAMED = re.compile(r"`((?:scripts|configs|docs|cmake|tests|src|include|examples"
                   r"|third_party|bench|apps)/[\w./-]+)`")
# Spelled in pieces, so that this file does not trip over itself.
MACHINE_PATH = re.compile("/(?:" + "|".join(["wo" "rk", "ro" "ot", "ho" "me"])
                          + r")/[\w.-]+")
TEXT = {".md", ".h", ".cpp", ".cu", ".py", ".sh", ".cmake", ".txt", ".yaml",
        ".json", ""}


def tracked():
    """Files of the repository; of an exported tree, all but build folders."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True,
                            capture_output=True)
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:
        names = [str(f.relative_to(ROOT)) for f in ROOT.rglob("*")
                 if f.is_file()]
    skip = re.compile(r"(build[^/]*|out|examples/data|\.git)/")
    return [ROOT / name for name in names
            if not skip.match(name) and (ROOT / name).is_file()]


def lines_of(file):
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []


def check_links(file, report):
    for number, line in enumerate(lines_of(file), 1):
        for target in LINK.findall(line):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (file.parent / target).exists():
                report(file, number, f"the link '{target}' leads nowhere")
        for name in NAMED.findall(line):
            if not (ROOT / name.rstrip(".")).exists():
                report(file, number, f"`{name}` is not there")


def check_map(report):
    design = ROOT / "docs/design.md"
    text = design.read_text(encoding="utf-8")
    folders = [f for f in ROOT.iterdir()
               if f.is_dir() and not f.name.startswith((".", "build"))
               and f.name != "out"]
    folders += [f for f in (ROOT / "src").iterdir() if f.is_dir()]
    for folder in sorted(folders):
        name = folder.relative_to(ROOT)
        if any(folder.iterdir()) and f"`{name}/`" not in text:
            report(design, 1, f"the map has no line for `{name}/`")


def main():
    problems = []

    def report(file, number, message):
        problems.append(f"{file.relative_to(ROOT)}:{number}: {message}")

    files = tracked()
    for file in files:
        if file.suffix == ".md":
            check_links(file, report)
        if file.suffix in TEXT and file.stat().st_size < 1_000_000:
            for number, line in enumerate(lines_of(file), 1):
                for path in MACHINE_PATH.findall(line):
                    report(file, number, f"a machine's path: {path}")
    check_map(report)
    print("\n".join(problems + [f"{len(files)} files, "
                                f"{len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
