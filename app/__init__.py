"""The service: the domain, its HTTP face and its command line. Nothing here imports torch."""
