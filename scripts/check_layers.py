#!/usr/bin/env python3
"""Checks who includes whom (docs/design.md, "Arrows").

A file may include its own room and rooms of a lower level; rooms of one level
do not know each other; a room's private headers (src/) stay in the room. Each
third-party library has one door. Prints file:line for every breach; exit 1.
"""
import re
import sys
from pathlib import Path

LEVELS = {
    "core": 0,
    "kernels": 1, "text": 1, "formats": 1,
    "model": 2,
    "passes": 3, "eval": 3, "export": 3,
    "pipeline": 4,
    "search": 5,
    "report": 6,
    "apps": 7,
}
# Include prefix -> the rooms that may use it.
TORCH_FREE = {"core", "kernels", "text", "report"}
DOORS = {
    "yaml-cpp/": {"core"},
    "nlohmann/": {"core"},
    "spdlog/": {"core"},
    "fmt/": {"core"},  # everybody else: autoglm/core/text.h
    "CLI/": {"apps"},
    "pcre2": {"text"},
    "sentencepiece": {"text"},
    "ATen/": set(LEVELS) - TORCH_FREE,
    "c10/": set(LEVELS) - TORCH_FREE,
    "torch/": set(LEVELS) - TORCH_FREE,
    "catch2/": set(),  # only tests/support/catch.h, which is not read here
}
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".def", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def room_of(path):
    """The room of a source file, given relative to the repository."""
    if path.parts[0] == "apps":
        return "apps"
    return path.parts[2] if path.parts[0] == "include" else path.parts[1]


def breach(room, included):
    """What is wrong with `included` in a file of `room`, or None."""
    public = re.match(r"autoglm/(\w+)/", included)
    private = re.match(r"(\w+)/", included)
    if public:
        other = public.group(1)
        if other not in LEVELS:
            return f"unknown room '{other}'"
        if other != room and LEVELS[other] >= LEVELS[room]:
            return (f"'{room}' (level {LEVELS[room]}) may not include "
                    f"'{other}' (level {LEVELS[other]})")
    elif private and private.group(1) in LEVELS and private.group(1) != room:
        return f"a private header of '{private.group(1)}' in '{room}'"
    for prefix, rooms in DOORS.items():
        if included.startswith(prefix) and room not in rooms:
            allowed = ", ".join(sorted(rooms)) or "the tests"
            return f"<{included}> is for {allowed} only, not for '{room}'"
    return None


def main():
    root = Path(__file__).resolve().parent.parent
    if len(sys.argv) > 1:
        root = Path(sys.argv[1])
    breaches = files = 0
    for top in ("include", "src", "apps"):
        for file in sorted((root / top).rglob("*")):
            if file.suffix not in SUFFIXES:
                continue
            files += 1
            path = file.relative_to(root)
            room = room_of(path)
            if room not in LEVELS:
                print(f"{path}:1: unknown room '{room}'")
                breaches += 1
                continue
            text = file.read_text(encoding="utf-8")
            for number, line in enumerate(text.splitlines(), 1):
                match = INCLUDE.match(line)
                problem = match and breach(room, match.group(1))
                if problem:
                    print(f"{path}:{number}: {problem}")
                    breaches += 1
    print(f"{files} files read, {breaches} breaches of the layers")
    return 1 if breaches or not files else 0


if __name__ == "__main__":
    sys.exit(main())
