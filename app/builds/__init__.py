"""Builds of indexes: what is to be made, by whom it is being made, and how far it is."""
