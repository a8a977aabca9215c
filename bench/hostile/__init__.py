"""What hostile input does to the service: a corpus made by code, sent through the real path, and counted."""
