"""What a provider must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from koan_django.secrets.references import SecretReference
    from koan_django.secrets.types import SecretValue


class Provider(ABC):
    """One source of secrets. It is built once per process with the alias's ``OPTIONS``, and used by many threads.

    The constructor opens no connection: commands that need no secret build providers too.
    """

    #: Values are kept for the cache's time, and the offline mode does not ask. A local provider is asked each time.
    is_remote: ClassVar[bool] = True
    #: ``check --deploy`` warns where the chain names it.
    is_development_only: ClassVar[bool] = False

    @abstractmethod
    def fetch(self, reference: SecretReference) -> SecretValue | None:
        """Return the secret at ``path``, its ``field`` and its ``version``, or ``None`` when this provider has none.

        Anything else is an error: :class:`SecretAccessError`, :class:`SecretFormatError` or the transient
        :class:`SecretUnavailableError`. A provider that keeps no versions has nothing for a reference that names one.
        """

    def fetch_many(self, references: Sequence[SecretReference]) -> Mapping[SecretReference, SecretValue]:
        """Return those that exist. A provider that can ask for several at once overrides this."""
        found = {reference: self.fetch(reference) for reference in references}
        return {reference: value for reference, value in found.items() if value is not None}

    def problems(self) -> Iterable[str]:
        """Say what stands in the way of this provider, one sentence each; cheap, and without a connection."""
        return ()

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Let go of connections; also called in a child after a fork, where they belong to the parent."""
