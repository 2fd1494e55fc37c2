"""Runs a program that the kernel denies some system calls: io_uring's, as many containers do, or
those that wait for events, as no kernel should.

A filter of system calls (seccomp) answers EPERM to them. Usage: deny_calls.py uring|waiting PROGRAM
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

# Numbers of system calls. Newer ones have the same on all architectures.
IO_URING_SETUP = 425
EPOLL_PWAIT = 281 if platform.machine() == "x86_64" else 22
EPOLL_PWAIT2 = 441
CALLS = {"uring": [IO_URING_SETUP], "waiting": [EPOLL_PWAIT, EPOLL_PWAIT2]}

# Classic BPF: load a word, jump if equal, return.
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


def statement(code, yes, no, value):
    """One instruction."""
    return struct.pack("HBBI", code, yes, no, value)


def main():
    if platform.system() != "Linux":
        sys.exit("deny_calls.py: only Linux has these")
    program = [statement(LOAD_WORD, 0, 0, 0)]  # The number of the system call.
    for number in CALLS[sys.argv[1]]:
        program.append(statement(JUMP_IF_EQUAL, 0, 1, number))
        program.append(statement(RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM))
    program = b"".join(program + [statement(RETURN, 0, 0, SECCOMP_RET_ALLOW)])
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
            sys.exit(f"deny_calls.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[2], sys.argv[2:])


main()
