"""Networks and models: the owner of torch's networks. A model is a folder with model.toml and weights, or a foreign network."""

from hpcseg.models.model import Model, find_model, init_foreign, load_model, shipped_models
from hpcseg.models.registry import NETWORKS, build

__all__ = ["NETWORKS", "Model", "build", "find_model", "init_foreign", "load_model", "shipped_models"]
