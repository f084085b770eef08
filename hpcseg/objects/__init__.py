"""Objects of a map: connected components, exact over tiles and ranks."""
