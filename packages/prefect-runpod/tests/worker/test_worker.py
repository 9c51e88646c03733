"""RunPod and Prefect together, on a real Prefect server and the double of RunPod's API."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest
from markdown_it import MarkdownIt
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.exceptions import InfrastructureNotFound
from prefect.settings import (
    PREFECT_API_ENABLE_HTTP2,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_LOGGING_SETTINGS_PATH,
    PREFECT_WORKER_QUERY_SECONDS,
    temporary_settings,
)
from prefect.states import Cancelling, Completed, Pending, Running, Scheduled, Suspended
from pydantic import SecretStr

from prefect_runpod import PodCost, Project, RunPodCredentials, RunPodSettings, SettingsError, adopt, rented, sweep
from prefect_runpod.block import api_key
from prefect_runpod.job import RunPodJobConfiguration
from prefect_runpod.pods.order import Marks, OrderError, server_mark
from prefect_runpod.pods.runs import RunsUnavailableError
from prefect_runpod.prefect_runs import PrefectRuns, account_filter
from prefect_runpod.worker import RunPodWorker
from runpod_double.prefect_client import PRICES, a_run, rent, with_client
from runpod_double.runpod_api import IMAGE, RunPodDouble

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("prefect_server")]
PLANTED = (
    "[link](javascript:alert(5)) ![picture](http://planted.example/m.png)",
    '"><img src="http://planted.example/i.png" onerror="window.__planted = 2"><script>alert(1)</script>',
)


def test_the_form_describes_every_field_and_the_server_accepts_it(pool: WorkPool) -> None:
    fields = pool.base_job_template["variables"]["properties"]
    wanted = {"image", "gpu_types", "gpu_count", "cloud", "data_centers", "disk_gb", "network_volume", "max_price_per_hour"}
    wanted |= {"max_runtime", "max_cost", "startup_timeout", "capacity_timeout", "env", "command", "registry"}
    assert wanted <= fields.keys()
    assert all(fields[name].get("title") and fields[name].get("description") for name in wanted)
    assert set(pool.base_job_template["job_configuration"]) - {"labels", "name"} <= fields.keys()


def configured(pool: WorkPool, run: FlowRun, **variables: Any) -> RunPodJobConfiguration:
    async def resolve(client: PrefectClient) -> RunPodJobConfiguration:
        values = {"image": IMAGE, **variables}
        found = await RunPodJobConfiguration.from_template_and_values(pool.base_job_template, values, client=client)
        found.prepare_for_flow_run(run, work_pool=pool)
        return found

    return with_client(resolve)


def test_a_job_becomes_an_order_with_the_runs_marks_and_without_the_workers_own_settings(pool: WorkPool) -> None:
    run = with_client(lambda client: a_run(client, Pending()))
    certificates = ssl.get_default_verify_paths().openssl_cafile
    own = {
        PREFECT_WORKER_QUERY_SECONDS: 3,
        PREFECT_API_SSL_CERT_FILE: certificates,
        PREFECT_LOGGING_SETTINGS_PATH: "/etc/log.yml",
    }
    with temporary_settings({**own, PREFECT_API_ENABLE_HTTP2: False}):
        found = configured(pool, run, gpu_types=["NVIDIA A40"], env={"WANDB": "x"}, max_cost=2.5, data_centers=["EU-RO-1"])
    order = found.order(RunPodSettings(base_url="http://127.0.0.1:9", linger_s=5))
    assert order.marks == Marks(pool.id, run.id, 0, 1800, 21600, 2.5, max_price=5.0) and order.command == (
        "prefect",
        "flow-run",
        "execute",
    )
    assert (order.gpu_types, order.data_centers, order.image) == (
        ("NVIDIA A40",),
        ("EU-RO-1",),
        IMAGE,
    )
    assert (
        order.env["WANDB"] == "x"
        and order.env["PREFECT__FLOW_RUN_ID"] == str(run.id)
        and order.env["PREFECT_POD_LINGER_S"] == "5.0"
    )
    assert order.env["RUNPOD_API_BASE_URL"] == "http://127.0.0.1:9", "the pod does not know where to ask for its own end"
    told = configured(pool, run, command_style="args").order(RunPodSettings(base_url="http://127.0.0.1:9"), "http://prefect/api")
    assert (order.command_style, told.command_style) == ("auto", "args")
    assert (order.marks.server, told.marks.server) == ("", server_mark("http://prefect/api"))
    assert order.env["PREFECT_API_ENABLE_HTTP2"] == "False"
    assert not [name for name in order.env if name.startswith(("PREFECT_WORKER", "PREFECT_HOME", "PREFECT_SERVER"))]
    assert not order.env.keys() & {setting.name for setting in own}


def test_a_server_that_a_pod_cannot_reach_is_reported_before_anything_is_rented(pool: WorkPool) -> None:
    run = with_client(lambda client: a_run(client, Pending()))
    with pytest.raises(OrderError, match=r"server for pods is http://127.*itself.*PREFECT_RUNPOD_SERVER_URL"):
        configured(pool, run, env={"PREFECT_API_URL": "http://127.0.0.1:4200/api"}).order(RunPodSettings())
    assert configured(pool, run, env={"PREFECT_API_URL": "https://prefect.example.org/api"}).order(RunPodSettings())


def test_the_address_for_pods_comes_from_the_job_or_else_the_worker_and_must_be_public(pool: WorkPool) -> None:
    run = with_client(lambda client: a_run(client, Pending()))
    own, told = "https://own.example.org/api", "https://prefect.example.org/api"
    assert configured(pool, run).order(RunPodSettings(server_url=told)).env["PREFECT_API_URL"] == told
    job = configured(pool, run, env={"PREFECT_API_URL": own})
    assert job.order(RunPodSettings(server_url=told)).env["PREFECT_API_URL"] == own
    for private in ("http://prefect:4200/api", "https://u:planted@10.0.0.9/api", "http://prefect.example.org/api", "prefect"):
        settings = RunPodSettings(server_url=private)
        with pytest.raises(OrderError, match="a pod cannot use") as refused:
            configured(pool, run).order(settings)
        assert "planted" not in str(refused.value)
    vpn = RunPodSettings(server_url="http://10.0.0.9/api", allow_private_addresses=True)
    assert configured(pool, run).order(vpn).env["PREFECT_API_URL"] == "http://10.0.0.9/api"


def test_no_pod_is_rented_without_an_image_that_is_named_by_its_digest(pool: WorkPool) -> None:
    run = with_client(lambda client: a_run(client, Pending()))
    settings = RunPodSettings(server_url="https://prefect.example.org/api")
    for none in (None, "", " "):
        with pytest.raises(OrderError, match=r"have no image.*job variable image"):
            configured(pool, run, image=none).order(settings)
    for mutable in ("ghcr.io/you/train:latest", "train", f"{IMAGE}0", "x@sha256:abc", f"a b@{IMAGE}"):
        with pytest.raises(OrderError, match="does not name an image by its digest"):
            configured(pool, run, image=mutable).order(settings)
    allowed = settings.model_copy(update={"allow_image_tags": True})
    assert configured(pool, run, image="train:1").order(allowed).image == "train:1"


def test_an_image_whose_tag_is_another_commit_is_reported_before_a_pod_is_rented(pool: WorkPool) -> None:
    run = with_client(lambda client: a_run(client, Pending()))
    settings = RunPodSettings(server_url="https://prefect.example.org/api")
    worker, other = "a" * 40, "b" * 40
    tagged = IMAGE.replace("@", f":{worker[:12]}@")
    order = configured(pool, run, image=tagged).order(settings, commit=worker)
    assert order.image == tagged and order.env["PREFECT_POD_COMMIT"] == worker
    with pytest.raises(OrderError, match=f"is the commit {worker[:12]}, but the worker's code is {other}"):
        configured(pool, run, image=tagged).order(settings, commit=other)
    for unknown in (configured(pool, run, image=tagged).order(settings), configured(pool, run).order(settings, commit=other)):
        assert "PREFECT_POD_ALLOW_OTHER_COMMIT" not in unknown.env, "the pod would not compare the commits"
    allowed = settings.model_copy(update={"allow_other_commit": True})
    assert configured(pool, run, image=tagged).order(allowed, commit=other).env["PREFECT_POD_ALLOW_OTHER_COMMIT"] == "true"


@pytest.mark.parametrize("env", [{"RUNPOD_API_KEY": "rpa_account"}, {"PREFECT_POD_POOL": "x"}])
def test_an_environment_that_would_give_the_account_away_or_forge_the_marks_is_refused(
    pool: WorkPool, env: dict[str, str]
) -> None:
    run = with_client(lambda client: a_run(client, Pending()))
    with pytest.raises(OrderError, match=next(iter(env))[:10]) as raised:
        configured(pool, run, env=env)
    assert "rpa_account" not in str(raised.value)


def test_the_key_comes_from_the_environment_or_the_block_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    with pytest.raises(SettingsError, match="Set RUNPOD_API_KEY, or save a RunPod Credentials block"):
        asyncio.run(api_key(RunPodSettings(credentials_block="none-such")))

    async def saved() -> SecretStr:
        block = RunPodCredentials(api_key=SecretStr("rpa_from-the-block"))
        assert "rpa_from-the-block" not in repr(block)
        await block.save("runpod", overwrite=True)
        return await api_key(RunPodSettings())

    assert asyncio.run(saved()).get_secret_value() == "rpa_from-the-block"
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_first")
    assert asyncio.run(api_key(RunPodSettings())).get_secret_value() == "rpa_first"


def test_the_flow_runs_of_a_pool_are_read_and_changed(pool: WorkPool) -> None:
    async def use(client: PrefectClient) -> None:
        runs = PrefectRuns(lambda: client, pool.id, pool.name)
        pending, running, waits = [await a_run(client, state, pool) for state in (Pending(), Running(), Scheduled())]
        other = await a_run(client, Running())
        found = await runs.look({other.id, uuid4()})
        assert {run.state for run in found.values()} == {"PENDING", "RUNNING"} and found.keys() == {
            pending.id,
            running.id,
            other.id,
        }
        assert found[running.id].begun and not found[pending.id].begun and found[running.id].attempt == 1
        assert (await runs.look({waits.id}))[waits.id].released, "it waits for a worker, so it must not have a pod"

        await runs.assign(found[pending.id], "pod1")
        await runs.tell(pending.id, "AwaitingGPU", "none is free")
        told = await client.read_flow_run(pending.id)
        assert (told.infrastructure_pid, told.state_name, told.state_type.value) == ("pod1", "AwaitingGPU", "PENDING")  # type: ignore[union-attr]
        await runs.assign(found[pending.id], "pod2")
        assert (await client.read_flow_run(pending.id)).infrastructure_pid == "pod1", "it names a pod already"
        await runs.resubmit(found[pending.id], "its worker ended")
        again = (await runs.look({pending.id}))[pending.id]
        assert again.state == "PENDING", "it has changed since it was seen"
        await runs.resubmit(again, "its worker ended")
        assert (await runs.look({pending.id}))[pending.id].state == "SCHEDULED"
        await runs.crash(found[running.id], "its pod is gone")
        assert (await client.read_flow_run(running.id)).state.message == "its pod is gone"  # type: ignore[union-attr]
        await client.set_flow_run_state(other.id, Completed(), force=True)
        await runs.crash(found[other.id], "too late")
        assert (await client.read_flow_run(other.id)).state.is_completed()  # type: ignore[union-attr]
        await runs.cancel(found[other.id], "too late")
        assert (await client.read_flow_run(other.id)).state.is_completed()  # type: ignore[union-attr]
        cancelled = await a_run(client, Cancelling(), pool)
        await runs.cancel((await runs.look({cancelled.id}))[cancelled.id], "as asked")
        assert (await client.read_flow_run(cancelled.id)).state.is_cancelled()  # type: ignore[union-attr]
        suspended = await a_run(client, Suspended(timeout_seconds=60), pool)
        assert (await runs.look({suspended.id}))[suspended.id].released
        await runs.log(running.id, ["the last line"])
        assert await runs.at_work("nobody") is False
        await client.delete_flow_run(running.id)
        await runs.crash(found[running.id], "it is gone")
        await runs.tell(running.id, "AwaitingGPU", "nobody listens")

    with_client(use)


def test_one_account_is_stored_for_each_pod_and_found_again(pool: WorkPool) -> None:
    async def use(client: PrefectClient) -> None:
        runs = PrefectRuns(lambda: client, pool.id, pool.name)
        run = await a_run(client, Completed(), pool)
        first = PodCost("Pod_A1", "1 x L4", 0.44, "2026-11-01T12:00:00+00:00", 0.0, 0.0, False)
        await runs.account(run.id, first)
        await runs.account(run.id, replace(first, seconds=3600.0, usd=0.44))
        await runs.account(run.id, replace(first, pod="pod_b2", closed=True))
        kept = {account.pod: account for account in await runs.accounts(run.id)}
        assert kept["Pod_A1"].usd == 0.44 and len(kept) == 2
        assert [(view.id, account.pod) for view, account in await runs.open_accounts()] == [(run.id, "Pod_A1")]
        await runs.account(run.id, replace(kept["Pod_A1"], closed=True))
        twice = {"key": "gpu-cost-pod-a1", "type": "table", "flow_run_id": run.id, "data": [first.to_dict()]}
        await client.create_artifact(ArtifactCreate.model_validate(twice))  # as a second worker does at the same moment
        assert sorted(account.usd for account in await runs.accounts(run.id)) == [0.0, 0.44]
        notes = {"key": "gpu-cost-notes", "type": "table", "flow_run_id": run.id, "data": [{"month": "May", "usd": "much"}]}
        await client.create_artifact(ArtifactCreate.model_validate(notes))
        assert await runs.open_accounts() == [] and len(await runs.accounts(run.id)) == 2, "a person's table counts as an account"

    with_client(use)


def test_names_and_notes_that_runpod_gives_a_pod_are_shown_as_data(pool: WorkPool) -> None:
    async def use(client: PrefectClient) -> None:
        runs = PrefectRuns(lambda: client, pool.id, pool.name)
        run = await a_run(client, Completed(), pool)
        cost = PodCost("pod-c3", f"1 x {PLANTED[0]}", 0.44, "2026-11-01T12:00:00+00:00", 1.0, 0.1, False, note=PLANTED[1])
        for each in (cost, replace(cost, seconds=60.0, gpu=f"1 x {PLANTED[1]}", closed=True)):
            await runs.account(run.id, each)
            (kept,) = await client.read_artifacts(artifact_filter=account_filter(run.id))
            cells = json.loads(kept.data)[0] if isinstance(kept.data, str) else kept.data[0]  # type: ignore[index]
            for text in (str(kept.description), cells["gpu"], cells["note"]):
                drawn = MarkdownIt("gfm-like", {"linkify": False}).render(text)
                assert "<script" not in drawn and "<a" not in drawn and "<img" not in drawn
        (found,) = await runs.accounts(run.id)
        assert (found.pod, found.seconds, found.closed) == ("pod-c3", 60.0, True)

    with_client(use)


def test_how_long_a_run_has_been_in_its_state_depends_only_on_the_servers_clock(
    pool: WorkPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(client: PrefectClient) -> None:
        run = await a_run(client, Running(), pool)
        request = client.request

        async def in_an_hour(method: Any, path: Any, **options: Any) -> Any:
            answer = await request(method, path, **options)
            if path == "/health":
                answer.headers["date"] = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
            return answer

        runs = PrefectRuns(lambda: client, pool.id, pool.name)
        # Under load, a server sends a Date that is some seconds old, so only the hour is checked.
        assert abs((await runs.look({run.id}))[run.id].age_s) < 600
        monkeypatch.setattr(client, "request", in_an_hour)
        assert abs((await runs.look({run.id}))[run.id].age_s - 3600) < 600

    with_client(use)


def test_a_server_that_does_not_answer_is_not_taken_for_a_missing_run() -> None:
    async def use(client: PrefectClient) -> None:
        client._client.base_url = "http://127.0.0.1:9/api"
        client._client._ephemeral = True  # type: ignore[attr-defined]
        runs = PrefectRuns(lambda: client, uuid4(), "gone")
        with pytest.raises(RunsUnavailableError):
            await asyncio.wait_for(runs.look(set()), 120)

    monkey = pytest.MonkeyPatch()
    monkey.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    try:
        with_client(use)
    finally:
        monkey.undo()


def test_what_is_rented_is_listed_and_what_nobody_wants_is_ended(pool: WorkPool, double: RunPodDouble) -> None:
    works, ended = [with_client(lambda c, s=state: a_run(c, s, pool)) for state in (Running(), Completed())]  # type: ignore[misc]
    wanted, left_over = [rent(double, Marks(pool.id, run.id, 0, 600, 3600)) for run in (works, ended)]
    foreign = rent(double, Marks(uuid4(), uuid4(), 0, 600, 3600))
    nobodys = double.rent({"name": "notebook", "image": "i", "gpu": {"id": "NVIDIA A40", "count": 2}, "args": "sleep 60"})
    with_client(lambda client: client.update_flow_run(works.id, infrastructure_pid=wanted.id))
    rows = {row.pod: row for row in asyncio.run(rented())}
    assert {rows[pod.id].pool for pod in (wanted, left_over)} == {pool.name}
    assert rows[foreign.id].pool == rows[nobodys.id].pool == "other" and rows[nobodys.id].usd_per_hour == 1.6
    assert "(running)" in rows[wanted.id].run and "(completed)" in rows[left_over.id].run
    assert [row.pod for row in asyncio.run(sweep())] == [left_over.id]
    assert {pod.id for pod in double.alive} == {wanted.id, foreign.id, nobodys.id}


def test_another_project_leaves_the_pods_alone(pool: WorkPool, double: RunPodDouble) -> None:
    run = with_client(lambda client: a_run(client, Completed(), pool))
    left_over = rent(double, Marks(pool.id, run.id, 0, 600, 3600))
    adopt(Project(name="other"))
    assert asyncio.run(sweep(looks=1)) == [] and left_over.ended is None
    assert [row.pool for row in asyncio.run(rented())] == ["other"]


def test_pods_of_an_earlier_worker_count_against_the_limit(pool: WorkPool, double: RunPodDouble) -> None:
    works, due = [with_client(lambda c, s=state: a_run(c, s, pool)) for state in (Running(), Scheduled())]  # type: ignore[misc]
    pod = rent(double, Marks(pool.id, works.id, 0, 600, 3600))
    with_client(lambda client: client.update_flow_run(works.id, infrastructure_pid=pod.id))

    async def use() -> None:
        async with RunPodWorker(work_pool_name=pool.name, limit=1) as worker:
            assert await worker.get_and_submit_flow_runs() == [], "it does not know yet what is running"
            await _until(lambda: worker.limiter.borrowed_tokens == 1)
            assert await worker.get_and_submit_flow_runs() == [], "the pod takes the only slot"
            worker._count({pod.id, "more"})
            assert worker.limiter.borrowed_tokens == 1, "pods beyond the limit are left running"
            await worker.client.set_flow_run_state(works.id, Completed(), force=True)
            await _until(lambda: worker.limiter.borrowed_tokens == 0)
            double.faults.no_capacity |= set(PRICES)
            taken = await worker.get_and_submit_flow_runs()
            assert [run.id for run in taken] == [due.id] and worker.limiter.borrowed_tokens == 1
            await worker.client.set_flow_run_state(due.id, Cancelling(), force=True)
            await _until(lambda: worker.limiter.borrowed_tokens == 0)

    asyncio.run(use())
    assert pod.ended is not None


async def _until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not ready():
            await asyncio.sleep(0.05)


def test_a_worker_that_is_asked_to_end_infrastructure_deletes_the_pod(pool: WorkPool, double: RunPodDouble) -> None:
    pod = rent(double, Marks(pool.id, uuid4(), 0, 600, 3600))

    async def use() -> None:
        async with RunPodWorker(work_pool_name=pool.name) as worker:
            configuration = RunPodJobConfiguration(image="i")
            await worker.kill_infrastructure(pod.id, configuration)
            with pytest.raises(InfrastructureNotFound):
                await worker.kill_infrastructure(pod.id, configuration)

    asyncio.run(use())
    assert pod.ended is not None
