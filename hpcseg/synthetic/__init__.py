"""Synthetic scenes with truth, of any size, streamed block by block: to try a machine with, and to train the first models.

Every pixel is a pure function of the seed, the scene's number and its position, so the block size cannot change a scene.
"""

from hpcseg.synthetic.animals import AnimalScene, animals
from hpcseg.synthetic.buildings import BuildingScene, buildings
from hpcseg.synthetic.camera import Camera, draw_camera
from hpcseg.synthetic.ice import IceScene, ice
from hpcseg.synthetic.sar import SarScene, sar

__all__ = ["AnimalScene", "BuildingScene", "Camera", "IceScene", "SarScene", "animals", "buildings", "draw_camera", "ice", "sar"]
