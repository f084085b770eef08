"""The gallery: an archive's tiles embedded, hashed and bucketed, and a network for each bucket."""
