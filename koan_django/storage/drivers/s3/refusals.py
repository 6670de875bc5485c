"""What an S3 store says, in storage's errors: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from urllib3.exceptions import HTTPError

from koan_django.core.exceptions import KoanError
from koan_django.storage.exceptions import (
    CapabilityError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StorageRefusedError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MISSING = ("NoSuchKey", "NoSuchVersion", "NotFound", "404")
_FULL = ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "InsufficientCapacity")
#: Refusals that pass: other credentials are on their way, a clock is set, another request comes to its end.
_PASSING = (
    "ExpiredToken",
    "NoSuchUpload",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "SlowDown",
    "TokenRefreshRequired",
)
_REMEDIES = {
    "NoSuchBucket": "Create the bucket, or correct bucket_name in the OPTIONS of the alias of STORAGES.",
    "InvalidBucketName": "Correct bucket_name in the OPTIONS of the alias of STORAGES.",
    "InvalidAccessKeyId": "Correct access_key in the OPTIONS of the alias of STORAGES.",
    "SignatureDoesNotMatch": "Correct secret_key in the OPTIONS of the alias of STORAGES.",
    "PermanentRedirect": "Set region_name to the bucket's in the OPTIONS of the alias of STORAGES.",
    "AuthorizationHeaderMalformed": "Set region_name to the bucket's in the OPTIONS of the alias of STORAGES.",
    "EntityTooLarge": "Store it in pieces, or raise what the store allows.",
}
_DENIED = "Check the credentials, and that they may put, get, delete and list objects of this bucket."


@contextmanager
def translated(key: str, condition: Callable[[str], KoanError] | None = None) -> Iterator[None]:
    """Turn what the client raises about ``key`` into storage's errors; ``condition`` makes that of a condition."""
    try:
        yield
    except KoanError:  # told by another already; some are OSErrors
        raise
    except ClientError as error:
        raise _answered(key, error, condition or taken) from error
    except (BotoCoreError, HTTPError, OSError) as error:
        raise _unanswered(key, error) from error


def code_of(error: ClientError) -> str:
    """Return the store's word for the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """Return the status of the answer, 0 if it had none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def taken(key: str) -> ObjectExistsError:
    """Return the error for a key in use."""
    return ObjectExistsError(f"there is an object {key!r} already", fix="Use another key, or overwrite=True.")


def changed(key: str) -> StorageUnavailableError:
    """Return the error for an object that is not the one that was begun with."""
    return StorageUnavailableError(f"{key!r} changed while it was read", why="it was replaced", fix="Read it again.")


def _answered(key: str, error: ClientError, condition: Callable[[str], KoanError]) -> KoanError:
    code, status = code_of(error), status_of(error)
    why = f"the store answers {code}, {error.response.get('Error', {}).get('Message', '') or status}".rstrip(".")
    if code in _MISSING:
        return ObjectNotFoundError(f"there is no object {key!r}", why="the store has nothing under this key")
    if status == 412:
        return condition(key)
    if code in _FULL or status == 507:
        fix = "Free some space or raise the quota; the same write succeeds then."
        return StorageFullError(f"{key!r} could not be stored", why=why, fix=fix)
    if status == 501:
        fix = "Run koan_storage_doctor, and name what the store lacks in WITHOUT of the profile."
        return CapabilityError(f"the store cannot do this with {key!r}", why=why, fix=fix)
    if status >= 500 or code in _PASSING or status == 429:
        return StorageUnavailableError(
            f"the store failed at {key!r}", why=why, fix="The same attempt may succeed later."
        )
    return StorageRefusedError(f"the store refuses {key!r}", why=why, fix=_REMEDIES.get(code, _DENIED))


def _unanswered(key: str, error: Exception) -> KoanError:
    if isinstance(error, NoCredentialsError):
        fix = "Set access_key and secret_key in the OPTIONS of the alias of STORAGES, or give the machine a role."
        return StorageRefusedError(f"{key!r} cannot be reached", why="there are no credentials", fix=fix)
    if isinstance(error, ParamValidationError):
        return StorageRefusedError(f"{key!r} cannot be asked for", why=str(error), fix=_REMEDIES["InvalidBucketName"])
    return StorageUnavailableError(
        f"the store failed at {key!r}",
        why=f"{type(error).__name__}, {error}".rstrip("."),
        fix="Check that its endpoint_url is right and can be reached from here.",
    )
