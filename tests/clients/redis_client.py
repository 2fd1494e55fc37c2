"""Drives a Redis pool with redis-py and compares every reply with a model of its own.

Not a test of redis-py. Usage: redis_client.py PORT VERSION, the version of the protocol being 2 or
3. Exits with 0 and prints how many replies were compared, or raises at the first wrong one.
"""

import random
import sys

import redis

compared = 0


def same(got, wanted, what):
    """One comparison."""
    global compared
    compared += 1
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def key(number):
    """Names that differ in their first bytes are spread over the servers."""
    return f"{number * 7919 % 1000:03}:redis-py".encode()


def random_values(client, rng):
    """Commands of one and of many keys in random order, against a dict."""
    model = {}
    for step in range(600):
        name = key(rng.randrange(40))
        many = [key(n) for n in rng.sample(range(40), rng.randrange(1, 12))]
        value = bytes(rng.randrange(256) for _ in range(rng.randrange(0, 300)))
        what = rng.randrange(9)
        if what == 0:
            same(client.set(name, value), True, f"set {step}")
            model[name] = value
        elif what == 1:
            same(client.get(name), model.get(name), f"get {step}")
        elif what == 2:
            values = {one: value + one for one in many}
            same(client.mset(values), True, f"mset {step}")
            model.update(values)
        elif what == 3:
            same(client.mget(many), [model.get(one) for one in many], f"mget {step}")
        elif what == 4:
            same(client.delete(*many), sum(one in model for one in many), f"del {step}")
            for one in many:
                model.pop(one, None)
        elif what == 5:
            twice = many + many[:1]
            same(client.exists(*twice), sum(one in model for one in twice), f"exists {step}")
        elif what == 6:
            same(client.touch(*many), sum(one in model for one in many), f"touch {step}")
        elif what == 7:
            same(client.unlink(name), int(name in model), f"unlink {step}")
            model.pop(name, None)
        else:
            model[name] = model.get(name, b"") + value
            same(client.append(name, value), len(model[name]), f"append {step}")
    client.delete(*[key(n) for n in range(40)])


def counters(client):
    """Numbers, and the error for what is none."""
    for n in range(20):
        same(client.incr(key(n)), 1, "incr")
        same(client.incrby(key(n), 41), 42, "incrby")
        same(client.decrby(key(n), 50), -8, "decrby")
        same(client.set(key(n), "text"), True, "set")
        try:
            client.incr(key(n))
        except redis.ResponseError as error:
            same(str(error), "value is not an integer or out of range", "incr of a text")
        else:
            raise AssertionError("a text was incremented")
    client.delete(*[key(n) for n in range(20)])


def collections(client, rng):
    """Lists and hashes against lists and dicts."""
    lists, hashes = {}, {}
    for step in range(300):
        n = rng.randrange(10)
        at_list, at_hash = key(n), key(n + 500)
        items, fields = lists.setdefault(n, []), hashes.setdefault(n, {})
        value, field = b"value %d" % step, b"field %d" % rng.randrange(8)
        what = rng.randrange(7)
        if what == 0:
            items.append(value)
            same(client.rpush(at_list, value), len(items), "rpush")
        elif what == 1:
            items.insert(0, value)
            same(client.lpush(at_list, value), len(items), "lpush")
        elif what == 2:
            same(client.lpop(at_list), items.pop(0) if items else None, "lpop")
        elif what == 3:
            same(client.lrange(at_list, 1, -1), items[1:], "lrange")
        elif what == 4:
            same(client.hset(at_hash, field, value), int(field not in fields), "hset")
            fields[field] = value
        elif what == 5:
            same(client.hgetall(at_hash), fields, "hgetall")
        else:
            same(client.hmget(at_hash, [field, b"none"]), [fields.get(field), None], "hmget")
    client.delete(*[key(n) for n in (*range(10), *range(500, 510))])


