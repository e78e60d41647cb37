from __future__ import annotations

import pytest

from lbservice.core.backend import Backend, Lease
from lbservice.core.pick import Outcome, Result
from lbservice.core.server import Admin, Server
from tests.core.build import (
    CLIENT,
    GOOD,
    FirstWithRoom,
    Waiter,
    comes_up,
    goes_down,
    lease_of,
    make_backend,
    make_server,
)


class TestLending:
    """A server is counted when it is lent, and given back exactly once."""

    def test_choosing_and_counting_are_one_step(self) -> None:
        server = make_server()
        backend = make_backend([server])
        first, second = lease_of(backend), lease_of(backend)
        assert (server.in_flight, server.requests) == (2, 2)
        assert (backend.in_flight, backend.requests) == (2, 2)
        first.done(GOOD)
        second.done(GOOD)
        assert (server.in_flight, backend.in_flight) == (0, 0)
        assert (server.requests, backend.requests) == (2, 2)

    def test_a_second_done_changes_nothing(self) -> None:
        server = make_server()
        backend = make_backend([server])
        lease = lease_of(backend)
        assert repr(lease) == "<Lease of app/s1>"
        lease.done(Outcome(Result.OK, 200, bytes_in=10, bytes_out=100))
        lease.done(Outcome(Result.RESET, bytes_in=10, bytes_out=100))
        assert (server.in_flight, backend.in_flight) == (0, 0)
        assert (server.statuses, server.resets) == ([0, 0, 1, 0, 0, 0], 0)
        assert (server.bytes_in, server.bytes_out) == (10, 100)
        assert repr(lease) == "<Lease of app/s1, done>"

    @pytest.mark.parametrize(
        ("outcome", "counted"),
        [
            (Outcome(Result.OK, 101), "1xx"),
            (Outcome(Result.OK, 204), "2xx"),
            (Outcome(Result.OK, 304), "3xx"),
            (Outcome(Result.OK, 499), "4xx"),
            (Outcome(Result.OK, 503), "5xx"),
            (Outcome(Result.OK, 999), "5xx"),
            (Outcome(Result.OK), "none"),
            (Outcome(Result.CONNECT_FAILED), "none, connect_errors"),
            (Outcome(Result.TIMED_OUT), "none, timeouts"),
            (Outcome(Result.RESET, 200), "none, resets"),
            (Outcome(Result.ABORTED, 200), "none"),
        ],
    )
    def test_each_way_to_end_has_its_counter(self, outcome: Outcome, counted: str) -> None:
        server = make_server()
        lease_of(make_backend([server])).done(outcome)
        names = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"]
        counters = [name for name, count in zip(names, server.statuses, strict=True) for _ in range(count)]
        errors = ("connect_errors", "timeouts", "resets")
        assert ", ".join(counters + [name for name in errors if getattr(server, name)]) == counted

    def test_the_policy_learns_how_it_went(self) -> None:
        learnt: list[tuple[str, Result]] = []

        class Learner(FirstWithRoom):
            def learn(self, server: Server, outcome: Outcome) -> None:
                learnt.append((server.name, outcome.result))

        lease_of(make_backend([make_server()], Learner())).done(Outcome(Result.RESET))
        assert learnt == [("s1", Result.RESET)]

    def test_an_empty_backend_lends_nothing(self) -> None:
        assert make_backend().acquire(CLIENT) is None

    def test_it_presents_itself(self) -> None:
        s1, s2 = make_server("s1"), make_server("s2", up=False)
        backend = make_backend([s1, s2])
        lease_of(backend)
        assert repr(backend) == "<Backend app: 1 of 2 up, 1 active>"
        assert list(backend) == [s1, s2]


