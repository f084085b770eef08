"""Mapping scenes with a network: the map verb of the stream."""
