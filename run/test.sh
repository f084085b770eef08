#!/usr/bin/env bash
# Sets up what is missing, checks style and types, runs the tests: two at a time, then those that have deadlines one by one.
#
#   bash run/test.sh                  the short suite
#   bash run/test.sh --all            also the tests marked long
#   bash run/test.sh -k doctor -x     what else is given goes to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
short=" and not long"
words=()
for word in "$@"; do
    # A browser is wanted by long tests alone.
    if [ "$word" = --all ]; then short="" && export BROWSER=1; else words+=("$word"); fi
done
# Some tests start a Slurm of their own: its packages come along where they can (SLURM=1), else those tests are skipped.
SLURM=1 bash run/setup.sh </dev/null
source run/env.sh

ruff check --quiet .
mypy
# No tests at all (5) is no failure: a choice by -k may leave one half empty.
suite() { python -m pytest -q "$@" "${words[@]}" </dev/null || [ $? = 5 ]; }
# A module's tests stay together: they share what they set up. The longest modules come first: see tests/conftest.py.
failed=0
suite -n 2 --dist loadscope --no-loadscope-reorder -m "not alone$short" || failed=1
suite -m "alone$short" || failed=1
exit "$failed"
