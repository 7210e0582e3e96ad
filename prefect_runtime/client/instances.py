"""From an instance's name to its CRN, and the hosts of IBM Cloud that are asked on the way. Used by auth.py."""

from __future__ import annotations

from urllib.parse import urlsplit

from prefect_runtime.client.credentials import Credentials, is_crn
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.signing import taken
from prefect_runtime.client.transport.exchange import Transport
from prefect_runtime.wire.errors import ConfigurationError, ProtocolError

SERVICE = "quantum-computing"  # the fifth field of an instance's CRN
IAM_HOSTS = ("iam.cloud.ibm.com", "iam.test.cloud.ibm.com")  # and below them: private.iam.cloud.ibm.com, regions


def iam_url(credentials: Credentials) -> str:
    """Return the root of the token service."""
    if credentials.auth_url:
        return credentials.auth_url.rstrip("/")
    return f"https://{'private.' if credentials.private_endpoint else ''}iam.cloud.ibm.com"


def _controller_url(credentials: Credentials) -> str:
    """Return the root of the resource controller: the token service's neighbour at IBM, elsewhere the same host."""
    url = iam_url(credentials)
    host = urlsplit(url).hostname or ""
    if not f".{host}".endswith(tuple(f".{name}" for name in IAM_HOSTS)):
        return url
    before, _, domain = host.rpartition("iam.")
    return f"https://{before}resource-controller.{domain}"


def look_up(credentials: Credentials, transport: Transport, token: str, deadline: Deadline) -> str:
    """Return the CRN of the instance that the credentials name.

    Source: IBM Cloud Resource Controller, ``GET /v2/resource_instances?name=`` -> ``{"resources": [{"crn", "name"}]}``.

    Raises:
        ConfigurationError: There is none of that name, or more than one.
        QiskitRuntimeError: The service refused, or cannot be asked.
    """
    name = credentials.instance or ""
    answer = transport.exchange(
        "GET",
        f"{_controller_url(credentials)}/v2/resource_instances",
        deadline=deadline,
        headers={"Authorization": f"Bearer {token}"},
        params=[("name", name)],
    )
    document = taken(answer, "resource controller", (*credentials.secrets, token)).json()
    resources = document.get("resources") if isinstance(document, dict) else None
    if not isinstance(resources, list):
        raise ProtocolError("The answer of the resource controller has no list of resources.")
    named = [one for one in resources if isinstance(one, dict) and one.get("name") == name]
    found = {crn for one in named if isinstance(crn := one.get("crn"), str) and crn.split(":")[4:5] == [SERVICE]}
    if not all(map(is_crn, found)):
        raise ProtocolError("The resource controller gave a CRN that cannot be one.", retryable=False)
    if len(found) == 1:
        return found.pop()
    said = (
        "there is no quantum instance of that name" if not found else f"{len(found)} quantum instances have that name"
    )
    raise ConfigurationError(f"instance: {said} for this account; give its CRN (crn:v1:…). Nothing was sent.")
