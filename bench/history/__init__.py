"""How fast a song's history and the catalogue's lists are read from a large database: `python -m bench.history`."""
