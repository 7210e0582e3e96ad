"""Makes a request ready to be sent: its backend, its circuits for that backend, its text. Used by service.py."""

from __future__ import annotations

from prefect_runtime.client import primitives, usage
from prefect_runtime.client.backends import Backends
from prefect_runtime.client.request import Prepared, Request
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.wire.codec import encode_inputs


class Preparing:
    """Prepares the requests of one account.

    Args:
        client: Asked for programs, and for what is left of the account's time.
        backends: Those of the account.
    """

    def __init__(self, client: RuntimeClient, backends: Backends) -> None:
        self._client = client
        self._backends = backends

    def prepare(self, request: Request, *, guard_usage: bool = False) -> Prepared:
        """Return what is to be sent.

        Args:
            request: What is asked for.
            guard_usage: Refuse what is estimated to take more seconds than the instance has left.

        Raises:
            ConfigurationError: It cannot be run; nothing was sent.
        """
        prepared = self._prepare(request)
        if guard_usage and self._client.counts_usage:
            estimated = self.estimate(request, prepared)
            limits = [estimated.seconds if estimated else None, request.others.get("cost")]
            usage.check_left(self._client.usage(), min((one for one in limits if one is not None), default=None))
        return prepared

    def _prepare(self, request: Request) -> Prepared:
        if primitives.is_primitive(request.program_id, request.inputs):
            choose = lambda: self._backends.choose(request.backend)  # noqa: E731
            prepare = primitives.Preparation(
                request.program_id,
                request.inputs,
                request.optimization_level,
                choose,
                client_side=request.client_side,
            )
            return prepare()
        self._check_program(request.program_id)
        return Prepared(backend=self._backends.name_for(request.backend), params=encode_inputs(request.inputs))

    def estimate(self, request: Request, prepared: Prepared) -> usage.UsageEstimate | None:
        """Return the seconds of a QPU that a primitive's PUBs will take; None for other programs."""
        if not prepared.pubs:
            return None
        options = primitives.options_of(request.inputs)
        return usage.estimate(prepared.pubs, options, self._backends.known(prepared.backend or ""))

    def _check_program(self, program_id: str) -> None:
        """Refuse an unknown program before anything is sent where asking costs nothing; elsewhere the server does."""
        if self._client.credentials.channel == "local":
            self._client.program(program_id)
