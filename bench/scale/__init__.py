"""What queries, builds and scans cost at size, beside the floor that the model's own arithmetic sets."""
