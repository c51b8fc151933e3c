"""Servers that others use as well: keys with a prefix, a user's password, TLS."""

import contextlib
from dataclasses import replace

import pytest

from tests.helpers import eventually, refused
from tests.stores.conftest import hits_of, new_keys, values_of
from tests.stores.placed.servers import behind_tls, certificates, there
from workflow.hyperkv.base.secret import write_private
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import settings_from
from workflow.plugin.lmcache_striped.deadline import BoundedSocket, Deadline, connected, send_all
from workflow.plugin.lmcache_striped.tls import BoundedTlsSocket, Tls

SIZE = 100_000
PREFIX = "mine:"
USER = ["--user", "me", "on", ">a-word", "~mine:*", "+@all", "-@admin"]


@pytest.mark.parametrize("with_tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("bound", [None, 150_000], ids=["unbounded", "bounded"])
def test_a_user_saves_below_a_prefix_alone(tmp_path, with_tls, bound):
    write_private(tmp_path / "kv", "a-word")
    keys = {"p.user": "me", "p.password_file": str(tmp_path / "kv"), "p.key_prefix": PREFIX}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(there(tmp_path / "there", *USER))
        port = server.port
        if with_tls:
            own = certificates(tmp_path)
            port = stack.enter_context(behind_tls(server.port, own))
            keys |= {"p.tls": True, "p.tls_ca_file": str(own.ca_file)}
        settings = settings_from(
            keys | {"p.endpoints": f"localhost:{port}", "p.stripe_bytes": 30_000, "p.bound_bytes": bound}, "p"
        )
        reports: list[str] = []
        cache = StripedCache(settings, reports.append)
        stack.callback(cache.close)
        if cache.bound is not None:
            assert cache.bound.wait(30)
        names = new_keys(1)
        saved: list[bool] = []
        assert cache.offer(names, values_of(names, SIZE), saved.append)
        eventually(lambda: saved)
        assert saved == [True]
        assert reports == []
        assert cache.count_present(names) == 1
        assert cache.present([*names, b"no"]) == [True, False]
        assert hits_of(cache.load, names, SIZE) == [True]
        assert all(key.startswith(PREFIX.encode()) for key in server.keys_of_others())
        assert cache.delete(names) == [True]
        assert cache.count_present(names) == 0
        assert reports == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"p.tls": "maybe"}, "p.tls: 'maybe' is wrong; write true or false"),
        ({"p.tls_ca_file": "/a"}, "p.tls_ca_file: there is no TLS; set p.tls: true, or leave it out"),
        (
            {"p.tls": True, "p.tls_ca_file": "/no/such"},
            "p.tls_ca_file: /no/such: No such file or directory; it must be",
        ),
        ({"p.tls": True, "p.client": "native"}, "p.client: native speaks no TLS; write python"),
        ({"p.user_name": "me"}, "p.user_name: there is no such key"),
    ],
)
def test_wrong_settings_name_the_key(keys, words):
    with refused(words):
        settings_from({"p.endpoints": "a:1"} | keys, "p")


def test_tls_is_by_python_whatever_is_installed():
    keys = {"p.endpoints": "[::1]:1", "p.tls": "true", "p.library": "/a/library.so"}
    settings = settings_from(keys, "p")
    assert settings.library is None
    assert (settings.endpoints[0].host, settings.endpoints[0].tls) == ("::1", Tls())


def test_calls_over_tls_end_by_the_deadline(tmp_path):
    own = certificates(tmp_path)
    tls = Tls(own.ca_file)
    with there(tmp_path / "there") as server, behind_tls(server.port, own) as port:
        with connected("localhost", port, Deadline(30), tls=tls) as connection:
            assert isinstance(connection, BoundedTlsSocket)
            for call in (
                lambda: connection.recv(1),
                lambda: connection.recv_into(bytearray(1)),
                lambda: connection.recvmsg_into([bytearray(1)]),
            ):
                connection.deadline = Deadline(0.05)
                with pytest.raises(TimeoutError):
                    call()
            connection.deadline = Deadline(0)
            for send in (lambda: connection.sendall(b"x"), lambda: connection.sendmsg([b"x"])):
                with pytest.raises(TimeoutError):
                    send()


@pytest.mark.parametrize("with_tls", [False, True], ids=["clear", "tls"])
def test_buffers_go_and_come_as_over_any_socket(tmp_path, with_tls):
    own = certificates(tmp_path)
    with there(tmp_path / "there") as server, behind_tls(server.port, own) as port:
        where = ("localhost", port) if with_tls else ("127.0.0.1", server.port)
        tls = Tls(own.ca_file) if with_tls else None
        with connected(*where, Deadline(30), tls=tls) as connection:
            assert isinstance(connection, BoundedTlsSocket if with_tls else BoundedSocket)
            value = bytes(range(256)) * 20_000
            send_all(connection, [b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % len(value), b"", value, b"\r\n"])
            head, first, rest = bytearray(10), bytearray(1000), bytearray(len(value) - 1000 + 2)
            assert connection.recvmsg_into([head, first, rest], 0, 0x100)[0] == len(value) + 12
            assert bytes(head) == b"$5120000\r\n"
            assert bytes(first + rest) == value + b"\r\n"


def test_a_prefix_is_of_the_servers_keys_and_not_of_what_is_asked(tmp_path):
    with there(tmp_path / "there") as server:
        settings = settings_from({"p.endpoints": server.address, "p.key_prefix": PREFIX}, "p")
        both = [settings, replace(settings, endpoints=(replace(settings.endpoints[0], prefix="other:"),))]
        names = new_keys(1)
        caches = [StripedCache(each) for each in both]
        try:
            saved: list[bool] = []
            caches[0].offer(names, values_of(names, SIZE), saved.append)
            eventually(lambda: saved)
            assert [cache.count_present(names) for cache in caches] == [1, 0]
        finally:
            for cache in caches:
                cache.close()
