"""hpcseg models: what is listed of a network."""

from __future__ import annotations

import re

import pytest

from hpcseg.cli import execute
from hpcseg.cli.models import command
from hpcseg.models import NETWORKS, shipped_models


@pytest.fixture
def listed(capsys):
    """listed(*words): the numbers of each line by name."""

    def run(*words):
        assert execute(command, list(words), None, True) == 0
        lines = [line.partition(": ") for line in capsys.readouterr().out.splitlines()]
        return {name: dict(re.findall(r"(\w+)=([\d.]+)", rest)) for name, _, rest in lines}

    return run


def test_all_networks_and_models_are_listed_with_what_they_need_and_cost(listed):
    found = listed()
    assert list(found) == [*NETWORKS, *shipped_models()]
    for name, numbers in found.items():
        assert {"parameters", "halo", "stride", "cost"} <= set(numbers), name
        assert float(numbers["cost"]) > 0, name


def test_a_network_is_described_for_other_bands_and_classes(listed):
    found = listed("deeplab", "--bands", "4", "--classes", "6")["deeplab"]
    first, branches = 64 * 7 * 7, 4 * (2048 * 9 + 1)
    assert int(found["parameters"]) == 42_542_280 + first + 4 * branches
    assert (found["halo"], found["stride"]) == ("712", "8")
