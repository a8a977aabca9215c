"""Signed reports: what was found, as a document that anyone can check."""
