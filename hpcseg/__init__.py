"""hpcseg: maps from archives of large satellite scenes, on many GPUs. Importing it starts nothing."""

__version__ = "0.1.0"
