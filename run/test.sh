#!/usr/bin/env bash
# Sets up what is missing, checks style and types, runs the tests. The last line is pytest's count of them.
#
#   bash run/test.sh                  the short suite
#   bash run/test.sh --all            also the tests marked long
#   bash run/test.sh -k doctor -x     what else is given goes to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash run/setup.sh </dev/null
source run/env.sh

marks=(-m "not long")
words=()
for word in "$@"; do
    if [ "$word" = --all ]; then marks=(); else words+=("$word"); fi
done

ruff check --quiet .
mypy
# Two at a time: ranks that start and tests that compute seldom want both cores.
exec python -m pytest -q -n 2 "${marks[@]}" "${words[@]}" </dev/null
