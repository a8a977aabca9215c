"""The schema's history, as Alembic versions; a package, so that an installed service finds it."""
