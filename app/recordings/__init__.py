"""Recordings to hear: of tracks and of songs, whole or in part, and how loud they are over time."""
