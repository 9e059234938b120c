"""`livebuilder` without its imports, which take seconds in a guest: a process that has them forks one per command.

python zygote.py serve SOCKET &        waits, everything imported
python -I -S zygote.py SOCKET usb …    a command: arguments, folder and the three standard files go over the socket
"""

from __future__ import annotations

import os
import socket
import sys


def serve(path: str) -> None:
    """Fork a command for every connection, for ever."""
    from livebuilder import cli
    from livebuilder.cli import consent, stick, usb
    from livebuilder.usb import adopt, backup, check, live, prepare

    assert all((cli, consent, stick, usb, adopt, backup, check, live, prepare))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            _wait_for_command(connection)
        connection.close()
        while True:  # those that ended
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


def _wait_for_command(connection: socket.socket) -> None:
    data, files, _flags, _address = socket.recv_fds(connection, 65536, 3)
    folder, *words = data.decode().split("\0")
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.send(str(status % 256).encode())
        os._exit(0)
    connection.close()
    os.chdir(folder)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    sys.argv = ["livebuilder", *words]
    from livebuilder.__main__ import main

    main()


def ask(path: str, words: list[str]) -> int:
    """Have a command run with our standard files; its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, ["\0".join([os.getcwd(), *words]).encode()], [0, 1, 2])  # noqa: PTH109
        return int(connection.recv(16))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(ask(sys.argv[1], sys.argv[2:]))
