#!/usr/bin/python3
"""A proxy between Unix sockets that is a bad line, when and how it is told to.

    fault_proxy.py --listen PATH --connect PATH [--control PATH] [--seed N]
    fault_proxy.py --tell PATH COMMAND [ARGUMENT...]

It passes bytes on and knows nothing of frames, so it cuts inside of them. It prints `ready` when it listens.
Each datagram to --control is one command; it is carried out when the answer comes, which are the counts in JSON
or `error: ...`. --tell sends one and prints the answer. WAY is to-server or to-client.

    cut                   every connection is closed now, both ways
    cut-after WAY N       N bytes more pass, of whichever connection, and then that one is closed; once. What has come
                          with more bytes passes as far as that: a reply cut at 0 is one that the server has sent
    cut-step WAY N        the next connection that is made is closed instead of its piece N (from 0) in this way, a piece
                          being what is sent in one go: those of the greeting, which both sides take turns in
    random LOW HIGH       each connection, those of now too, is closed after that many bytes in one of its ways
    steady                no more of the three above
    hold WAY              bytes are kept, and nothing is closed, until `go`
    swallow WAY           bytes are lost, and nothing is closed: half-open. A connection that lost some is never more
                          than that; `go` does not mend it, `cut` ends it
    go                    what was held passes on, and nothing is held or lost any more
    delay MS              each piece is held so long, in both directions
    refuse                whoever connects is closed at once
    allow                 not that any more
    twice                 whoever connects next the server sees coming twice: what is sent first, until the server has
                          answered, is sent on a second connection before, which then stays open and says no more
    counts                nothing

SIGUSR1 is `cut`. SIGTERM ends it. The cases use FaultProxy, whose methods are the commands.
"""
import argparse
import json
import os
import random
import select
import signal
import socket
import sys
import tempfile
import threading

WAYS = ("to-server", "to-client")
READ_SIZE = 64 << 10
GREETING_SIZE = 4 << 10


def connected(path):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path)
    except OSError:
        s.close()
        raise
    return s


class Connection:
    """One of a client; what each way may still pass is in `left`, None being no limit."""

    def __init__(self, client, server):
        self.sockets = client, server
        self.left, self.steps = {}, {}
        self.greeting = b""  # what the server has said first
        self.pumps = len(WAYS)
        self.over = False

    def cut(self):
        """Whoever has read from either end, or waits to, goes on; the descriptors stay until both pumps have ended."""
        self.over = True
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class FaultProxy:
    """Listens at `at` for clients of the server at `served`."""

    def __init__(self, at, served, seed=1):
        self.at, self.served, self.random_source = at, served, random.Random(seed)
        self.changed = threading.Condition()
        # Under `changed`:
        self.connections, self.ghosts = set(), set()
        self.range = None
        self.once, self.steps = {}, {}
        self.held, self.lossy = set(), set()
        self.pause_s = 0.0
        self.refusing = self.doubling = self.ended = False
        self.accepted = self.refused = self.cuts = self.doubled = 0
        self.bytes = dict.fromkeys(WAYS, 0)

        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(at)
        self.listener.listen(64)
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    # -- the commands

    def counts(self):
        with self.changed:
            return {"accepted": self.accepted, "refused": self.refused, "cuts": self.cuts, "doubled": self.doubled,
                    "open": len(self.connections), "bytes": dict(self.bytes)}

    def greetings(self):
        """What the server has said first on the connections of now; more may follow."""
        with self.changed:
            return [c.greeting for c in self.connections]

    def cut(self):
        with self.changed:
            for c in self.connections:
                self.cut_locked(c)
            for ghost in self.ghosts:
                ghost.close()
            self.ghosts.clear()

    def cut_after(self, way, count):
        with self.changed:
            self.once[way] = int(count)

    def cut_step(self, way, number):
        with self.changed:
            self.steps[way] = int(number)

    def random(self, low, high):
        with self.changed:
            self.range = int(low), int(high)
            for c in self.connections:
                self.limit_locked(c)

    def steady(self):
        with self.changed:
            self.range = None
            self.once.clear()
            self.steps.clear()
            for c in self.connections:
                c.left.clear()
                c.steps.clear()

    def hold(self, way):
        with self.changed:
            self.held.add(way)

    def swallow(self, way):
        with self.changed:
            self.lossy.add(way)

    def go(self):
        with self.changed:
            self.held.clear()
            self.lossy.clear()
            self.changed.notify_all()

    def delay(self, ms):
        with self.changed:
            self.pause_s = float(ms) / 1000
            self.changed.notify_all()

    def refuse(self):
        with self.changed:
            self.refusing = True

    def twice(self):
        with self.changed:
            self.doubling = True

    def allow(self):
        with self.changed:
            self.refusing = False

    def end(self):
        """No command follows."""
        with self.changed:
            self.ended = True
        self.cut()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        os.unlink(self.at)

    # -- connections

    def cut_locked(self, connection):
        if not connection.over:
            self.cuts += 1
        connection.cut()
        self.changed.notify_all()

    def limit_locked(self, connection):
        if self.range:
            connection.left = {self.random_source.choice(WAYS): self.random_source.randint(*self.range)}

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            with self.changed:
                if self.ended:
                    client.close()
                    return
                self.refused += self.refusing
                refusing, doubling = self.refusing, self.doubling and not self.refusing
                self.doubling = self.doubling and self.refusing
            if refusing:
                client.close()
                continue
            threading.Thread(target=self.serve, args=(client, doubling), daemon=True).start()

    def double(self, client):
        """The ghost says what the client says, until the server has answered it: what the client sent is returned."""
        first = client.recv(READ_SIZE)
        ghost = connected(self.served)
        ghost.sendall(first)
        ghost.recv(1)
        with self.changed:
            self.ghosts.add(ghost)
            self.doubled += 1
        return first

    def serve(self, client, doubling):
        first = b""
        try:
            if doubling:
                first = self.double(client)
            server = connected(self.served)
            server.sendall(first)
        except OSError:
            client.close()
            return
        c = Connection(client, server)
        with self.changed:
            self.accepted += 1
            self.connections.add(c)
            self.limit_locked(c)
            c.steps, self.steps = self.steps, {}
            if self.ended:
                self.cut_locked(c)
        for way, pair in zip(WAYS, ((client, server), (server, client))):
            threading.Thread(target=self.pump, args=(c, way, *pair), daemon=True).start()

    def let_pass(self, c, way, data):
        """What of it passes now, and whether the connection is cut behind it. None: the rest is lost."""
        with self.changed:
            if self.pause_s:
                self.changed.wait_for(lambda: c.over, self.pause_s)
            self.changed.wait_for(lambda: way not in self.held or c.over)
            if c.over or way in self.lossy:
                return None, False
            if way in c.steps:
                c.steps[way] -= 1
                if c.steps[way] < 0:
                    return b"", True
            limits = [limits for limits in (self.once, c.left) if way in limits]
            if way == "to-client" and len(c.greeting) < GREETING_SIZE:
                c.greeting += data
            passed = min([len(data)] + [limit[way] for limit in limits])
            self.bytes[way] += passed
            for limit in limits:
                limit[way] -= passed
            if passed == len(data):
                return data, False
            self.once = {k: v for k, v in self.once.items() if k != way or v > 0}
            return data[:passed], True

    def pump(self, c, way, source, target):
        deaf, cut = False, False
        try:
            while not cut and (data := source.recv(READ_SIZE)):
                if deaf:
                    continue
                passed, cut = self.let_pass(c, way, data)
                if passed is None:
                    deaf = True
                else:
                    target.sendall(passed)
        except OSError:
            pass
        with self.changed:
            if cut:
                self.cut_locked(c)
            elif not deaf:
                c.cut()  # one end has closed it
                self.changed.notify_all()
            c.pumps -= 1
            if c.pumps == 0:
                self.connections.discard(c)
                for s in c.sockets:
                    s.close()