class TestAnotherServerThanThese:
    """A retry goes to a server that has not failed, if there is one."""

    def test_the_one_to_avoid_is_left_out(self) -> None:
        s1, s2, s3 = (make_server(f"s{n}") for n in (1, 2, 3))
        backend = make_backend([s1, s2, s3])
        assert lease_of(backend, s1).server is s2
        assert lease_of(backend, s1, s2).server is s3

    def test_when_all_are_to_be_avoided_any_will_do(self) -> None:
        s1, s2 = make_server("s1"), make_server("s2")
        assert lease_of(make_backend([s1, s2]), s2, s1).server is s1

    def test_while_the_others_are_full_it_waits_for_them(self) -> None:
        s1, s2 = make_server("s1"), make_server("s2", maxconn=1)
        backend = make_backend([s1, s2])
        lease = lease_of(backend, s1)
        assert backend.acquire(CLIENT, (s1,)) is None
        granted: list[Lease | None] = []
        backend.wait(CLIENT, granted.append, (s1,))
        lease.done(GOOD)
        assert [each and each.server for each in granted] == [s2]

    def test_who_waits_for_others_keeps_nobody_from_the_one_that_failed_him(self) -> None:
        s1, s2 = make_server("s1"), make_server("s2", maxconn=1)
        backend = make_backend([s1, s2])
        lease_of(backend, s1)
        backend.wait(CLIENT, lambda lease: None, (s1,))
        assert lease_of(backend).server is s1

    def test_a_freed_slot_goes_to_the_oldest_whom_it_suits(self) -> None:
        s1, s2 = make_server("s1", maxconn=1), make_server("s2", maxconn=1)
        backend = make_backend([s1, s2])
        first, second = lease_of(backend), lease_of(backend)
        told: list[str] = []
        for name, avoid in (("picky", (first.server,)), ("a", ()), ("b", ())):
            backend.wait(CLIENT, lambda lease, name=name: told.append(f"{name} {lease.server.name}"), avoid)  # type: ignore[misc]
        first.done(GOOD)
        assert told == ["a s1"]
        second.done(GOOD)
        assert told == ["a s1", "picky s2"]

    def test_when_the_others_go_the_one_that_failed_must_do(self) -> None:
        s1, s2 = make_server("s1"), make_server("s2", maxconn=1)
        backend = make_backend([s1, s2])
        lease_of(backend, s1)
        granted: list[Lease | None] = []
        backend.wait(CLIENT, granted.append, (s1,))
        s2.health.up = False
        backend.refresh()
        assert [each and each.server for each in granted] == [s1]

    def test_a_stranger_to_avoid_does_not_matter(self) -> None:
        s1 = make_server("s1")
        assert lease_of(make_backend([s1]), make_server("s9")).server is s1


class TestBackups:
    """Backups serve only while nothing else can."""

    def test_they_step_in_when_the_last_other_goes_down_and_out_when_it_returns(self) -> None:
        main, backup = make_server("s1"), make_server("s2", backup=True)
        backend = make_backend([backup, main])
        seen = [backend.available]
        for step in (goes_down, comes_up):
            step(backend, main)
            seen.append(backend.available)
        assert seen == [(main,), (backup,), (main,)]

    def test_several_backups_serve_together(self) -> None:
        main = make_server("s1", up=False)
        backups = [make_server(f"s{n}", backup=True) for n in (2, 3)]
        assert make_backend([main, *backups]).available == tuple(backups)

    def test_a_full_server_is_no_reason_for_backups(self) -> None:
        main, backup = make_server("s1", maxconn=1), make_server("s2", backup=True)
        backend = make_backend([main, backup])
        lease_of(backend)
        assert backend.acquire(CLIENT) is None

    def test_a_retry_is_no_reason_for_backups_either(self) -> None:
        main, backup = make_server("s1"), make_server("s2", backup=True)
        assert lease_of(make_backend([main, backup]), main).server is main

    def test_a_drained_main_server_makes_room_for_backups(self) -> None:
        main, backup = make_server("s1"), make_server("s2", backup=True)
        backend = make_backend([main, backup])
        main.admin = Admin.DRAIN
        backend.refresh()
        assert lease_of(backend).server is backup


