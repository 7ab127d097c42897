"""A proxy between a client and vsockfsd, for cases in which the host is to answer late."""
import socket
import struct
import threading

from lib import receive

ACK = b"\0\x18\x41"  # {op: 65, ...}


def frames(s):
    """The HELLO, which is plain, and then the extended ones."""
    head = receive(s, 4)
    yield head + receive(s, *struct.unpack(">I", head))
    while True:
        head = receive(s, 8)
        yield head + receive(s, struct.unpack(">II", head)[0])


def quietly(pump, a, b):
    try:
        pump(a, b)
    except (EOFError, OSError):
        for s in a, b:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Proxy:
    """Listens at `at` for one client of the server at `served`."""

    def __init__(self, at, served, large):
        self.at, self.served, self.large = at, served, large
        # A reply of more than `large` bytes, and so the content of a file, is held from `hold` until `go`; others overtake it.
        self.hold, self.go = threading.Event(), threading.Event()
        self.held, self.acked = threading.Event(), threading.Event()  # one is; the client has sent an ACK
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(at)
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        client, server = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
        server.connect(self.served)
        for pump, pair in (self.to_server, (client, server)), (self.to_client, (server, client)):
            threading.Thread(target=quietly, args=(pump, *pair), daemon=True).start()

    def to_server(self, client, server):
        for frame in frames(client):
            server.sendall(frame)
            if frame[9:12] == ACK:
                self.acked.set()

    def to_client(self, server, client):
        lock = threading.Lock()

        def send(frame):
            with lock:
                client.sendall(frame)

        def send_later(frame):
            self.go.wait()
            try:
                send(frame)
            except OSError:
                pass  # its client has gone

        for frame in frames(server):
            if self.hold.is_set() and len(frame) > self.large:
                threading.Thread(target=send_later, args=(frame,), daemon=True).start()
                self.held.set()
            else:
                send(frame)
