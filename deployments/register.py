"""Makes in Prefect what the deployments need: block, work pool, queues, limits, rules. Run it as often as you like.

    python deployments/register.py
    python deployments/register.py --backend ibm_fez=3
    python deployments/register.py --runtime-url https://lab-1:8443 --runtime-certificate /etc/lab/cert.pem

What is there already is left as it is, so that nothing is lost that people have set in the UI; rules are brought up to
date, and so is what an option asks for. It says what it did.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from lost_runs import SILENT_SECONDS, TIMES_AGAIN, rules
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from prefect_runtime import RuntimeCredentials, RuntimeProgram
from prefect_runtime.cli.automation import resuming_automation

BLOCK, POOL = "embedded", "process"
BACKENDS = {"aer_simulator": 8, "generic_5q": 4, "generic_27q": 2, "generic_127q": 1}
"""How many flow runs at a time on each; also how many open jobs, of flows that use `open_jobs`."""

Done = tuple[str, str]
"""What was done, and to what."""


def register(options: argparse.Namespace) -> Iterator[Done]:
    """Make all there is to make, and tell of each."""
    for block_type in (RuntimeCredentials, RuntimeProgram):
        block_type.register_type_and_schema()
        yield "known", f"block type {block_type.get_block_type_slug()}"
    yield _block(options.runtime_url, options.runtime_certificate)
    with get_client(sync_client=True) as client:
        yield _pool(client)
        for backend, limit in (BACKENDS | dict(options.backend)).items():
            asked = backend in dict(options.backend)
            yield _queue(client, backend, limit, change=asked)
            yield _limit(client, f"prefect-runtime-{backend}", limit, change=asked)
        for rule in [resuming_automation(), *rules(options.silent_seconds, options.times_again)]:
            yield _rule(client, rule)


def _block(url: str, certificate: str) -> Done:
    wanted = RuntimeCredentials(url=url, verify=certificate or True)
    try:
        there = RuntimeCredentials.load(BLOCK)
    except ValueError:
        wanted.save(BLOCK)
        return "made", f"block {BLOCK}{f' for {url}' if url else ''}"
    if not url or (there.url, there.verify) == (wanted.url, wanted.verify):
        return "there", f"block {BLOCK}{f' for {there.url}' if there.url else ''}"
    there.url, there.verify = wanted.url, wanted.verify
    there.save(BLOCK, overwrite=True)
    return "changed", f"block {BLOCK}, to {url}"


def _pool(client: SyncPrefectClient) -> Done:
    try:
        there = client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        return "made", f"work pool {POOL}"
    if there.type != "process":
        raise SystemExit(f"There is a work pool {POOL!r} of type {there.type!r}: rename POOL here and in prefect.yaml.")
    return "there", f"work pool {POOL}"


def _queue(client: SyncPrefectClient, name: str, limit: int, *, change: bool) -> Done:
    what = f"queue {name} of {POOL}, {{}} flow runs at a time"
    try:
        there = client.read_work_queue_by_name(name, work_pool_name=POOL)
    except ObjectNotFound:
        client.create_work_queue(name, work_pool_name=POOL, concurrency_limit=limit)
        return "made", what.format(limit)
    # `prefect deploy` makes the queues that it does not find, without a limit.
    if there.concurrency_limit is None or (change and there.concurrency_limit != limit):
        client.update_work_queue(there.id, concurrency_limit=limit)
        return "changed", what.format(limit)
    return "there", what.format(there.concurrency_limit)


def _limit(client: SyncPrefectClient, name: str, limit: int, *, change: bool) -> Done:
    what = f"limit {name}, {{}} open jobs"
    try:
        there = client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))
        return "made", what.format(limit)
    if change and there.limit != limit:
        client.upsert_global_concurrency_limit_by_name(name, limit)
        return "changed", what.format(limit)
    return "there", what.format(there.limit)


def _rule(client: SyncPrefectClient, wanted: AutomationCore) -> Done:
    what = f"rule {wanted.name!r}"
    there = client.read_automations_by_name(wanted.name)
    if not there:
        client.create_automation(wanted)
        return "made", what
    changed = [one for one in there if _content(one) != _content(wanted)]
    for one in changed:
        client.update_automation(one.id, wanted)
    return "changed" if changed else "there", what


def _content(rule: AutomationCore) -> dict[str, object]:
    """Return what a rule says, without what the server adds; a person may have switched it off."""
    return rule.model_dump(include={"description", "trigger", "actions"}, exclude={"trigger": {"id"}})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--backend", action="append", default=[], metavar="NAME=N", type=_named_limit, help="a backend, and its limit"
    )
    parser.add_argument("--runtime-url", default="", help="of an embedded runtime that several machines share")
    parser.add_argument(
        "--runtime-certificate", default="", help="file that its certificate is checked with, as workers see it"
    )
    parser.add_argument(
        "--silent-seconds", default=SILENT_SECONDS, type=_at_least(60.0), help="after which a flow run is lost"
    )
    parser.add_argument(
        "--times-again", default=TIMES_AGAIN, type=int, help="how often a lost flow run is executed again"
    )
    return parser.parse_args()


def _named_limit(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N with N of at least 1")
    return name, int(number)


def _at_least(least: float) -> Callable[[str], float]:
    """Two of Prefect's shortest heartbeats: with less, every flow run would be lost."""

    def seconds(text: str) -> float:
        if not float(text) >= least:
            raise argparse.ArgumentTypeError(f"must be at least {least:g}")
        return float(text)

    return seconds


if __name__ == "__main__":
    for done, what in register(_options()):
        print(f"{done:>8}: {what}")
