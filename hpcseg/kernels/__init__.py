"""Numba kernels: arrays and scalars in, arrays and scalars out. They release the GIL and never start threads."""
