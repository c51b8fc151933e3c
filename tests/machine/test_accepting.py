"""Accepting connections until a signal."""

import subprocess
import sys

TIMEOUT_S = 60

# The kernel may give a signal to any thread, and the one that waits for connections is not woken by one that another got.
SIGNALLED_ELSEWHERE = """
import signal, socket, threading
from workflow.hyperkv.machine.accepting import Acceptor

listener = socket.create_server(("127.0.0.1", 0))
acceptor = Acceptor([listener], lambda connection, peer: connection.sendall(b"x"), lambda reason: b"")
acceptor.stop_at([signal.SIGTERM])

def client():
    for _ in range(2):  # at the second answer the main thread waits again, or is about to
        with socket.create_connection(listener.getsockname()) as own:
            assert own.recv(1) == b"x"
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

thread = threading.Thread(target=client)
thread.start()
acceptor.run()
thread.join()
print("stopped")
"""


def test_a_signal_that_another_thread_gets_stops_it():
    command = [sys.executable, "-c", SIGNALLED_ELSEWHERE]
    found = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (found.stdout, found.stderr) == ("stopped\n", "")
