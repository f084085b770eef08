"""Scenes into prediction files, one path for all that labels: networks and teachers alike. No torch here."""
