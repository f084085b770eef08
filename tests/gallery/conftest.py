"""What tests of building and assigning share: an archive, an encoder, and the gallery that is built of them."""

from __future__ import annotations

import threading

import pytest
from gallery.archive import options_of, write_archive, write_encoder

from hpcseg.gallery.build import build


@pytest.fixture(scope="session")
def archive(tmp_path_factory, make_scene):
    """A folder of two scenes."""
    return write_archive(tmp_path_factory.mktemp("archive"), make_scene)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory, make_model):
    """A model folder."""
    return write_encoder(tmp_path_factory.mktemp("encoders") / "narrow", make_model)


@pytest.fixture(scope="session")
def built(tmp_path_factory, alone, archive, encoder):
    """A gallery of the archive: its folder, how it was made, and what assigning its scenes gave. Not to be changed: copy it."""
    out = tmp_path_factory.mktemp("built") / "gallery"
    return out, *build(alone, options_of(archive, encoder, out), threading.Event())
