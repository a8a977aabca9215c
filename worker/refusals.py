"""Why the engine answers no: each kind under the name that the service gives the problem."""


class EngineError(Exception):
    """A track or a question that the engine refuses; `kind` names the problem as the service does."""

    kind = "invalid-request"


class TooShort(EngineError):
    """The track is shorter than anything could be said about."""

    kind = "too-short"


class SilentAudio(EngineError):
    """There is no music in the track."""

    kind = "silent"


class NotFinite(EngineError):
    """The track holds NaN or infinite samples."""

    kind = "not-finite"


class UnknownMethod(EngineError):
    """There is no such method."""

    kind = "unknown-method"


class NotInTrainingSet(EngineError):
    """The index does not rank this song."""

    kind = "not-in-training-set"
