"""The block that stores credentials and the backend choice. Imported by Prefect's servers too, so it stays cheap."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from prefect.blocks.abstract import CredentialsBlock
from prefect.blocks.fields import SecretDict
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, ValidationError, model_validator

from prefect_runtime.blocks.known_fields import refuse_unknown
from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.client.saved_accounts import read_saved_account
from prefect_runtime.wire.errors import ConfigurationError

TOKEN_VARIABLE = "PREFECT_RUNTIME_TOKEN"  # noqa: S105 - the name of a variable
LOGO_URL = HttpUrl(
    "https://raw.githubusercontent.com/prefect-runtime/prefect-runtime/main/prefect_runtime/blocks/logo.png"
)
"""Of the file beside this one: a block's logo has to be an address (a data URI is refused by Prefect 3.8.8)."""


class RuntimeCredentials(CredentialsBlock):
    """Credentials for a quantum runtime, and the backend to use there.

    Without any argument it is the embedded runtime: no account, nothing to configure. Nothing is asked of a server
    when a block is made, saved or loaded.

    Attributes:
        channel: Which kind of runtime.
        token: API key or token; if empty, that of `token_block`, else the environment variable PREFECT_RUNTIME_TOKEN
            where the task runs.
        token_block: Name of a saved Prefect block of type Secret that has the token, where a team shares one.
        instance: CRN, or the instance's name, or hub/group/project.
        url: Base URL of the API.
        auth_url: Root of the service that exchanges the token.
        backend: Backend to use if a call names none.
        verify: Whether TLS certificates are checked.
        proxies: Proxy URL by scheme.
        tags: Tags for every job.
        max_execution_time: The longest a job may run, in seconds.
        wait_seconds: The longest pause between two looks at a job.
        settle_seconds: How long a job may take to turn up in the server's list.
        primitives: Which generation of primitives: the server's programs, or IBM's client-side ones.
        guard_usage: Whether a job is refused that would pass what the instance has left.
        request_timeout_seconds: Total time for one request with its retries.
        jobs_per_minute: A fixed rate of submission; as fast as the runtime takes jobs if empty.
        private_endpoint: Use IBM Cloud's private hosts.
        api_version: ``IBM-API-Version`` to ask for; the one that this version was tested with if empty.

    Example:
        Load a saved block and run a circuit:
        ```python
        from prefect import flow
        from prefect_runtime import RuntimeCredentials, execute

        @flow
        def bell(circuit):
            credentials = RuntimeCredentials.load("BLOCK_NAME")
            return execute(credentials, "sampler", [circuit], shots=1000)
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # an error of one field would show all of them, the token too

    _block_type_name: ClassVar[str | None] = "Quantum Runtime Credentials"
    _block_type_slug: ClassVar[str | None] = "quantum-runtime-credentials"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _description: ClassVar[str | None] = (
        "Credentials for a quantum runtime and the backend to use there. Left as it is, it runs jobs on the embedded "
        "runtime, on this machine, without an account."
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://github.com/prefect-runtime/prefect-runtime#the-block"
    )

    channel: Literal["local", "ibm_quantum_platform", "classic"] = Field(
        default="local",
        title="Channel",
        description="The kind of runtime: the embedded one, IBM Quantum Platform, or a server with the classic API.",
    )
    token: SecretStr = Field(
        default=SecretStr(""),
        title="Token",
        description=f"API key or token. If empty, the environment variable {TOKEN_VARIABLE} is read where a task runs.",
    )
    token_block: str = Field(
        default="",
        title="Token block",
        description="Name of a saved block of type Secret that has the token, read where a task runs. Used if Token is "
        "empty: a team's key is then kept in one place.",
    )
    instance: SecretStr = Field(  # Prefect's events have what is not secret in a block in plain text
        default=SecretStr(""),
        title="Instance",
        description="The instance's CRN on IBM Quantum Platform (or its name, which costs a look-up), or "
        "hub/group/project on a classic runtime.",
    )
    url: str = Field(
        default="",
        title="URL",
        description="Base URL of the runtime's API. Needed for the classic channel only.",
    )
    auth_url: str = Field(
        default="",
        title="Sign-in URL",
        description="Root of the service that exchanges the token. If empty, the channel's own; on the classic channel "
        "the token is then used as it is.",
    )
    backend: str | list[str] = Field(
        default="",
        title="Backend",
        description="Backend to use if a call names none: a name, names in order of preference, or least_busy.",
        examples=["aer_simulator", "least_busy"],
    )
    verify: bool | str = Field(
        default=True,
        title="Check TLS certificates",
        description="False turns the check off; a text is the path of a CA bundle; empty is True.",
    )
    proxies: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        title="Proxies",
        description='Proxy URL by scheme, for instance {"https": "http://proxy.example:3128"}.',
    )
    tags: list[str] = Field(
        default_factory=list,
        title="Tags",
        description="Tags for every job; a job takes four, the call's own included.",
    )
    max_execution_time: float | None = Field(
        default=None,
        gt=0,
        title="Longest execution (seconds)",
        description="The longest a job may run before the runtime ends it, if a call does not say.",
    )
    wait_seconds: float | None = Field(
        default=None,
        ge=0,
        title="Longest pause between two looks (seconds)",
        description="If empty: adaptive, up to 60 seconds while a job queues.",
    )
    settle_seconds: float | None = Field(
        default=None,
        ge=0,
        title="Settling time (seconds)",
        description="How long a job whose answer was lost may take to turn up in the runtime's list. If empty: 0 on "
        "the embedded runtime, 300 elsewhere.",
    )
    primitives: Literal["server", "client"] = Field(
        default="server",
        title="Primitives",
        description="Server: the runtime's own sampler and estimator. Client: IBM's client builds a program for the "
        "program executor where the task runs (needs prefect-runtime[ibm]).",
    )
    guard_usage: bool = Field(
        default=False,
        title="Guard the instance's usage",
        description="Refuse a job that is estimated to take more seconds than the instance has left. IBM Quantum "
        "Platform only; costs one more request for each job.",
    )
    request_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        title="Request timeout (seconds)",
        description="Total time for one request with its retries.",
    )
    jobs_per_minute: float | None = Field(
        default=None,
        gt=0,
        title="Fixed rate of submission (jobs a minute)",
        description="If empty: as fast as the runtime takes jobs, and at its own pace once it says that they are too "
        "many.",
    )
    private_endpoint: bool = Field(
        default=False,
        title="Private endpoints",
        description="Use IBM Cloud's private hosts, for sign-in and jobs.",
    )
    api_version: str = Field(
        default="",
        title="API version",
        description="IBM-API-Version to ask for, such as 2026-04-15. If empty: the one this version was tested with.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, given: Any) -> Any:
        refuse_unknown(given, cls.model_fields)
        return given

    @classmethod
    def from_saved_account(
        cls, name: str | None = None, *, path: str | Path | None = None, **fields: Any
    ) -> RuntimeCredentials:
        """Return a block with an account that IBM's own client has saved on this machine.

        Args:
            name: The account's name; the default one if None.
            path: The file; ``~/.qiskit/qiskit-ibm.json`` if None.
            **fields: More of the block's fields, or others in place of the account's (``instance``, ``backend``, …).

        Raises:
            ConfigurationError: No such file or account, or one that cannot be used here.
        """
        return cls(**{**read_saved_account(name, path=path), **fields})

    def get_client(self, *_: Any, **__: Any) -> RuntimeService:
        """Return a client for the runtime; use it as a context manager.

        Raises:
            ConfigurationError: A field that cannot work; the message names it.
        """
        token = self.token.get_secret_value() or self._shared_token() or os.environ.get(TOKEN_VARIABLE, "")
        credentials = Credentials(
            channel=self.channel,
            token=token or None,
            url=self.url or None,
            auth_url=self.auth_url or None,
            instance=self.instance.get_secret_value() or None,
            verify=True if self.verify == "" else self.verify,  # an empty field of the form
            proxies=self.proxies.get_secret_value() or None,
            private_endpoint=self.private_endpoint,
            api_version=self.api_version or None,
        )
        return RuntimeService(
            credentials,
            backend=self.backend or None,
            settle_seconds=self.settle_seconds,
            guard_usage=self.guard_usage,
            generation=self.primitives,
            request_timeout=self.request_timeout_seconds,
            jobs_per_minute=self.jobs_per_minute,
        )

    def _shared_token(self) -> str:
        """Return the token of the Secret block that this one names; empty if it names none."""
        if not self.token_block:
            return ""
        from prefect.blocks.system import Secret

        try:
            secret = Secret.load(self.token_block, _sync=True)  # type: ignore[call-arg]  # its decorator takes _sync
        except ValueError:
            raise ConfigurationError(
                f"token_block: there is no saved block {self.token_block!r} of type Secret; see `prefect block ls`."
            ) from None
        value = secret.get()  # type: ignore[union-attr]  # load() is typed for both of its modes
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"token_block: the Secret block {self.token_block!r} holds no text.")
        return value


CredentialsLike = RuntimeCredentials | str
"""What tasks take: a block, or the name of a saved one; "local" is the embedded runtime."""


def name_of(block: RuntimeCredentials) -> str:
    """Return the name by which another process can load the same credentials; empty if they were never saved."""
    saved: str | None = block._block_document_name
    if saved:
        return saved
    return "local" if block.channel == "local" and not block.url else ""


def load_credentials(credentials: CredentialsLike) -> RuntimeCredentials:
    """Return the block that a task was given, itself or by name; "local" is always there.

    Raises:
        ConfigurationError: There is no saved block of that name, or it cannot be read by this version.
    """
    if isinstance(credentials, RuntimeCredentials):
        return credentials
    if credentials == "local":
        return RuntimeCredentials()
    try:
        loaded = RuntimeCredentials.load(credentials, _sync=True)  # type: ignore[call-arg]  # its decorator takes _sync
    except RuntimeError as error:  # Prefect's word for a block whose fields are refused; its own advice loads it anyway
        if not isinstance(error.__cause__, ValidationError):
            raise
        raise ConfigurationError(
            f"credentials: block {credentials!r} cannot be read by this version: {_refused(error.__cause__)}."
        ) from None
    except ValueError:
        raise ConfigurationError(
            f"credentials: there is no saved block {credentials!r} of this type; see `prefect block ls`."
        ) from None
    assert isinstance(loaded, RuntimeCredentials)  # noqa: S101 - load() is typed for both of its modes
    return loaded


def _refused(error: ValidationError) -> str:
    """Return which fields are refused, and why; no values."""
    told = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(": ".join([*map(str, one["loc"]), one["msg"]]).rstrip(".") for one in told)
