"""What can go wrong, as types: each carries its HTTP status and the stable slug of its problem document.

ServiceError
├── InvalidRequest · Unreadable · MissingFile · UnknownModel · UnknownMethod · UnknownAudio · BadCursor
├── NeedsKey · InvalidKey
├── Forbidden
│   └── InsufficientScope · ForeignHost · ForeignOrigin
├── NotFound · MethodNotAllowed · Conflict (HolderConflict, NoResult)
├── InvalidModel · BadKey
├── AudioError
│   ├── Empty · TooLarge · NotAudio · Truncated
│   ├── TooManyChannels · BadSampleRate · TooShort · TooLong
│   └── Silent · NotFinite
├── TooManyRequests · QuotaExhausted
├── UploadStalled
├── AudioMissing · AudioCorrupt
├── AttemptsExhausted · InvalidResult
└── Unavailable (retryable)
    └── DatabaseUnavailable (DatabaseBusy) · StorageUnavailable · DecoderFailed
"""

from __future__ import annotations

from typing import ClassVar

RETRY_SECONDS = 2.0


class ServiceError(Exception):
    """An error that means something to the caller: HTTP `status`, `type` as slug, `title`, and whether to try again."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"
    retryable: ClassVar[bool] = False
    challenge: str | None = None
    """What a WWW-Authenticate header says beside the scheme (RFC 6750), where a key is what is wrong."""

    def __init__(self, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after_s = RETRY_SECONDS if retry_after_s is None and self.retryable else retry_after_s


class InvalidRequest(ServiceError):
    """The request does not have the form that the interface asks for."""

    status, type, title = 422, "invalid-request", "The request is not valid"


class Unreadable(InvalidRequest):
    """The body is not in the form that the request says it has."""

    status, title = 400, "The request's body cannot be read"


class MissingFile(InvalidRequest):
    """A track was to be sent, and no file came."""

    type, title = "missing-file", "No audio file was sent"


class UnknownModel(InvalidRequest):
    """The named model is not registered."""

    type, title = "unknown-model", "This model is not registered"


class UnknownMethod(InvalidRequest):
    """The named method does not exist."""

    type, title = "unknown-method", "This method does not exist"


class UnknownAudio(InvalidRequest):
    """No track of the named digest was sent before."""

    type, title = "unknown-audio", "This track was not sent before"


class BadCursor(InvalidRequest):
    """A page's cursor was not made by this service, or for another list."""

    status, type, title = 400, "bad-cursor", "This cursor is not valid here"


class InvalidModel(ServiceError):
    """A model's folder lacks a file, or one that says what it must."""

    status, type, title = 422, "invalid-model", "The model's folder is not valid"


class NeedsKey(ServiceError):
    """No key was sent, and without one nothing is served."""

    status, type, title, challenge = 401, "needs-key", "A key is needed: Authorization: Bearer rn_…", ""


class InvalidKey(ServiceError):
    """The key that was sent is not good, or not any more."""

    status, type, title, challenge = 401, "invalid-key", "The key is not valid", 'error="invalid_token"'


class Forbidden(ServiceError):
    """The caller is known, and this is not for it."""

    status, type, title = 403, "forbidden", "This is not allowed"


class InsufficientScope(Forbidden):
    """The key lacks the scope that this call needs."""

    type, title = "insufficient-scope", "The key does not allow this"

    def __init__(self, *scopes: str) -> None:
        super().__init__(f"this call needs a key with the scope {' or '.join(scopes)}")
        self.challenge = f'error="insufficient_scope", scope="{" ".join(scopes)}"'


class ForeignHost(Forbidden):
    """A service without keys was reached under a name that is not this machine's own."""

    type, title = "foreign-host", "This name is not served without a key"


class ForeignOrigin(Forbidden):
    """A page of another site sent the request, with the rights of whoever looks at it."""

    type, title = "foreign-origin", "Pages of other sites may not do this"


class NotFound(ServiceError):
    """Nothing of that id belongs to the caller."""

    status, type, title = 404, "not-found", "There is nothing here"