class TestFullServers:
    """maxconn is never exceeded; who finds every server full may wait."""

    def test_a_full_server_is_no_candidate_until_one_is_done(self) -> None:
        s1, s2 = make_server("s1", maxconn=2), make_server("s2")
        backend = make_backend([s1, s2])
        leases = [lease_of(backend) for _ in range(3)]
        assert [lease.server.name for lease in leases] == ["s1", "s1", "s2"]
        assert list(backend.candidates) == [s2]
        leases[0].done(GOOD)
        assert list(backend.candidates) == [s1, s2]

    def test_all_full_is_not_all_down(self) -> None:
        backend = make_backend([make_server(maxconn=1)])
        lease_of(backend)
        assert backend.acquire(CLIENT) is None
        assert backend.available

    def test_the_oldest_in_the_queue_is_served_first(self) -> None:
        backend = make_backend([make_server(maxconn=1)])
        busy = lease_of(backend)
        anna, ben, cora = Waiter(backend), Waiter(backend), Waiter(backend)
        assert [waiter.ticket.place for waiter in (anna, ben, cora)] == [0, 1, 2]
        assert backend.waiting == 3
        busy.done(GOOD)
        assert [waiter.served_by for waiter in (anna, ben, cora)] == ["s1", "", ""]
        anna.done()
        ben.done()
        assert cora.served_by == "s1"
        assert backend.waiting == 0

    def test_a_freed_slot_goes_to_the_queue_so_nobody_overtakes(self) -> None:
        server = make_server(maxconn=1)
        backend = make_backend([server])
        busy = lease_of(backend)
        anna = Waiter(backend)
        busy.done(GOOD)
        assert backend.acquire(CLIENT) is None, "Anna has it"
        assert server.in_flight == 1
        anna.done()
        assert lease_of(backend).server is server

    def test_a_server_that_comes_up_takes_as_many_from_the_queue_as_it_has_room_for(self) -> None:
        s1, s2 = make_server("s1", maxconn=1), make_server("s2", maxconn=2, up=False)
        backend = make_backend([s1, s2])
        lease_of(backend)
        waiters = [Waiter(backend) for _ in range(3)]
        comes_up(backend, s2)
        assert [waiter.served_by for waiter in waiters] == ["s2", "s2", ""]
        assert backend.waiting == 1
        assert not backend.candidates

    def test_a_new_server_takes_the_whole_queue_when_it_has_no_limit(self) -> None:
        backend = make_backend([make_server("s1", maxconn=1)])
        lease_of(backend)
        waiters = [Waiter(backend) for _ in range(5)]
        backend.add(make_server("s2"))
        assert [waiter.served_by for waiter in waiters] == ["s2"] * 5

    def test_when_the_last_server_goes_down_all_who_wait_hear_that_nobody_comes(self) -> None:
        server = make_server(maxconn=1)
        backend = make_backend([server])
        lease_of(backend)
        waiters = [Waiter(backend), Waiter(backend)]
        goes_down(backend, server)
        assert [waiter.served_by for waiter in waiters] == ["nobody", "nobody"]
        assert (backend.waiting, backend.in_flight) == (0, 1)

    def test_when_the_last_server_is_removed_too(self) -> None:
        server = make_server(maxconn=1)
        backend = make_backend([server])
        lease = lease_of(backend)
        waiter = Waiter(backend)
        backend.remove(server)
        assert waiter.served_by == "nobody"
        lease.done(GOOD)
        assert not backend.servers

    def test_when_backups_take_over_they_take_the_queue(self) -> None:
        main, backup = make_server("s1", maxconn=1), make_server("s2", backup=True)
        backend = make_backend([main, backup])
        lease_of(backend)
        waiter = Waiter(backend)
        goes_down(backend, main)
        assert waiter.served_by == "s2"

    def test_a_slot_freed_on_a_server_that_went_down_helps_nobody(self) -> None:
        s1, s2 = make_server("s1", maxconn=1), make_server("s2", maxconn=1)
        backend = make_backend([s1, s2])
        first, second = lease_of(backend), lease_of(backend)
        waiter = Waiter(backend)
        goes_down(backend, s1)
        first.done(GOOD)
        assert waiter.served_by == ""
        second.done(GOOD)
        assert waiter.served_by == "s2"

    @pytest.mark.parametrize(
        ("own", "theirs", "places"),
        [(0, (2, 3), 5), (4, (2, 3), 4), (9, (2, 3), 5), (9, (2, 0), 9), (0, (2, 0), 1000), (0, (0, 0), 1000)],
    )
    def test_servers_bring_places_in_the_queue(self, own: int, theirs: tuple[int, int], places: int) -> None:
        servers = [make_server(f"s{number}", maxconn=1, maxqueue=each) for number, each in enumerate(theirs, 1)]
        backend = make_backend(servers, maxqueue=own)
        for _ in servers:
            lease_of(backend)
        waiting = 0
        while not backend.queue_full and waiting < 1000:
            Waiter(backend)
            waiting += 1
        assert waiting == places

    def test_a_server_that_goes_takes_its_places_along(self) -> None:
        s1, s2 = make_server("s1", maxconn=1, maxqueue=2), make_server("s2", maxconn=1, maxqueue=3)
        backend = make_backend([s1, s2])
        for _ in (s1, s2):
            lease_of(backend)
        for _ in range(3):
            Waiter(backend)
        assert not backend.queue_full
        s1.health.up = False
        backend.refresh()
        assert backend.queue_full

    @pytest.mark.parametrize(("maxqueue", "full"), [(0, False), (1, True), (2, True), (3, False)])
    def test_two_wait_and_the_queue_says_whether_it_is_full(self, maxqueue: int, full: bool) -> None:
        backend = make_backend([make_server(maxconn=1)], maxqueue=maxqueue)
        lease_of(backend)
        Waiter(backend)
        Waiter(backend)
        assert backend.queue_full == full


