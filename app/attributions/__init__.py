"""Requests to attribute a track, and their results."""
