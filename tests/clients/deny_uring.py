"""Runs a program that the kernel lets have no io_uring, as many containers do.

A filter of system calls (seccomp) answers EPERM to io_uring_setup. Usage: deny_uring.py PROGRAM
ARGUMENTS...; the program takes the place of this one.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000

# The same number on all architectures that have it.
IO_URING_SETUP = 425

# Classic BPF: load a word, jump if equal, return.
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


def statement(code, yes, no, value):
    """One instruction."""
    return struct.pack("HBBI", code, yes, no, value)


def main():
    if platform.system() != "Linux":
        sys.exit("deny_uring.py: only Linux has io_uring")
    program = b"".join([
        statement(LOAD_WORD, 0, 0, 0),  # The number of the system call.
        statement(JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
        statement(RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM),
        statement(RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ])
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count and a pointer, aligned.
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    ulong = ctypes.c_ulong
    for call in [
        (PR_SET_NO_NEW_PRIVS, ulong(1), ulong(0), ulong(0), ulong(0)),
        (PR_SET_SECCOMP, ulong(SECCOMP_MODE_FILTER), filter_, ulong(0), ulong(0)),
    ]:
        if libc.prctl(*call) != 0:
            sys.exit(f"deny_uring.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[1], sys.argv[1:])


main()
