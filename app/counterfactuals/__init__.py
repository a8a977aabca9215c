"""A track made again by a model that forgot one song, beside one that forgot a control song."""
