"""How faithful attributions are: models trained again without some songs, and every method judged by them."""
