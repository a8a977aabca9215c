"""How questions to scanners are addressed; known without torch, to Celery's parents too."""

TASK = "rootnote.scan"


def queue_name(model: str, part: int, parts: int) -> str:
    """Return the message queue of the scanners of the part `part` of `parts`, counted from 1."""
    return f"scan.{model}.{part}-of-{parts}"
