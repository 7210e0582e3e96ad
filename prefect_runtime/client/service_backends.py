"""The backends of a runtime, as `RuntimeService` lists, finds and chooses them."""

from __future__ import annotations

from collections.abc import Sequence

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.backends import Backends
from prefect_runtime.client.choice import Choice, Wish, choose
from prefect_runtime.client.request import check_backend


class ServiceBackends:
    """What a service can do with backends."""

    _backends: Backends
    _asked_backend: str | tuple[str, ...] | None  # what to run on if a call does not say

    def backends(self) -> list[Backend]:
        """Return the backends the server lists, with their status, without configuration and target."""
        return self._backends.all()

    def backend(self, name: str) -> Backend:
        """Return one backend with its documents, at most five minutes old.

        Raises:
            BackendNotFoundError: The server has none of that name.
        """
        return self._backends.get(name)

    def least_busy(self) -> Backend:
        """Return the operational backend with the shortest queue; of equal ones, the first the server lists.

        Raises:
            BackendNotFoundError: None is operational.
        """
        return self._backends.least_busy()

    def choose_backend(self, wish: Wish) -> Choice:
        """Return the backend that is best for a piece of work now, and what spoke for it.

        Raises:
            BackendNotFoundError: None will do; the message says why not, for each.
        """
        return choose(wish, self._backends.all(), self._backends.get)

    def backend_name(self, backend: str | Sequence[str] | None = None) -> str | None:
        """Return the name of the backend that a job, or a session, would be sent to now."""
        return self._backends.name_for(check_backend(backend) or self._asked_backend)
