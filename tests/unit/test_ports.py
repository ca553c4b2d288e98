"""A wished port is taken when it is free, and no port is handed out twice."""

from __future__ import annotations

import socket

from app.devstack.ports import HOST, OFFSET, Ports, is_free


def test_a_wished_port_in_use_is_replaced():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        wished = taken.getsockname()[1]
        assert not is_free(wished)
        assert Ports().choose(wished) != wished


def test_a_wished_port_is_given_once():
    ports = Ports()
    wished = ports.choose()
    again = Ports()
    assert again.choose(wished) != wished, "it is held, though nothing listens there"
    ports.release()
    assert again.choose(wished) == wished
    assert again.choose(wished) != wished


def test_pairs_do_not_meet():
    ports = Ports()
    pairs = [ports.choose_pair() for _ in range(50)]
    handed_out = {*pairs, *(port + OFFSET for port in pairs)}
    assert len(handed_out) == 100
    assert ports.choose_pair(pairs[0]) != pairs[0]
