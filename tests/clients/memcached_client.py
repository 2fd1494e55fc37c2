"""Drives a memcached pool with pymemcache and compares every reply with a model of its own.

Not a test of pymemcache. Usage: memcached_client.py PORT. Exits with 0 and prints how many replies
were compared, or raises at the first wrong one.
"""

import random
import sys

from pymemcache.client.base import Client

compared = 0


def same(got, wanted, what):
    """One comparison."""
    global compared
    compared += 1
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def key(number):
    """Names that differ in their first bytes are spread over the servers."""
    return f"{number * 7919 % 1000:03}:pymemcache"


def random_values(client, rng):
    """Commands of one and of many keys in random order, against a dict."""
    model = {}
    for step in range(800):
        name = key(rng.randrange(40))
        many = [key(n) for n in rng.sample(range(40), rng.randrange(1, 12))]
        value = bytes(rng.randrange(256) for _ in range(rng.randrange(0, 300)))
        noreply = rng.randrange(3) == 0
        # pymemcache reports success for whatever it asks no reply for.
        said = lambda success: True if noreply else success
        what = rng.randrange(9)
        if what == 0:
            same(client.set(name, value, noreply=noreply), True, f"set {step}")
            model[name] = value
        elif what == 1:
            same(client.get(name), model.get(name), f"get {step}")
        elif what == 2:
            found = {one: model[one] for one in many if one in model}
            same(client.get_many(many), found, f"get_many {step}")
        elif what == 3:
            got = client.delete(name, noreply=noreply)
            same(got, said(name in model), f"delete {step}")
            model.pop(name, None)
        elif what == 4:
            same(client.set_many({one: value for one in many}, noreply=noreply), [], "set_many")
            model.update({one: value for one in many})
        elif what == 5:
            got = client.append(name, value, noreply=noreply)
            same(got, said(name in model), f"append {step}")
            if name in model:
                model[name] += value
        elif what == 6:
            got = client.prepend(name, value, noreply=noreply)
            same(got, said(name in model), f"prepend {step}")
            if name in model:
                model[name] = value + model[name]
        elif what == 7:
            got = client.add(name, value, noreply=noreply)
            same(got, said(name not in model), f"add {step}")
            model.setdefault(name, value)
        else:
            got = client.touch(name, 1000, noreply=noreply)
            same(got, said(name in model), f"touch {step}")
    client.delete_many([key(n) for n in range(40)], noreply=False)


def swaps(client):
    """gets and cas: the token of the server that has the value, and no other."""
    for n in range(30):
        same(client.gets(key(n)), (None, None), "gets of nothing")
        same(client.cas(key(n), "x", "1", noreply=False), None, "cas of nothing")
        same(client.set(key(n), "first", noreply=False), True, "set")
        value, token = client.gets(key(n))
        same(value, b"first", "gets")
        same(client.cas(key(n), "second", token, noreply=False), True, "cas")
        same(client.cas(key(n), "third", token, noreply=False), False, "cas with an old token")
        same(client.get(key(n)), b"second", "get")
    names = [key(n) for n in range(30)]
    tokens = client.gets_many(names)
    same({name: value for name, (value, _) in tokens.items()}, dict.fromkeys(names, b"second"),
         "gets_many")
    for name, (_, token) in tokens.items():
        same(client.cas(name, "last", token, noreply=False), True, "cas of gets_many")
    client.delete_many(names, noreply=False)


def counters(client):
    """Numbers."""
    for n in range(30):
        same(client.incr(key(n), 1, noreply=False), None, "incr of nothing")
        same(client.set(key(n), "9", noreply=False), True, "set")
        same(client.incr(key(n), 33, noreply=False), 42, "incr")
        same(client.decr(key(n), 50, noreply=False), 0, "decr")
        same(client.incr(key(n), 7, noreply=True), None, "incr in silence")
        # memcached keeps the length that a number had.
        same(client.get(key(n)), b"7 ", "get")
    client.delete_many([key(n) for n in range(30)], noreply=False)


def times(client):
    """Reading and touching at once, for which pymemcache has no method."""
    def gat(exptime, *names):
        return client.raw_command(f"gat {exptime} {' '.join(names)}", end_tokens="END\r\n")

    names = [key(n) for n in range(20)]
    for name in names:
        same(gat(100, name), b"", "gat of nothing")
        same(client.touch(name, 100, noreply=False), False, "touch of nothing")
        same(client.set(name, name, noreply=False), True, "set")
        same(gat(100, name), f"VALUE {name} 0 14\r\n{name}\r\n".encode(), "gat")
    values = "".join(f"VALUE {name} 0 14\r\n{name}\r\n" for name in names)
    same(gat(100, *names), values.encode(), "gat of many")
    for name in names:
        same(gat(-1, name), f"VALUE {name} 0 14\r\n{name}\r\n".encode(), "gat, the last time")
        same(client.get(name), None, "get")


def main():
    rng = random.Random(20)
    # Requests without a reply would otherwise wait for the kernel to acknowledge them.
    client = Client(("127.0.0.1", int(sys.argv[1])), timeout=10, connect_timeout=10, no_delay=True)
    random_values(client, rng)
    swaps(client)
    counters(client)
    times(client)
    print(f"pymemcache: {compared} replies are right")


main()
