"""What stands on a real broker, what should, and how the one becomes the other."""

from __future__ import annotations

import http.server
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from amqp.basic_message import Message
from django.core.management import CommandError, call_command

from koan_django.core.audit.models import AuditEvent
from koan_django.messaging import examinations
from koan_django.messaging.buses.amqp.topology import Binding, Exchange, Queue, Topology
from koan_django.messaging.exceptions import InspectionError, TopologyError
from koan_django.messaging.models import TopologyObject
from koan_django.messaging.provisioning import targets as places
from koan_django.messaging.provisioning.applying import apply
from koan_django.messaging.provisioning.identities import Identity
from koan_django.messaging.provisioning.management import management_of
from koan_django.messaging.provisioning.plans import Plan
from koan_django.messaging.provisioning.targets import Target, targets
from koan_django.testing import static_secrets
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPaid, OrderPlaced, listening
from tests.messaging.wire import Wire
from tests.services import free_port, wait_until
from tests.services.rabbitmq import RabbitMQ, Vhost

pytestmark = pytest.mark.django_db(transaction=True)
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again soon."""
    monkeypatch.setattr("koan_django.messaging.handling.consumer.MIN_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr("koan_django.messaging.handling.consumer.MAX_BACKOFF_SECONDS", 0.3)


@pytest.fixture
def use_vhost(use_bus: UseBus, vhost: Vhost) -> Callable[..., Any]:
    """The bus of this test in a virtual host of its own, with the management API of the broker."""
    return lambda **options: use_bus(vhost.url, **{"MANAGEMENT": vhost.broker.management_url, **options})


def run(*words: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it wrote."""
    out = io.StringIO()
    try:
        call_command("koan_topology", *words, stdout=out, stderr=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{error}"
    return 0, out.getvalue()


def drifts(plan: Plan) -> set[tuple[str, str]]:
    return {(change.drift, str(change.identity)) for change in plan.changes}


def target(wanted: Topology | None = None) -> Target:
    """The one virtual host of this test, with another topology if one is given."""
    (found,) = targets()
    return found if wanted is None else replace(found, wanted=wanted)


def counted(name: str) -> Callable[[], bool]:
    """Whether the broker has counted the messages of a queue: it takes some seconds to begin."""
    return lambda: target().inspect().queues[name].messages is not None


# plan and apply


def test_an_empty_broker_lacks_everything_and_apply_makes_it(use_vhost: Callable[..., Any]) -> None:
    bus = use_vhost()
    with listening(OrderPlaced, group="billing"):
        code, text = run("plan")
        assert code == 2
        assert f"missing  queue     {bus.names.group('billing')}" in text
        assert f"missing  exchange  {bus.names.exchange}" in text
        assert run("verify")[0] == 2
        assert run("apply")[0] == 0
        assert run("verify") == (0, "")
        assert run("plan")[0] == 0
    assert AuditEvent.objects.filter(action="command.run", object_id="koan_topology").count() == 1


def test_the_json_of_a_plan_can_be_read_by_programs(use_vhost: Callable[..., Any]) -> None:
    bus = use_vhost()
    code, text = run("plan", "--format", "json")
    (told,) = json.loads(text)
    assert code == 2
    assert told["bus"] == "main"
    assert {"drift": "missing", "remedy": "apply", "owned": False}.items() <= told["changes"][0].items()
    assert told["changes"][0]["identity"]["name"] == bus.names.exchange


def test_a_bus_that_is_none_is_named_with_those_that_are(use_vhost: Callable[..., Any]) -> None:
    use_vhost()
    code, text = run("plan", "--bus", "mian")
    assert code == 1
    assert text == "'mian' is no bus on RabbitMQ: there is no topology. Those that are: main"


def test_a_dry_run_makes_nothing(use_vhost: Callable[..., Any], vhost: Vhost) -> None:
    use_vhost()
    assert run("apply", "--dry-run")[0] == 0
    assert vhost.queues() == {}
    assert not TopologyObject.objects.exists()


def test_a_plan_names_each_argument_that_differs_with_both_values(use_vhost: Callable[..., Any], wire: Wire) -> None:
    bus = use_vhost(PROVISIONING="off")
    with listening(OrderPlaced, group="billing"):
        wire.queue(bus.names.dead("billing"), **QUORUM, **{"x-delivery-limit": 7})
        wire.queue(bus.names.group("billing"))
        plan = target().plan()
    told = {change.identity.name: change for change in plan.changes if change.drift in ("different", "type")}
    dead, queue = told[bus.names.dead("billing")], told[bus.names.group("billing")]
    assert [(each.argument, each.have, each.want) for each in dead.differences] == [
        ("x-delivery-limit", 7, 2_000_000_000)
    ]
    assert (queue.drift, queue.remedy) == ("type", "migrate")
    assert queue.differences[0].have == "classic"
    assert "dead letters can be lost" in queue.detail
    assert {"x-dead-letter-strategy", "x-overflow"} <= {each.argument for each in queue.differences}


def test_foreign_bindings_are_shown_and_left(use_vhost: Callable[..., Any], wire: Wire) -> None:
    bus = use_vhost()
    with listening(OrderPlaced, group="billing"):
        run("apply")
        wire.channel.exchange_declare("theirs", "topic", durable=True, auto_delete=False)
        wire.channel.queue_bind(bus.names.group("billing"), "theirs", "order.*")
        assert ("foreign", f"theirs → {bus.names.group('billing')} [order.*]") in drifts(target().plan())
        assert run("verify")[0] == 0
        assert run("verify", "--strict")[0] == 2
        assert run("apply", "--force", "--no-input")[0] == 0
        assert ("foreign", f"theirs → {bus.names.group('billing')} [order.*]") in drifts(target().plan())


def test_a_policy_that_loses_messages_is_drift(use_vhost: Callable[..., Any], vhost: Vhost) -> None:
    bus = use_vhost()
    with listening(OrderPlaced, group="billing"):
        run("apply")
        policy = {"pattern": "billing$", "definition": {"max-length": 10}, "apply-to": "queues"}
        vhost.broker.api("PUT", f"policies/{vhost.name}/short", policy)
        queue = bus.names.group("billing")
        plan = wait_until(lambda: found if (found := target().plan()).changes else None, 20, "the policy to be seen")
    (change,) = plan.changes
    assert (change.drift, change.identity.name, change.counts) == ("policy", queue, True)
    assert "the policy 'short' sets max-length=10" in change.detail


def test_dead_letters_without_a_place_are_named(use_vhost: Callable[..., Any], wire: Wire) -> None:
    bus = use_vhost(PROVISIONING="off")
    with listening(OrderPlaced, group="billing"):
        run("apply")
        wire.publish(bus.names.group("billing"), b"{}")
        wire.channel.queue_delete(bus.names.dead("billing"))
        wait_until(lambda: wire.depth(bus.names.group("billing")) == 1, what="the message to be there")
        message = wire.channel.basic_get(bus.names.group("billing"))
        wire.channel.basic_reject(message.delivery_tag, requeue=False)

        def stuck() -> list[str]:
            return [change.detail for change in target().plan().changes if change.drift == "stuck"]

        (text,) = wait_until(stuck, 30, "the broker to count what is stuck")
    assert f"1 message cannot be dead-lettered to '{bus.names.dead('billing')}'" in text
    assert run("verify")[0] == 2


# an answer that does not come is not an empty broker


@contextmanager
def answering(answer: bytes, pause: float = 0) -> Iterator[str]:
    """An HTTP server that gives one answer to everything; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(pause)
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(b"HTTP/1.0 401 Unauthorized\r\n\r\n", "401", id="401"),
        pytest.param(b"HTTP/1.0 404 Not Found\r\n\r\n", "404", id="404"),
        pytest.param(b"HTTP/1.0 500 Oh\r\n\r\n", "500", id="500"),
        pytest.param(b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "302", id="redirect"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n<html>", "no JSON", id="html"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n{}", "not that of RabbitMQ", id="empty-object"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n[]", "not that of RabbitMQ", id="empty-list"),
        pytest.param(b"\x00\x01garbage", "BadStatusLine", id="garbage"),
        pytest.param(b"", "RemoteDisconnected", id="hangs-up"),
    ],
)
def test_an_answer_that_is_none_leaves_the_broker_unknown_and_nothing_applied(
    use_vhost: Callable[..., Any], vhost: Vhost, answer: bytes, said: str
) -> None:
    with answering(answer) as address:
        use_vhost(MANAGEMENT=address)
        for verb in ("plan", "verify", "apply"):
            code, text = run(verb)
            assert code == 1
            assert "unknown" in text
            assert said in text
    assert vhost.queues() == {}
    assert not TopologyObject.objects.exists()


def test_an_api_that_does_not_answer_in_time_is_unknown(
    use_vhost: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(b"", pause=2) as address:
        use_vhost(MANAGEMENT=address)
        monkeypatch.setattr("koan_django.messaging.provisioning.management.TIMEOUT_SECONDS", 0.3)
        management = replace(target().management(), timeout=0.3)
        with pytest.raises(InspectionError, match="unknown"):
            management.get("overview")


def test_a_port_where_nobody_listens_is_unknown(use_vhost: Callable[..., Any]) -> None:
    use_vhost(MANAGEMENT=f"http://127.0.0.1:{free_port()}")
    code, text = run("apply")
    assert code == 1
    assert "unknown" in text


def test_a_virtual_host_that_is_not_there_is_unknown(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url.replace(vhost.name, "nowhere"), MANAGEMENT=vhost.broker.management_url)
    code, text = run("plan")
    assert code == 1
    assert "404" in text


def test_the_api_of_another_broker_changes_nothing(
    use_vhost: Callable[..., Any], vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_vhost()
    monkeypatch.setattr(places, "inspect", lambda *args: replace(inspected(*args), broker="rabbit@elsewhere"))
    with pytest.raises(TopologyError, match="rabbit@elsewhere"):
        apply(target())
    assert vhost.queues() == {}


inspected = places.inspect


def test_a_wrong_password_is_said_and_not_shown(use_bus: UseBus, vhost: Vhost) -> None:
    where = urlsplit(vhost.broker.management_url)
    use_bus(vhost.url, MANAGEMENT=f"http://guest:hunter2-swordfish@{where.hostname}:{where.port}")
    code, text = run("plan")
    assert code == 1
    assert "401" in text
    assert "swordfish" not in text
    assert "swordfish" not in repr(target())
    assert "swordfish" not in repr(target().management())


def test_the_address_may_hold_secrets(use_bus: UseBus, vhost: Vhost) -> None:
    where = urlsplit(vhost.broker.management_url)
    address = f"http://{{{{secret:api#user}}}}:{{{{secret:api#password}}}}@{where.hostname}:{where.port}"
    use_bus(vhost.url, MANAGEMENT=address)
    with static_secrets({"api": {"user": "guest", "password": "guest"}}):
        assert run("plan")[0] == 2


@pytest.mark.parametrize(
    ("amqp", "given", "place", "user"),
    [
        ("amqp://shop:pw@broker/v", None, "http://broker:15672", "shop"),
        ("amqps://shop:pw@broker:5999/v", None, "https://broker:15671", "shop"),
        ("amqp://", None, "http://localhost:15672", "guest"),
        ("amqp://shop:pw@broker/v", "https://api/mgmt/", "https://api:15671/mgmt", "shop"),
        ("amqp://shop:pw@broker/v", "http://o%40p:x@api:80", "http://api:80", "o@p"),
    ],
)
def test_the_address_follows_from_the_url_unless_it_is_given(
    amqp: str, given: str | None, place: str, user: str
) -> None:
    found = management_of(amqp, given)
    assert (found.place, found.user) == (place, user)


# what is ours


def test_only_what_is_on_record_is_removed_and_only_when_forced(use_vhost: Callable[..., Any], wire: Wire) -> None:
    use_vhost()
    ours = Topology((Exchange("ours", "topic"),), (Queue("mine", QUORUM),), (Binding("ours", "mine", "a.*"),))
    wire.queue("theirs", **QUORUM)
    apply(target(ours))
    assert {row.name for row in TopologyObject.objects.filter(kind="queue")} == {"mine"}
    wait_until(lambda: target().inspect().queues["mine"].messages is not None, 60, "the queue to be counted")
    done = apply(target(Topology()))
    assert not done.removed
    assert {("obsolete", "mine"), ("obsolete", "ours"), ("obsolete", "ours → mine [a.*]")} <= drifts(
        target(Topology()).plan()
    )
    done = apply(target(Topology()), force=True)
    assert [each.kind for each in done.removed] == ["binding", "queue", "exchange"]
    assert set(target().inspect().queues) == {"theirs"}
    assert not TopologyObject.objects.exists()


def test_a_queue_that_holds_messages_is_not_removed_though_forced(use_vhost: Callable[..., Any], wire: Wire) -> None:
    use_vhost()
    apply(target(Topology(queues=(Queue("mine", QUORUM), Queue("old")))))
    wire.publish("mine", b"precious")
    wire.publish("old", b"precious")
    for name in ("mine", "old"):
        wait_until(lambda name=name: target().inspect().queues[name].messages == 1, 60, "the message to be counted")
    done = apply(target(Topology(queues=(Queue("old", QUORUM),))), force=True)
    assert done.removed == []
    assert len([text for text in done.refused if "it holds 1 message:" in text]) == 2
    assert [message.body for message in wire.take("mine")] == [b"precious"]


def test_what_others_made_is_not_made_anew_though_forced_until_it_is_adopted(
    use_vhost: Callable[..., Any], wire: Wire
) -> None:
    use_vhost()
    wire.queue("shared")
    done = apply(target(Topology(queues=(Queue("shared", {"x-max-length": 5}),))), force=True)
    assert "not on record as ours" in done.refused[0]
    done = apply(target(Topology(queues=(Queue("shared"),))), adopt=True)
    assert done.adopted == [Identity("queue", "shared")]
    wait_until(lambda: target().inspect().queues["shared"].messages == 0, 60, "the queue to be counted")
    done = apply(target(Topology(queues=(Queue("shared", {"x-max-length": 5}),))), force=True)
    assert done.made == [Identity("queue", "shared")]
    arguments = dict(target().inspect().queues["shared"].arguments)
    assert arguments.pop("x-queue-type", "classic") == "classic"  # RabbitMQ 4 adds what nobody has said
    assert arguments == {"x-max-length": 5}


def test_an_exchange_of_another_type_is_made_anew_with_what_leads_to_it_and_from_it(
    use_vhost: Callable[..., Any], wire: Wire
) -> None:
    use_vhost()

    def wanting(kind: Any) -> Topology:
        exchanges = (Exchange("first", "topic"), Exchange("second", kind))
        bindings = (Binding("first", "second", "#", to="exchange"), Binding("second", "end", "a"))
        return Topology(exchanges, (Queue("end"),), bindings)

    apply(target(wanting("topic")))
    assert ("different", "second") in drifts(target(wanting("direct")).plan())
    assert not apply(target(wanting("direct"))).made
    apply(target(wanting("direct")), force=True)
    assert not target(wanting("direct")).plan().changes
    wire.channel.basic_publish(Message(b"through"), "first", "a")
    wait_until(lambda: wire.depth("end") == 1, 30, "the message to come through")
    done = apply(target(Topology((Exchange("first", "topic"),), (Queue("end"),))), force=True)
    assert {str(each) for each in done.removed} == {"second", "first → second [#]", "second → end [a]"}


def test_force_asks_unless_told_not_to(use_vhost: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    use_vhost()
    with listening(OrderPlaced, group="billing"):
        run("apply")
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))  # no terminal
    code, text = run("apply", "--force")
    assert code == 1
    assert "nothing was changed" in text
    assert TopologyObject.objects.filter(name__endswith="billing").exists()


# dead letters have somewhere to go


def test_whatever_dies_in_a_queue_has_a_queue_to_go_to(use_vhost: Callable[..., Any]) -> None:
    use_vhost()
    with listening(OrderPlaced, group="billing"), listening(OrderPaid, group="audit"):
        wanted = target().wanted
    queues = {queue.name for queue in wanted.queues}
    exchanges = {exchange.name for exchange in wanted.exchanges}
    dying = [queue.arguments for queue in wanted.queues if "x-dead-letter-exchange" in queue.arguments]
    assert len(dying) > 2
    for arguments in dying:
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish"
        assert arguments["x-dead-letter-exchange"] in {"", *exchanges}
        assert arguments.get("x-dead-letter-routing-key") in {None, *queues}


def test_a_dead_letter_queue_is_made_before_the_queue_that_needs_it(use_vhost: Callable[..., Any], wire: Wire) -> None:
    bus = use_vhost()
    with listening(OrderPlaced, group="billing"):
        names = [queue.name for queue in target().wanted.queues]
        assert names.index(bus.names.dead("billing")) < names.index(bus.names.group("billing"))
        run("apply")
    wire.publish(bus.names.group("billing"), b"doomed", delivery_mode=2)
    wait_until(lambda: wire.depth(bus.names.group("billing")) == 1, 30, "the message to be there")
    message = wire.channel.basic_get(bus.names.group("billing"))
    wire.channel.basic_reject(message.delivery_tag, requeue=False)
    wait_until(lambda: wire.depth(bus.names.dead("billing")) == 1, 30, "the message to be counted among the dead")


# what the doctor says


def test_the_doctor_names_what_is_missing_and_calls_no_answer_unknown(
    use_vhost: Callable[..., Any],
) -> None:
    use_vhost()
    with listening(OrderPlaced, group="billing"):
        (found,) = list(examinations.topology())
        assert found.status == "degraded"
        assert "missing queue" in found.message
        run("apply")
        assert [each.status for each in examinations.topology()] == ["healthy"]
        use_vhost(MANAGEMENT=f"http://127.0.0.1:{free_port()}")
        assert [each.status for each in examinations.topology()] == ["unknown"]
        use_vhost(MANAGEMENT="")
        assert list(examinations.topology()) == []


# what a worker does when it starts


def finding(runner: Any) -> Any:
    return runner.consumers[0].finding()


def test_a_worker_that_may_not_make_anything_says_what_is_missing_until_it_is_applied(
    use_vhost: Callable[..., Any], vhost: Vhost
) -> None:
    bus = use_vhost(PROVISIONING="off")
    with listening(OrderPlaced, group="billing") as arrived, running(consuming=False) as runner:
        wait_until(lambda: "lacks on its broker" in finding(runner).message, 30, "the worker to say so")
        assert finding(runner).status == "unhealthy"
        assert f"queue {bus.names.group('billing')}" in finding(runner).message
        assert "koan_topology apply" in finding(runner).message
        assert vhost.queues() == {}
        assert OrderPlaced(1).send().state == "accepted"
        assert bus.names.exchange not in target().inspect().exchanges
        assert run("apply")[0] == 0
        wait_until(lambda: finding(runner).status == "healthy", 30, "the worker to consume")
        wait_until(lambda: len(arrived) == 1, 60, "the message to leave the outbox")


def test_a_dry_run_worker_logs_what_it_would_make(
    use_vhost: Callable[..., Any], vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    bus = use_vhost(PROVISIONING="dry-run")
    caplog.set_level("INFO", "koan_django.messaging.provisioning")
    with listening(OrderPlaced, group="billing"), running(consuming=False) as runner:
        wait_until(lambda: finding(runner).status == "unhealthy", 30, "the worker to look")
        assert f"it would make, each with its bindings: exchange {bus.names.exchange}" in caplog.text
    assert vhost.queues() == {}


def test_a_worker_makes_what_is_missing_and_puts_it_on_record(use_vhost: Callable[..., Any], wire: Wire) -> None:
    bus = use_vhost()
    with listening(OrderPlaced, group="billing"), running():
        pass
    with listening(OrderPlaced, group="billing"):
        assert not target().plan().changes
    queues = set(TopologyObject.objects.filter(kind="queue").values_list("name", flat=True))
    assert {bus.names.group("billing"), bus.names.dead("billing")} <= queues
    bound = TopologyObject.objects.filter(kind="binding", name=bus.names.group("billing"))
    assert bound.filter(source=bus.names.exchange).count() == 1
    before = TopologyObject.objects.get(name=bus.names.dead("billing"))
    with listening(OrderPlaced, group="billing"), running():
        pass
    after = TopologyObject.objects.get(name=bus.names.dead("billing"))
    assert after.created_at == before.created_at
    assert after.wanted_at > before.wanted_at


def test_what_stood_before_a_worker_came_is_not_on_record_as_ours(use_vhost: Callable[..., Any], wire: Wire) -> None:
    bus = use_vhost()
    wire.queue(bus.names.dead("billing"), **QUORUM, **{"x-delivery-limit": 2_000_000_000})
    with listening(OrderPlaced, group="billing"), running():
        pass
    assert not TopologyObject.objects.filter(name=bus.names.dead("billing")).exists()


def test_an_additive_worker_uses_what_stands_otherwise_and_says_so(use_vhost: Callable[..., Any], wire: Wire) -> None:
    bus = use_vhost(PROVISIONING="reconcile-additive")
    wire.queue(bus.names.group("billing"))
    with listening(OrderPlaced, group="billing") as arrived, running() as runner:
        OrderPlaced(1).send()
        wait_until(lambda: len(arrived) == 1, 30, "the message to arrive")
        wait_until(lambda: finding(runner).status == "degraded", 30, "the difference to be said")
        assert "PRECONDITION_FAILED" in finding(runner).message
    assert target().inspect().queues[bus.names.group("billing")].type == "classic"


def test_no_mode_of_a_worker_removes_anything(use_vhost: Callable[..., Any], wire: Wire, vhost: Vhost) -> None:
    bus = use_vhost(PROVISIONING="force-recreate")
    with listening(OrderPlaced, group="billing"):
        apply(target())
    wire.queue(bus.names.group("search"))
    with listening(OrderPaid, group="search"), running():
        pass
    assert bus.names.group("billing") in vhost.queues()
    assert vhost.queues()[bus.names.group("search")]["type"] == "classic"


def test_a_user_who_may_make_nothing_consumes_what_was_imported(
    use_bus: UseBus, vhost: Vhost, rabbitmq: RabbitMQ
) -> None:
    name = f"u{vhost.name}"
    rabbitmq.api("PUT", f"users/{name}", {"password": "reader-password", "tags": "management"})
    rights = {"configure": "^$", "write": ".*", "read": ".*"}
    rabbitmq.api("PUT", f"permissions/{vhost.name}/{name}", rights)
    where = urlsplit(vhost.url)
    try:
        use_bus(
            f"amqp://{name}:reader-password@{where.hostname}:{where.port}/{vhost.name}",
            MANAGEMENT=f"http://127.0.0.1:{urlsplit(vhost.broker.management_url).port}",
            PROVISIONING="off",
        )
        with listening(OrderPlaced, group="billing") as arrived:
            rabbitmq.api("POST", "definitions", json.loads(run("export")[1]))
            assert run("verify") == (0, "")
            with running():
                OrderPlaced(1).send()
                wait_until(lambda: len(arrived) == 1, 30, "the message to arrive")
    finally:
        rabbitmq.api("DELETE", f"users/{name}")


# export


def test_the_export_is_the_same_each_time_and_sorted(use_vhost: Callable[..., Any], vhost: Vhost) -> None:
    use_vhost()
    with listening(OrderPlaced, group="billing"), listening(OrderPaid, group="audit"):
        first = run("export")[1]
    with listening(OrderPaid, group="audit"), listening(OrderPlaced, group="billing"):
        second = run("export")[1]
    assert first == second
    made = json.loads(first)
    assert made["vhosts"] == [{"name": vhost.name}]
    for kind in ("exchanges", "queues"):
        names = [each["name"] for each in made[kind]]
        assert names == sorted(names)


def test_an_empty_broker_that_imports_the_export_is_as_it_is_wanted(
    use_bus: UseBus, own_rabbitmq: RabbitMQ, tmp_path: Any
) -> None:
    vhost = "imported"
    where = urlsplit(own_rabbitmq.url)
    use_bus(
        f"amqp://guest:guest@{where.hostname}:{where.port}/{vhost}",
        MANAGEMENT=own_rabbitmq.management_url,
        PROVISIONING="off",
    )
    with listening(OrderPlaced, group="billing") as arrived:
        file = tmp_path / "definitions.json"
        file.write_text(run("export")[1])
        own_rabbitmq.control("import_definitions", str(file))
        rights = {"configure": "^$", "write": ".*", "read": ".*"}
        own_rabbitmq.api("PUT", f"permissions/{quote(vhost)}/guest", rights)
        assert run("verify") == (0, "")
        with running():
            OrderPlaced(1).send()
            wait_until(lambda: len(arrived) == 1, 30, "the message to arrive")


def test_the_export_takes_the_policies_along(use_vhost: Callable[..., Any], vhost: Vhost) -> None:
    bus = use_vhost()
    for name, pattern in (("ours", f"^{bus.names.prefix}"), ("theirs", "^elsewhere")):
        policy = {"pattern": pattern, "definition": {"max-length": 100_000}, "apply-to": "queues"}
        vhost.broker.api("PUT", f"policies/{vhost.name}/{name}", policy)
    assert [each["name"] for each in json.loads(run("export", "--policies")[1])["policies"]] == ["ours"]
    assert json.loads(run("export")[1])["policies"] == []


def test_without_a_bus_on_rabbitmq_there_is_no_topology(use_bus: UseBus) -> None:
    use_bus("database://")
    assert run("plan")[0] == 1
