"""What needs a connection of one's own, through a proxy before two servers: transactions that
compete, blocking reads that share work, and channels.

Everything is counted: each increment that was acknowledged is there, each element is taken exactly
once, each message comes to each listener in order. The arguments are the port and the version of
the protocol, 2 or 3.
"""

import sys
import threading

import redis

PORT = int(sys.argv[1])
VERSION = int(sys.argv[2])
PATIENCE_S = 60
THREADS = 4
INCREMENTS = 60
ELEMENTS = 300
MESSAGES = 200

compared = 0
failures = []


def client():
    return redis.Redis(port=PORT, protocol=VERSION, socket_timeout=PATIENCE_S)


def equal(found, wanted, what):
    global compared
    compared += 1
    if found != wanted:
        failures.append(f"{what}: {found!r}, not {wanted!r}")


def together(tasks):
    """Runs all at once, and gives what each returned."""
    results = [None] * len(tasks)

    def run(index, task):
        try:
            results[index] = task()
        except Exception as error:  # It must not be lost in its thread.
            failures.append(f"{task}: {error!r}")

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def transactions():
    """Read, add one and write, by several at once: only a transaction that works loses none."""
    keys = [f"counter{number}" for number in range(8)]
    for key in keys:
        client().set(key, 0)

    def increment(pipe, key):
        value = int(pipe.get(key))
        pipe.multi()
        pipe.set(key, value + 1)

    def task():
        mine = client()
        for number in range(INCREMENTS):
            key = keys[number % len(keys)]
            mine.transaction(lambda pipe: increment(pipe, key), key)
        return mine

    together([task] * THREADS)
    total = sum(int(client().get(key)) for key in keys)
    equal(total, THREADS * INCREMENTS, "increments")
    for key in keys:
        pipe = client().pipeline(transaction=True)
        pipe.set(key, 5).incr(key).get(key)
        equal(pipe.execute(), [True, 6, b"6"], "a transaction's replies")


def across():
    """A transaction over two servers is refused whole."""
    mine = client()
    names = [f"{number}:across" for number in range(40)]
    for name in names:
        mine.delete(name)
    pipe = mine.pipeline(transaction=True)
    for name in names:
        pipe.set(name, 1)
    try:
        pipe.execute()
        failures.append("a transaction over two servers went through")
    except redis.ResponseError as error:
        equal("several servers" in str(error), True, str(error))
    equal(mine.exists(*names), 0, "keys of a transaction that was refused")


def work():
    """Elements of several lists are taken by several at once, each exactly once."""
    lists = [f"work{number}" for number in range(4)]

    def consume(name):
        mine, taken = client(), []
        while True:
            _, element = mine.blpop(name, PATIENCE_S)
            if element == b"end":
                return taken
            taken.append(int(element))

    def produce(name):
        mine = client()
        for number in range(ELEMENTS):
            mine.rpush(name, number)
        mine.rpush(name, "end", "end")
        return []

    tasks = [lambda name=name: consume(name) for name in lists * 2]
    tasks += [lambda name=name: produce(name) for name in lists]
    taken = together(tasks)
    for index in range(len(lists)):
        both = sorted((taken[index] or []) + (taken[index + len(lists)] or []))
        equal(both, list(range(ELEMENTS)), f"elements of {lists[index]}")
    equal(client().blpop("nothing", 1), None, "a wait that ends")
    mine = client()
    mine.delete("stream")
    entries = [(mine.xadd("stream", {"a": 1}), {b"a": b"1"})]
    wanted = {b"stream": [entries]} if VERSION == 3 else [[b"stream", entries]]
    equal(mine.xread({"stream": 0}, block=100), wanted, "xread")
    equal(mine.xread({"stream": "$"}, block=50), {} if VERSION == 3 else [], "xread that ends")


def channels():
    """Every listener gets every message, in order."""
    listeners = []
    for number in range(6):
        listener = client().pubsub()
        if number % 2:
            listener.psubscribe("news*")
        else:
            listener.subscribe("other", "news")
        # What is published before a subscription is confirmed may miss it.
        confirmed = listener.get_message(timeout=PATIENCE_S)
        while confirmed["channel"] == b"other":
            confirmed = listener.get_message(timeout=PATIENCE_S)
        listeners.append(listener)
    equal(client().pubsub_numsub("news", "other"), [(b"news", 3), (b"other", 3)], "listeners")

    def listen(listener):
        heard = []
        while len(heard) < MESSAGES:
            message = listener.get_message(timeout=PATIENCE_S)
            if message:
                heard.append(int(message["data"]))
        listener.close()
        return heard

    def publish():
        mine = client()
        return [mine.publish("news", number) for number in range(MESSAGES)]

    tasks = [lambda listener=listener: listen(listener) for listener in listeners] + [publish]
    results = together(tasks)
    for heard in results[:-1]:
        equal(heard, list(range(MESSAGES)), "messages")
    equal(results[-1], [6] * MESSAGES, "listeners that were reached")
    while client().pubsub_numpat():
        pass
    equal(client().pubsub_channels(), [], "channels in the end")


def one_connection():
    """In RESP3 who listens asks for other things on the same connection meanwhile."""
    mine = redis.Connection(port=PORT, protocol=3, socket_timeout=PATIENCE_S)
    mine.connect()
    heard = []
    mine._parser.set_pubsub_push_handler(heard.append)
    mine.send_command("SUBSCRIBE", "single")
    equal(mine.read_response(push_request=True), None, "a subscription's confirmation")
    publisher = client()
    for number in range(MESSAGES):
        equal(publisher.publish("single", number), 1, "the listener that was reached")
        mine.send_command("SET", f"single{number}", number)
        mine.send_command("MGET", f"single{number}", f"single{number - 1}")
        equal(mine.read_response(), b"OK", "a write beside messages")
        before = str(number - 1).encode() if number else None
        equal(mine.read_response(), [str(number).encode(), before], "a read beside messages")
    mine.send_command("UNSUBSCRIBE", "single")
    mine.send_command("ECHO", "end")
    equal(mine.read_response(), b"end", "what comes after the last message")
    equal(heard[0], [b"subscribe", b"single", 1], "the first that is pushed")
    messages = [[b"message", b"single", str(number).encode()] for number in range(MESSAGES)]
    equal(heard[1:-1], messages, "messages beside answers")
    equal(heard[-1], [b"unsubscribe", b"single", 0], "the last that is pushed")
    mine.disconnect()


transactions()
across()
work()
channels()
if VERSION == 3:
    one_connection()
if failures:
    sys.exit("\n".join(failures))
print(f"redis-py, connections of its own: {compared} results compared")
