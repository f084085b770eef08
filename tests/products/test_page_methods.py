"""Citations: numbered once, and our own as the repository says."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcseg import __version__
from hpcseg.models import NETWORKS
from hpcseg.products.page_methods import AUTHORS, TITLE, Methods, data_sentences, network_references, own_citation

ROOT = Path(__file__).resolve().parents[2]


def test_our_own_citation_is_that_of_the_repository():
    said = (ROOT / "CITATION.cff").read_text()
    assert f'title: "{TITLE}"' in said
    assert f"- name: {AUTHORS}" in said
    assert f"version: {__version__}" in said
    assert own_citation() == f"{AUTHORS}. {TITLE}. Version {__version__}."


def test_a_reference_keeps_its_number():
    methods = Methods()
    assert [methods.cite(["a"]), methods.cite(["b", "a"]), methods.cite([])] == [" [1]", " [2, 1]", ""]
    assert methods.references == ["a", "b"]


@pytest.mark.parametrize("network", sorted(set(NETWORKS) - {"one-convolution"}))
def test_every_network_has_its_paper(network):
    assert network_references(network)


def test_a_foreign_network_has_none():
    assert network_references("somebody.pt2") == ()


def test_dates_and_regions_are_of_all_scenes():
    methods = Methods()
    manifest = {f"{k}": {"date": f"2024-0{k + 1}-01", "region": f"region {k}"} for k in range(3)}
    assert "names no source" in data_sentences(methods, manifest)
    assert methods.text == "The scenes were taken between 2024-01-01 and 2024-03-01. They show region 0, region 1 and region 2."
