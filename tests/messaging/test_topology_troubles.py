"""Two people, a broken connection and other programs, all at once, while a topology is changed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from amqp.basic_message import Message
from django.db import connections

from koan_django.messaging.buses.amqp.topology import Binding, Exchange, Queue, Topology
from koan_django.messaging.exceptions import InspectionError
from koan_django.messaging.models import TopologyObject
from koan_django.messaging.provisioning import declaring
from koan_django.messaging.provisioning.applying import apply
from koan_django.messaging.provisioning.declaring import Declarer
from koan_django.messaging.provisioning.identities import identity_of
from koan_django.messaging.provisioning.management import Management
from koan_django.messaging.provisioning.migrating import migrate
from tests.messaging.conftest import UseBus
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.test_topology import QUORUM, counted, run, target
from tests.messaging.test_topology_migration import killed_at
from tests.messaging.wire import Wire, wired
from tests.services import wait_until
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def use_vhost(use_bus: UseBus, vhost: Vhost) -> Callable[..., Any]:
    """The bus of this test in a virtual host of its own, with the management API of the broker."""
    return lambda **options: use_bus(vhost.url, **{"MANAGEMENT": vhost.broker.management_url, **options})


def both(work: Callable[[], Any]) -> list[Any]:
    """Do it twice at once; return what came of each, an exception too. A loaded broker may have to be asked again."""
    barrier = threading.Barrier(2)

    def patiently() -> Any:
        for _ in range(5):
            with contextlib.suppress(InspectionError):
                return work()
        return work()

    def once(_: int) -> Any:
        try:
            barrier.wait(20)
            return patiently()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(once, range(2)))


def test_two_who_apply_at_once_make_everything_and_neither_fails(use_vhost: Callable[..., Any]) -> None:
    use_vhost()
    with listening(OrderPlaced, group="billing"):
        outcomes = both(lambda: apply(target()))
        assert [type(each).__name__ for each in outcomes] == ["Applied", "Applied"], outcomes
        assert not target().plan().changes
        assert TopologyObject.objects.filter(kind="queue").exists()


def test_two_who_force_at_once_end_with_what_is_wanted(use_vhost: Callable[..., Any]) -> None:
    use_vhost()
    apply(target(Topology((Exchange("e", "topic"),), (Queue("q"), Queue("old")), (Binding("e", "q", "#"),))))
    for name in ("q", "old"):
        wait_until(counted(name), 60, "the queue to be counted")
    wanted = Topology((Exchange("e", "direct"),), (Queue("q"),), (Binding("e", "q", "k"),))
    outcomes = both(lambda: apply(target(wanted), force=True))
    assert [type(each).__name__ for each in outcomes] == ["Applied", "Applied"], outcomes
    assert not target(wanted).plan().changes
    assert set(target().inspect().queues) == {"q"}


def test_what_somebody_removed_since_it_was_planned_is_gone_and_no_accident(
    use_vhost: Callable[..., Any], wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_vhost()
    apply(target(Topology(queues=(Queue("old", QUORUM),))))
    wait_until(counted("old"), 60, "the queue to be counted")
    count = Declarer.counts

    def late(self: Declarer, queue: str) -> tuple[int, int]:
        wire.channel.queue_delete("old")
        return count(self, queue)

    monkeypatch.setattr(Declarer, "counts", late)
    done = apply(target(Topology()), force=True)
    assert [str(each) for each in done.removed] == ["old"]
    assert not TopologyObject.objects.exists()


def test_a_connection_that_is_lost_in_the_middle_is_said_and_the_next_run_ends_it(
    use_bus: UseBus, vhost: Vhost, proxy: Proxy, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_bus(through, MANAGEMENT=vhost.broker.management_url)
    make, made = Declarer.make, []

    def cutting(self: Declarer, part: Any) -> str:
        made.append(part)
        if len(made) == 5:
            proxy.cut()
        return make(self, part)

    monkeypatch.setattr(Declarer, "make", cutting)
    with listening(OrderPlaced, group="billing"):
        code, text = run("apply")
        assert code == 1
        assert "call it again" in text
        assert "guest" not in text
        assert len(made) == 5
        code, text = run("apply")
        assert code == 0, text
        assert run("verify")[0] == 0


def test_force_removes_no_step_of_the_ladder_while_a_message_is_above_it(
    use_vhost: Callable[..., Any], wire: Wire
) -> None:
    bus = use_vhost(DELAY_IN_BROKER=timedelta(seconds=60))
    with listening(OrderPlaced, group="billing"):
        run("apply")
        OrderPlaced(1).send(delay=timedelta(seconds=40))  # 32 s at the highest step, 8 s at another
        step = bus.names.delay(5)
        wait_until(lambda: target().inspect().queues[step].messages == 1, 30, "the message to be counted")
        for name in target().inspect().queues:
            wait_until(counted(name), 30, "all to be counted")
        before = target().inspect()
        use_vhost(DELAY_IN_BROKER=0, PREFIX=bus.options.prefix)
        code, text = run("apply", "--force", "--no-input")
        assert code == 2, text
        assert f"messages that wait in {step} come through it: wait until they have" in text
        after = target().inspect()
    assert after.queues.keys() == before.queues.keys()
    assert after.exchanges.keys() | {step} == before.exchanges.keys()  # nothing comes to the highest any more
    ways = {str(identity_of(each)) for each in before.bindings if each.source != step}
    assert ways == {str(identity_of(each)) for each in after.bindings if each.source != step}


def test_force_removes_no_queue_to_which_another_attempt_may_come_back(
    use_vhost: Callable[..., Any], wire: Wire
) -> None:
    retry = {"FIRST_DELAY": 60, "FACTOR": 1, "MAX_DELAY": 60, "MAX_ATTEMPTS": 3, "JITTER": 0}
    bus = use_vhost(RETRY=retry)
    queue, bucket = bus.names.group("billing"), bus.names.retry(timedelta(seconds=60))
    with listening(OrderPlaced, group="billing"):
        run("apply")
    wire.channel.basic_publish(Message(b"{}"), bucket, queue)
    wait_until(lambda: target().inspect().queues[bucket].messages == 1, 30, "the message to be counted")
    wait_until(counted(queue), 30, "the queue to be counted")
    code, text = run("apply", "--force", "--no-input")
    assert code == 2
    assert f"queue {queue}: messages that wait in {bucket} come through it" in text
    wire.take(bucket)
    wait_until(lambda: target().inspect().queues[bucket].messages == 0, 30, "the message to be gone")
    assert run("apply", "--force", "--no-input")[0] == 0
    assert queue not in target().inspect().queues


def test_of_two_who_migrate_a_queue_one_does_and_the_other_finds_it_done(
    use_vhost: Callable[..., Any], wire: Wire
) -> None:
    bus = use_vhost()
    name = wire.queue(bus.names.group("billing"))
    for number in range(120):
        wire.publish(name, str(number).encode())
    with listening(OrderPlaced, group="billing"):
        run("apply")
        outcomes = both(lambda: migrate(target(), name, adopt=True))
        assert sorted(each.is_done for each in outcomes) == [False, True], outcomes
        assert not [change for change in target().plan().changes if change.counts]
    assert [each.body for each in wire.take(name)] == [str(number).encode() for number in range(120)]


def test_who_would_change_what_another_changes_is_told_and_changes_nothing(
    use_vhost: Callable[..., Any], wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = use_vhost()
    monkeypatch.setattr(declaring, "TURN_SECONDS", 0.3)
    with listening(OrderPlaced, group="billing"), wired(bus.options.url) as other:
        wire.queue(bus.names.group("billing"))
        other.channel.queue_declare(bus.names.turn, exclusive=True, auto_delete=False)
        for words in (("apply", "--force", "--no-input"), ("migrate", bus.names.group("billing"), "--adopt")):
            code, text = run(*words)
            assert code == 1
            assert "somebody else is removing or migrating" in text
        assert set(target().inspect().queues) == {bus.names.group("billing"), bus.names.turn}


def test_a_management_api_that_is_away_for_a_moment_ends_no_migration(
    use_vhost: Callable[..., Any], wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = use_vhost()
    name = wire.queue(bus.names.group("billing"), **{"x-queue-type": "quorum", "x-delivery-limit": 3})
    wire.publish(name, b"precious")
    with listening(OrderPlaced, group="billing"):
        run("apply")
        asked, get = [], Management.get

        def failing(self: Management, *parts: str) -> Any:
            asked.append(parts)
            if len(asked) in (5, 6):  # after the four of the plan
                raise InspectionError("it does not answer")
            return get(self, *parts)

        monkeypatch.setattr(Management, "get", failing)
        assert migrate(target(), name, adopt=True).is_done
        assert len(asked) > 6
    assert [each.body for each in wire.take(name)] == [b"precious"]


def test_who_is_killed_while_applying_leaves_the_rest_to_the_next_and_nothing_in_danger(
    use_vhost: Callable[..., Any], wire: Wire
) -> None:
    use_vhost()
    wanted = Topology(queues=tuple(Queue(name, QUORUM) for name in ("a", "b", "c")))
    killed_at("messaging.apply.made", 2, lambda: apply(target(wanted)))
    assert set(target().inspect().queues) == {"a", "b"}
    assert {row.name for row in TopologyObject.objects.all()} == {"a"}  # b stands, and nobody knows whose it is
    done = apply(target(wanted))
    assert [str(each) for each in done.made] == ["c"]
    for name in "abc":
        wait_until(counted(name), 60, "the queue to be counted")
    assert [str(each) for each in apply(target(Topology()), force=True).removed] == ["a", "c"]
    assert set(target().inspect().queues) == {"b"}
