"""What Prometheus is told: requests as they were served, the queue as it stands, the jobs that ended."""