# -- the program

COMMANDS = ("cut", "cut-after", "cut-step", "random", "steady", "hold", "swallow", "go", "delay", "refuse", "allow", "twice",
            "counts")


def carry_out(proxy, text):
    command, *arguments = text.split()
    if command not in COMMANDS or any(a.startswith("to-") and a not in WAYS for a in arguments):
        raise ValueError(f"no such command: {text}")
    getattr(proxy, command.replace("-", "_"))(*arguments)
    return json.dumps(proxy.counts())


def answer(proxy, control):
    text, sender = control.recvfrom(READ_SIZE)
    try:
        said = carry_out(proxy, text.decode())
    except (ValueError, TypeError) as error:
        said = f"error: {error}"
    if sender:
        try:
            control.sendto(said.encode(), sender)
        except OSError:
            pass  # it has not waited


def tell(path, text):
    """One command to the proxy that is controlled at `path`; its counts."""
    with tempfile.TemporaryDirectory() as own, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(own + "/s")
        s.connect(path)
        s.send(text.encode())
        said = s.recv(READ_SIZE).decode()
    if said.startswith("error: "):
        raise ValueError(said[7:])
    return json.loads(said)


def run(options):
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGUSR1:
        signal.signal(number, lambda *_: None)
    proxy = FaultProxy(options.listen, options.connect, options.seed)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if options.control:
        control.bind(options.control)
    try:
        print("ready", flush=True)
        while True:
            ready = select.select([wake] + [control] * bool(options.control), [], [])[0]
            if control in ready:
                answer(proxy, control)
            if wake in ready:
                for number in os.read(wake, 64):
                    if number != signal.SIGUSR1:
                        return
                    proxy.cut()
    finally:
        proxy.end()
        if options.control:
            os.unlink(options.control)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--listen", metavar="PATH")
    parser.add_argument("--connect", metavar="PATH")
    parser.add_argument("--control", metavar="PATH")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--tell", nargs="+", metavar=("PATH", "COMMAND"))
    options = parser.parse_args()
    if options.tell:
        print(json.dumps(tell(options.tell[0], " ".join(options.tell[1:]))))
    elif options.listen and options.connect:
        run(options)
    else:
        parser.error("--listen and --connect, or --tell")
    return 0


if __name__ == "__main__":
    sys.exit(main())
