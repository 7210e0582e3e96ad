"""Which account a command is about: the embedded runtime, of this user or of a folder, or a saved block's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from prefect_runtime.cli.output import NotRunningError, say
from prefect_runtime.wire.errors import ConfigurationError

if TYPE_CHECKING:
    from prefect_runtime.client import RuntimeService

_ACCOUNT = Group("Account", validator=mutually_exclusive)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The options that all commands about jobs share."""

    data_dir: Annotated[
        Path | None,
        Parameter(
            group=_ACCOUNT,
            help="Folder of an embedded runtime; the one that flows use by themselves if left out. It is started if it "
            "is not running, as by a flow.",
        ),
    ] = None
    block: Annotated[str | None, Parameter(group=_ACCOUNT, help="Name of a saved Prefect block, for its account.")] = (
        None
    )


def open_service(account: Account | None) -> RuntimeService:
    """Return a client for the account; use it as a context manager.

    An embedded runtime ends when it is idle, so that one that has jobs is most often not running: it is started.

    Raises:
        NotRunningError: There is no such folder: a slip of the pen should not make a new runtime.
        ConfigurationError: There is no such block.
    """
    account = account or Account()
    if account.block is not None:
        return _of_block(account.block)
    from prefect_runtime.client import Credentials, RuntimeService, discovery

    folder = folder_of(account.data_dir)
    if account.data_dir is not None and not folder.is_dir():
        raise NotRunningError(f"There is no folder {folder}, and so no embedded runtime.")
    if discovery.find(folder) is None:
        say("Starting the embedded runtime …")
    if account.data_dir is None:
        return RuntimeService()
    found = discovery.find_or_start(folder)
    return RuntimeService(Credentials(channel="local", url=found.url, token=found.token))


def folder_of(data_dir: Path | None) -> Path:
    """Return the embedded runtime's folder."""
    from prefect_runtime.client import discovery

    return discovery.home() if data_dir is None else data_dir.expanduser().absolute()


def _of_block(name: str) -> RuntimeService:
    """Load a block; only here a command needs Prefect."""
    from prefect_runtime.blocks.credentials import load_credentials

    try:
        block = load_credentials(name)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - Prefect's API cannot be asked
        said = (str(error).splitlines() or [""])[0]
        raise ConfigurationError(
            f"block: Prefect's API cannot be asked for {name!r} ({type(error).__name__}: {said}); "
            "is PREFECT_API_URL right?"
        ) from None
    return block.get_client()