class TestLeavingTheQueue:
    def test_the_one_behind_moves_up(self) -> None:
        backend = make_backend([make_server(maxconn=1)])
        busy = lease_of(backend)
        anna, ben = Waiter(backend), Waiter(backend)
        backend.leave(anna.ticket)
        assert backend.waiting == 1
        busy.done(GOOD)
        assert (anna.served_by, ben.served_by) == ("", "s1")

    def test_leaving_twice_or_after_being_served_changes_nothing(self) -> None:
        backend = make_backend([make_server(maxconn=1)])
        busy = lease_of(backend)
        anna, ben, cora = Waiter(backend), Waiter(backend), Waiter(backend)
        backend.leave(ben.ticket)
        backend.leave(ben.ticket)
        busy.done(GOOD)
        backend.leave(anna.ticket)
        assert backend.waiting == 1
        anna.done()
        assert cora.served_by == "s1"

    def test_when_all_have_left_a_freed_slot_is_free(self) -> None:
        backend = make_backend([make_server(maxconn=1)])
        busy = lease_of(backend)
        for waiter in [Waiter(backend) for _ in range(3)]:
            backend.leave(waiter.ticket)
        busy.done(GOOD)
        assert lease_of(backend).server.in_flight == 1

    def test_ten_thousand_who_left_do_not_stay_in_memory(self) -> None:
        backend = make_backend([make_server(maxconn=1)])
        busy = lease_of(backend)
        patient = Waiter(backend)
        for _ in range(10_000):
            backend.leave(Waiter(backend).ticket)
        assert len(backend._queue) < 100
        busy.done(GOOD)
        assert patient.served_by == "s1"

    def test_one_who_was_told_may_send_another_away(self) -> None:
        server = make_server(maxconn=1)
        backend = make_backend([server])
        lease_of(backend)
        told: list[str] = []

        def anna(lease: Lease | None) -> None:
            told.append("anna")
            backend.leave(ben)

        backend.wait(CLIENT, anna)
        ben = backend.wait(CLIENT, lambda lease: told.append("ben"))
        backend.wait(CLIENT, lambda lease: told.append("cora"))
        goes_down(backend, server)
        assert told == ["anna", "cora"]
        assert backend.waiting == 0


class TestAtOnce:
    """A grant may end, and its client ask for more, before `granted` returns: a dial can fail in the same turn."""

    def test_leases_that_end_at_once_let_the_next_ones_in(self) -> None:
        server = make_server(maxconn=1)
        backend = make_backend([server])
        busy = lease_of(backend)
        served: list[int] = []
        for number in range(20):
            backend.wait(CLIENT, lambda lease, n=number: self.ends_at_once(lease, served, n))  # type: ignore[misc]
        busy.done(GOOD)
        assert served == list(range(20))
        assert (server.in_flight, backend.waiting) == (0, 0)

    def test_a_queue_of_two_thousand_needs_no_deep_stack(self) -> None:
        server = make_server(maxconn=1)
        backend = make_backend([server])
        busy = lease_of(backend)
        served: list[int] = []
        for number in range(2000):
            backend.wait(CLIENT, lambda lease, n=number: self.ends_at_once(lease, served, n))  # type: ignore[misc]
        busy.done(GOOD)
        assert served == list(range(2000))
        assert (server.in_flight, backend.waiting) == (0, 0)

    def test_one_who_was_just_served_does_not_overtake_those_who_wait(self) -> None:
        s1, s2 = make_server("s1", maxconn=1), make_server("s2", maxconn=2, up=False)
        backend = make_backend([s1, s2])
        lease_of(backend)
        again: list[Lease | None] = []
        backend.wait(CLIENT, lambda lease: again.append(backend.acquire(CLIENT)))
        ben = Waiter(backend)
        comes_up(backend, s2)
        assert ben.served_by == "s2"
        assert again == [None]

    @staticmethod
    def ends_at_once(lease: Lease | None, served: list[int], number: int) -> None:
        assert lease is not None
        served.append(number)
        lease.done(Outcome(Result.CONNECT_FAILED))


