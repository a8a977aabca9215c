"""Public attribution packages asked about the same model, training segments, queries and loss as every other method."""