def pipelines(client, rng):
    """5000 requests at once, more than a client may have on their way, and their replies in
    order."""
    model, wanted = {}, []
    pipeline = client.pipeline(transaction=False)
    for step in range(5000):
        name = key(rng.randrange(300))
        if rng.randrange(2):
            value = b"%d" % step * rng.randrange(1, 30)
            pipeline.set(name, value)
            model[name] = value
            wanted.append(True)
        else:
            pipeline.get(name)
            wanted.append(model.get(name))
    for step, (got, want) in enumerate(zip(pipeline.execute(), wanted, strict=True)):
        same(got, want, f"pipeline {step}")
    client.delete(*model)


def forms(client, version):
    """Replies whose form depends on the version: maps, sets (which redis-py lists), numbers with a fraction."""
    raw = client.connection_pool.get_connection()

    def ask(*words):
        raw.send_command(*words)
        return raw.read_response()

    # A server that is asked in one version must never answer in the other.
    for n in range(20):
        ask("DEL", key(n), key(n + 500), key(n + 800))
        ask("HSET", key(n), "f", "1")
        ask("SADD", key(n + 500), "m")
        ask("ZADD", key(n + 800), "1.5", "m")
        three = version == 3
        same(ask("HGETALL", key(n)), {b"f": b"1"} if three else [b"f", b"1"], "hgetall")
        same(ask("SMEMBERS", key(n + 500)), [b"m"], "smembers")
        same(ask("ZSCORE", key(n + 800), "m"), 1.5 if three else b"1.5", "zscore")
        same(ask("MGET", key(n), key(n + 100)), [None, None], "mget")
        scores = [[b"m", 1.5]] if three else [b"m", b"1.5"]
        same(ask("ZRANGE", key(n + 800), 0, -1, "WITHSCORES"), scores, "zrange")
        same(ask("CONFIG", "GET", "save"), {b"save": b""} if three else [b"save", b""], "config")
        same(ask("DEL", key(n), key(n + 500), key(n + 800)), 3, "del")
    client.connection_pool.release(raw)


def key_space(client, version):
    """What is asked of the keys of all servers."""
    names = {f"{n}:scan{version}".encode() for n in range(250)}
    client.mset({name: b"" for name in names})
    client.rpush(f"list:scan{version}", "x")
    pattern = f"*:scan{version}"
    everything = names | {f"list:scan{version}".encode()}
    for count in (1, 10, 1000):
        found = list(client.scan_iter(match=pattern, count=count))
        same(set(found), everything, f"scan by {count}")
        same(len(found), len(everything), f"scan by {count}, each once")
    lists = list(client.scan_iter(match=pattern, _type="list"))
    same(lists, [f"list:scan{version}".encode()], "scan of lists")
    same(sorted(client.keys(pattern)), sorted(everything), "keys")
    same(client.dbsize() >= len(everything), True, "dbsize")
    before = client.dbsize()
    same(client.delete(*names), len(names), "del")
    same(before - client.dbsize(), len(names), "dbsize")
    same(client.exists(client.randomkey()), 1, "randomkey")
    client.delete(f"list:scan{version}")
    cursor, _ = client.scan(0, count=1)
    for bad in ("x", "-1", cursor + (1 << 18)):
        try:
            client.execute_command("SCAN", bad)
        except redis.ResponseError as error:
            same("cursor" in str(error), True, f"scan {bad}")
        else:
            raise AssertionError(f"the cursor {bad} is taken")


def main():
    rng = random.Random(20)
    port, version = int(sys.argv[1]), int(sys.argv[2])
    client = redis.Redis(host="127.0.0.1", port=port, protocol=version, socket_timeout=10)
    same(client.ping(), True, "ping")
    forms(client, version)
    key_space(client, version)
    random_values(client, rng)
    counters(client)
    collections(client, rng)
    pipelines(client, rng)
    print(f"redis-py, RESP{version}: {compared} replies are right")


main()
