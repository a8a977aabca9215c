"""Disputes: a song's row in a result is objected to, reviewed, and upheld or rejected."""