class TestChanging:
    def test_what_is_down_drained_in_maintenance_or_weightless_gets_nothing(self) -> None:
        servers = [make_server(f"s{n}") for n in range(1, 6)]
        backend = make_backend(servers)
        down, drained, maintained, weightless, ready = servers
        goes_down(backend, down)
        drained.admin = Admin.DRAIN
        maintained.admin = Admin.MAINT
        weightless.weight = 0
        backend.refresh()
        assert backend.available == backend.candidates == (ready,)

    def test_what_it_has_goes_on_while_it_drains(self) -> None:
        server = make_server()
        backend = make_backend([server])
        lease = lease_of(backend)
        server.admin = Admin.DRAIN
        backend.refresh()
        assert server.in_flight == 1
        lease.done(GOOD)
        assert list(backend) == [server], "drained is not removed"

    def test_a_name_is_given_once(self) -> None:
        backend = make_backend([make_server("s1")])
        with pytest.raises(KeyError, match="s1"):
            backend.add(make_server("s1"))
        assert len(backend.servers) == 1

    def test_the_policy_hears_of_the_available_servers_with_each_change(self) -> None:
        heard: list[str] = []

        class Listener(FirstWithRoom):
            def rebuild(self, servers: object) -> None:
                assert isinstance(servers, tuple)
                heard.append(" ".join(f"{server.name}*{server.weight}" for server in servers))

        s1, s2 = make_server("s1"), make_server("s2")
        backend = make_backend([s1, s2], Listener())
        s2.weight = 4
        backend.refresh()
        goes_down(backend, s1)
        assert heard == ["s1*1", "s1*1 s2*1", "s1*1 s2*4", "s2*4"]


class TestRemoving:
    def make(self) -> tuple[Backend, Server, list[str]]:
        gone: list[str] = []
        server = make_server()
        return make_backend([server], gone=lambda server: gone.append(server.name)), server, gone

    def test_an_idle_server_is_gone_at_once(self) -> None:
        backend, server, gone = self.make()
        backend.remove(server)
        assert gone == ["s1"]
        assert not backend.servers
        assert backend.acquire(CLIENT) is None

    def test_a_busy_one_is_gone_with_its_last_request(self) -> None:
        backend, server, gone = self.make()
        first, second = lease_of(backend), lease_of(backend)
        backend.remove(server)
        assert backend.acquire(CLIENT) is None
        first.done(GOOD)
        assert gone == []
        assert server.leaving
        second.done(Outcome(Result.RESET))
        second.done(GOOD)
        assert gone == ["s1"]
        assert not backend.servers

    def test_removing_it_twice_does_not_make_it_go_twice(self) -> None:
        backend, server, gone = self.make()
        lease = lease_of(backend)
        backend.remove(server)
        backend.remove(server)
        lease.done(GOOD)
        backend.remove(server)
        assert gone == ["s1"]

    def test_the_name_is_free_again_and_the_old_server_does_not_disturb_the_new(self) -> None:
        backend, old, gone = self.make()
        backend.remove(old)
        new = make_server()
        backend.add(new)
        backend.remove(old)
        assert list(backend) == [new]
        assert lease_of(backend).server is new
        assert gone == ["s1"]

    def test_a_removed_full_server_keeps_its_limit_to_the_end(self) -> None:
        s1, s2 = make_server("s1", maxconn=1), make_server("s2", maxconn=1)
        backend = make_backend([s1, s2])
        lease = lease_of(backend)
        lease_of(backend)
        waiter = Waiter(backend)
        backend.remove(s1)
        lease.done(GOOD)
        assert waiter.served_by == ""
        assert list(backend) == [s2]


class TestEmptied:
    """Somebody hears when the last server becomes unavailable, and when the first returns."""

    def test_once_each_way(self) -> None:
        heard: list[bool] = []
        s1, s2 = make_server("s1"), make_server("s2")
        backend = make_backend([s1, s2], emptied=lambda backend, empty: heard.append(empty))
        assert heard == [False], "the first server came"
        for step, server in ((goes_down, s1), (goes_down, s2), (comes_up, s2), (comes_up, s1)):
            step(backend, server)
        assert heard == [False, True, False]

    def test_backups_keep_it_from_being_empty(self) -> None:
        heard: list[bool] = []
        main, backup = make_server("s1"), make_server("s2", backup=True)
        backend = make_backend([main, backup], emptied=lambda backend, empty: heard.append(empty))
        goes_down(backend, main)
        assert heard == [False]

    def test_the_tuples_are_already_new_when_it_is_heard(self) -> None:
        seen: list[int] = []
        server = make_server()
        backend = make_backend([server], emptied=lambda backend, empty: seen.append(len(backend.candidates)))
        goes_down(backend, server)
        assert seen == [1, 0]

    def test_removing_the_last_one_empties_it(self) -> None:
        heard: list[bool] = []
        server = make_server()
        backend = make_backend([server], emptied=lambda backend, empty: heard.append(empty))
        backend.remove(server)
        assert heard == [False, True]
