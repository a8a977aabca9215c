"""Songs, their rights-holders, their influence history, and the models that were trained on them."""
