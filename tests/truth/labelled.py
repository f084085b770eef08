"""Labels of a scene in each of their forms, and how the tests of truth read them."""

from __future__ import annotations

import numpy as np
import pytest
from maps import write_map
from osgeo import gdal, ogr, osr

from hpcseg.config import LabelSpec
from hpcseg.errors import HpcsegError
from hpcseg.georeference import Georeference
from hpcseg.raster import CellCache
from hpcseg.tiles import Window
from hpcseg.truth import open_truth

CLASSES = ("ground", "roof", "road")
TWO = ("background", "building")
HEIGHT, WIDTH = 300, 420
WHOLE = Window(0, 0, HEIGHT, WIDTH)
NORTH_UP = (500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0)
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (128, 64, 255), (0, 255, 0)], np.uint8)
BY_COLOUR = LabelSpec(map={"#000000": "ground", "#FF0000": "roof", "#8040ff": "road", "#00ff00": "ignore"})
OF_COLOUR = np.array([0, 1, 2, 255], np.uint8)


def numbers(top=3, seed=0):
    """Class numbers in patches, u8 (HEIGHT, WIDTH)."""
    coarse = np.random.default_rng(seed).integers(0, top, (-(-HEIGHT // 20), -(-WIDTH // 20)), np.uint8)
    return coarse.repeat(20, 0).repeat(20, 1)[:HEIGHT, :WIDTH]


def opened(path, scene, spec=None, classes=CLASSES):
    return open_truth(path, scene, spec or LabelSpec(), classes, CellCache(1 << 26))


def read(truth, window=WHOLE):
    out = np.full((window.height, window.width), 77, np.uint8)
    truth.read(window, out)
    return out


def refusal(kind, path, scene, spec=None, classes=CLASSES):
    """The line with which labels are refused, when they are opened or read."""
    with pytest.raises(HpcsegError) as error:
        read(opened(path, scene, spec, classes))
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


def cut(pixels, window):
    """A window of whole labels, 255 beyond the edge."""
    margin = 300
    return np.pad(pixels, margin, constant_values=255)[window._replace(row=window.row + margin, col=window.col + margin).slices]


def utm(epsg=32633):
    system = osr.SpatialReference()
    system.ImportFromEPSG(epsg)
    return system.ExportToWkt()


def write_prediction(path, pixels, classes=CLASSES):
    """A prediction file of these labels."""
    return write_map(path, pixels, classes, Georeference(wkt=utm(), transform=NORTH_UP, axes="projected"))


def write_patches(path, pixels):
    """Polygons around equal pixels, their value in the field kind."""
    raster = gdal.GetDriverByName("MEM").Create("", WIDTH, HEIGHT, 1, gdal.GDT_Byte)
    raster.SetGeoTransform(NORTH_UP)
    raster.SetProjection(utm())
    raster.WriteArray(pixels)
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    layer = source.CreateLayer("patches", osr.SpatialReference(utm()), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("kind", ogr.OFTInteger))
    gdal.Polygonize(raster.GetRasterBand(1), None, layer, 0)
    del layer, source
    return path
