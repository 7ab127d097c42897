"""Calls of the plain protocol, one after the other, for cases that look at single replies."""
import socket
import struct

import minicbor


def connect(path):
    """call(op, path, **fields): the reply of the server at path, as a dict."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    f = s.makefile("rb")

    def call(op, name, **more):
        request = minicbor.encode({"op": op, "path": "/workspace/" + name, **more})
        s.sendall(struct.pack(">I", len(request)) + request)
        length, = struct.unpack(">I", f.read(4))
        return minicbor.decode(f.read(length))
    return call


def same(what, expected, found):
    assert expected == found, f"{what}: expected {expected}, found {found}"