class MethodNotAllowed(ServiceError):
    """The address exists, but not for this verb."""

    status, type, title = 405, "method-not-allowed", "This method is not allowed here"


class Conflict(ServiceError):
    """The present state does not allow it."""

    status, type, title = 409, "conflict", "The present state does not allow this"


class HolderConflict(Conflict):
    """A party's identifiers contradict what is known of a rights-holder."""

    type, title = "holder-conflict", "These identifiers belong to another rights-holder"


class NoResult(Conflict):
    """The attribution has not succeeded, so there is nothing to report."""

    type, title = "no-result", "This attribution has no result"


class BadKey(ServiceError):
    """A key that signs or verifies cannot be used."""

    type, title = "bad-key", "The key is not valid"


class TooManyRequests(ServiceError):
    """More requests in this minute than the tenant's quota allows."""

    status, type, title = 429, "too-many-requests", "Too many requests in this minute"


class QuotaExhausted(ServiceError):
    """More jobs in this month than the tenant's quota allows."""

    status, type, title = 429, "quota-exhausted", "This month's jobs are used up"


class AudioError(ServiceError):
    """The track cannot be used; seen at POST when its header shows it, else in the job."""

    status = 422


class Empty(AudioError):
    """The upload holds no byte."""

    type, title = "empty", "The file is empty"


class TooLarge(AudioError):
    """More bytes than allowed, as sent or decoded."""

    status, type, title = 413, "too-large", "The file is too large"


class NotAudio(AudioError):
    """No known audio format."""

    status, type, title = 415, "not-audio", "The file is not audio in a known format"


class Truncated(AudioError):
    """The file ends before the audio that it announces."""

    type, title = "truncated", "The file ends before its audio does"


class TooManyChannels(AudioError):
    """More channels than allowed."""

    type, title = "too-many-channels", "The audio has too many channels"


class BadSampleRate(AudioError):
    """A sampling rate outside the allowed range."""

    type, title = "bad-sample-rate", "The sampling rate is out of range"


class TooShort(AudioError):
    """Less audio than can be attributed."""

    type, title = "too-short", "The audio is too short"


class TooLong(AudioError):
    """More audio than is attributed at once."""

    type, title = "too-long", "The audio is too long"


class Silent(AudioError):
    """Nothing to hear."""

    type, title = "silent", "The audio is silent"


class NotFinite(AudioError):
    """Samples that are not finite numbers."""

    type, title = "not-finite", "The audio holds samples that are not finite numbers"


class UploadStalled(ServiceError):
    """A body began to come and did not go on."""

    status, type, title = 408, "upload-stalled", "The upload stalled"


class AudioMissing(ServiceError):
    """The stored track is gone."""

    status, type, title = 410, "audio-missing", "The stored audio is gone"


class AudioCorrupt(ServiceError):
    """The stored track is not the one that was sent: its digest differs."""

    type, title = "audio-corrupt", "The stored audio is damaged"


class AttemptsExhausted(ServiceError):
    """Every allowed attempt ended without an answer, usually because the worker died."""

    type, title = "attempts-exhausted", "Every attempt ended without an answer"


class InvalidResult(ServiceError):
    """A worker handed in a result that breaks the rules of one."""

    type, title = "invalid-result", "The computed result is not valid"


class Unavailable(ServiceError):
    """A part that this service needs does not answer; trying again later can help."""

    status, type, title, retryable = 503, "unavailable", "A part of the service is not available", True


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    type, title = "database-unavailable", "The database is not available"


class DatabaseBusy(DatabaseUnavailable):
    """Every connection to the database is in use."""

    type, title = "database-busy", "The database has too much to do"


class StorageUnavailable(Unavailable):
    """The object storage does not answer."""

    type, title = "storage-unavailable", "The storage is not available"


class DecoderFailed(Unavailable):
    """The decoding process could not be run, or was killed from outside."""

    type, title = "decoder-failed", "The audio decoder could not run"


def plain(message: str) -> str:
    """Return a validator's message without what pydantic puts in front of it."""
    return message.removeprefix("Value error, ")
