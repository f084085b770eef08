"""Stands in for launchers and for hpcseg where a study is tried without starting any."""

from __future__ import annotations

import sys
from pathlib import Path

# Starts a command as often as its first word says, one after the other.
LAUNCHER = """
import subprocess, sys
codes = [subprocess.call(sys.argv[2:]) for _ in range(int(sys.argv[1]))]
if max(codes):
    print("-----", "launcher: one process returned a code", "-----", sep="\\n")
sys.exit(max(codes))
"""
# Leaves what a training run of two epochs leaves; fails, sleeps, or says nothing where an epoch's word tells it to.
PROGRAM = """
import json, pathlib, sys, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--out") + 1])
with open(out.parents[1] / "calls", "a") as file:
    print(*words, file=file)
if "--fail" in words:
    sys.exit("hpcseg: no room on the disk")
if "--sleep" in words:
    time.sleep(60)
out.mkdir(exist_ok=True)
if "--silent" not in words:
    seconds = {"compute": 3.5, "averaging": 0.25, "data": 0.125}
    (out / "train.json").write_text(json.dumps({"wall": 0.5, "seconds": seconds, "compute": [3.0, 3.5]}))
    (out / "history.csv").write_text("epoch,loss,seconds\\n1,0.5,2.5\\n2,0.4,1.5\\n")
    blocks = [{"part": "train"}] * 3 + [{"part": "test"}]
    (out / "split.json").write_text(json.dumps({"edge": 512, "blocks": blocks}))
"""


def write_programs(folder: Path) -> tuple[str, tuple[str, ...]]:
    """The words of a launcher, with {ranks} in them, and those of a program."""
    for name, text in (("launcher.py", LAUNCHER), ("program.py", PROGRAM)):
        (folder / name).write_text(text)
    return f"{sys.executable} {folder / 'launcher.py'} {{ranks}}", (sys.executable, str(folder / "program.py"))
