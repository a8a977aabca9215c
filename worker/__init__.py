"""The worker: tasks, the engine that they drive, the index, adapters to pipelines, and the science."""

import os

# Threads that spin while they wait for each other take the cores from whoever else computes on the machine: a query
# beside another one took three times as long. It must be said before torch loads its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# What makes matrix products on a GPU repeat bit for bit; read when its library starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
