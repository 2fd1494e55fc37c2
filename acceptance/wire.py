"""Framing of the two protocols: where a request and a reply end. What they mean is not known here.

Invariant: a function returns None for bytes that are not whole yet, and raises NotFramed for what
is none of the protocol's; it never guesses.
"""

# Commands of memcached that are followed by a data block, and the index of the field with its size.
STORES = {b"set", b"add", b"replace", b"append", b"prepend", b"cas"}


class NotFramed(Exception):
    """These bytes have no end that could be found."""


def line(data, start):
    """The line at `start` without its end, and where the next one begins."""
    end = data.find(b"\n", start)
    if end < 0:
        return None
    return bytes(data[start:end]).removesuffix(b"\r"), end + 1


def integer(text):
    try:
        return int(text)
    except ValueError:
        raise NotFramed(text) from None


def redis_request(data):
    """The arguments at the beginning of `data`, and their size in bytes."""
    header = line(data, 0)
    if header is None:
        return None
    text, place = header
    if not text.startswith(b"*"):
        return text.split(), place
    arguments = []
    for _ in range(integer(text[1:])):
        header = line(data, place)
        if header is None:
            return None
        text, place = header
        if not text.startswith(b"$"):
            raise NotFramed(text)
        end = place + integer(text[1:])
        if end < place:
            raise NotFramed(text)
        if len(data) < end + 2:
            return None
        arguments.append(bytes(data[place:end]))
        place = end + 2
    return arguments, place


def redis_reply(data, start=0):
    """Where the reply at `start` ends."""
    left, place = 1, start
    while left:
        header = line(data, place)
        if header is None:
            return None
        text, place = header
        left -= 1
        kind = text[:1]
        if kind == b"$" and integer(text[1:]) >= 0:
            place += integer(text[1:]) + 2
            if len(data) < place:
                return None
        elif kind == b"*":
            left += max(integer(text[1:]), 0)
        elif kind not in (b"+", b"-", b":", b"$"):
            raise NotFramed(text)
    return place


def memcache_request(data):
    """The words of the line at the beginning of `data`, and the size with the data block."""
    header = line(data, 0)
    if header is None:
        return None
    text, place = header
    words = text.split()
    if words and words[0] in STORES and len(words) > 4 and words[4].isdigit():
        place += int(words[4]) + 2
        if len(data) < place:
            return None
    return words, place


def memcache_reply(data):
    """Where the reply at the beginning of `data` ends."""
    place = 0
    while True:
        header = line(data, place)
        if header is None:
            return None
        text, place = header
        words = text.split()
        if not words or words[0] not in (b"VALUE", b"STAT"):
            return place
        if words[0] == b"VALUE":
            place += integer(words[3]) + 2
            if len(data) < place:
                return None
