"""Makes the starter again: fetch the songs, prepare them, train, assemble, index, measure (see starter/README.md)."""
