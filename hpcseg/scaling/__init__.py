"""Scaling studies: run a stage over ranks, tile sizes and precisions, say how it scales, and look past the machine."""
