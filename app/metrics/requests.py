"""Requests and refusals, counted by the process that served them and told for all that serve beside it."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from app.metrics.together import Together, shared

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LABELS = ("method", "route", "status")
_NAMES = frozenset({"rootnote_requests", "rootnote_request_seconds", "rootnote_refusals"})


class RequestMetrics:
    """Counts and times the requests of one application; each has its own registry."""

    def __init__(self) -> None:
        self.registry, self._folder = CollectorRegistry(), shared()
        self._count = Counter("rootnote_requests", "Requests served.", _LABELS, registry=self.registry)
        self._seconds = Histogram(
            "rootnote_request_seconds", "Time to serve.", _LABELS[:2], buckets=_BUCKETS, registry=self.registry
        )
        self._refused = Counter("rootnote_refusals", "Problem documents sent.", ["type"], registry=self.registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one served request; `route` is the template of its path."""
        self._count.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def refused(self, slug: str) -> None:
        """Note one refusal by the slug of its problem type."""
        self._refused.labels(slug).inc()

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        if self._folder is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        together.register(Together(self._folder, _NAMES))
        return generate_latest(together)
