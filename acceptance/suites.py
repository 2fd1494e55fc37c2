"""How each suite is fetched, run, and read. Not what its failures mean.

A suite is fetched by its name and version from where it is published, into a folder below
`target/`; nothing of it is kept in the repository. Invariant: a suite that did not run to its end
has a failed test that says so.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from typing import Callable

from programs import HERE, PATH, program

PYTEST = ("pytest==8.4.2", "pytest-timeout==2.4.0", "pytest-asyncio==0.23.8", "mock==5.2.0",
          "numpy", "packaging", "async-timeout", "zstd", "Faker")
# Of one test; most take some milliseconds.
TEST_MAX_S = 20


@dataclass
class Outcome:
    """What became of a test: `passed`, `failed` or `skipped`, and what a failed one said."""

    word: str
    said: str = ""


NOT_ENDED = {"(the suite did not end)": Outcome("failed")}


@dataclass
class Suite:
    """One suite. `run(fetched, site, folder)` gives an outcome by name of a test."""

    name: str
    # What is aimed at, and how many tests must pass for it.
    target: str
    target_count: int
    # How many have passed, where that is less: the run fails below it.
    recorded_count: int
    run: Callable
    # `again(names, fetched, site, folder)` runs tests again that are not excused.
    again: Callable = None


def execute(command, time_max_s, log, **options):
    """Runs a program; its output goes to a file. Returns its code, or None if it took too long."""
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True, **options)
        try:
            return process.wait(time_max_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # The whole group: test programs start others. It is ours, as its leader is.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Fetched:
    """The folder of what was fetched, and how something gets there."""

    def __init__(self, folder):
        self.folder = folder
        self.log = os.path.join(folder, "fetch.log")
        os.makedirs(folder, exist_ok=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def must(self, *command, **options):
        if execute(command, 600, self.log, **options) != 0:
            raise RuntimeError(f"{' '.join(command)} failed, see {self.log}")

    def python(self):
        """An interpreter with what the Python suites need."""
        python = self.path("venv", "bin", "python")
        wanted = "\n".join(PYTEST)
        stamp = self.path("venv", "wanted")
        if not os.path.exists(stamp) or open(stamp, encoding="ascii").read() != wanted:
            shutil.rmtree(self.path("venv"), ignore_errors=True)
            self.must(sys.executable, "-m", "venv", self.path("venv"))
            self.must(python, "-m", "pip", "install", "--quiet", *PYTEST)
            with open(stamp, "w", encoding="ascii") as file:
                file.write(wanted)
        return python

    def source_of(self, name, version):
        """The unpacked source distribution of a Python package."""
        folder = self.path(f"{name}-{version}")
        if not os.path.exists(folder):
            self.must(self.python(), "-m", "pip", "download", "--quiet", "--no-deps",
                      "--no-binary", ":all:", "--dest", self.folder, f"{name}=={version}")
            with tarfile.open(folder + ".tar.gz") as archive:
                # Older interpreters, which know no filter, trust the archive.
                safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                archive.extractall(self.folder, **safe)
        return folder

    def crate(self, name, version):
        """A copy of the source of a crate that its own tests can be built in."""
        folder = self.path(f"{name}-rs-{version}")
        if os.path.exists(folder):
            return folder
        scratch = self.path("scratch")
        os.makedirs(os.path.join(scratch, "src"), exist_ok=True)
        with open(os.path.join(scratch, "src", "lib.rs"), "w", encoding="ascii"):
            pass
        with open(os.path.join(scratch, "Cargo.toml"), "w", encoding="ascii") as file:
            file.write("[package]\nname = \"scratch\"\nversion = \"0.0.0\"\n[dependencies]\n"
                       f"{name} = \"={version}\"\n[workspace]\n")
        self.must("cargo", "vendor", "--quiet", "--versioned-dirs", self.path("vendor"),
                  cwd=scratch)
        shutil.copytree(self.path("vendor", f"{name}-{version}"), folder + ".new")
        with open(os.path.join(folder + ".new", "Cargo.toml"), "a", encoding="ascii") as file:
            file.write("\n[workspace]\n")
        os.rename(folder + ".new", folder)
        return folder


def pytest(python, source, arguments, suite_max_s, folder, name):
    """Runs tests of a source tree."""
    outcomes_file = os.path.join(folder, name + ".outcomes")
    # The project's own options want plug-ins that measure coverage.
    empty = os.path.join(folder, "pytest.ini")
    with open(empty, "w", encoding="ascii") as file:
        file.write("[pytest]\nasyncio_mode = auto\n")
    command = [python, "-m", "pytest", "-q", "-c", empty, "--rootdir", source, "-p",
               "no:cacheprovider", "-p", "outcomes", "--disable-warnings", "--tb=line",
               f"--timeout={TEST_MAX_S}", *arguments]
    environment = {**os.environ, "PYTHONPATH": source + ":" + os.path.join(HERE, "plugin"),
                   "OUTCOMES": outcomes_file}
    code = execute(command, suite_max_s, os.path.join(folder, name + ".log"), cwd=source,
                   env=environment)
    outcomes = {}
    if os.path.exists(outcomes_file):
        with open(outcomes_file, encoding="utf-8") as file:
            outcomes = outcomes_of(file)
    # 0 and 1: all passed, and some failed.
    if code not in (0, 1):
        outcomes |= NOT_ENDED
    return outcomes


def outcomes_of(lines):
    """The worst outcome of each test: its set-up, itself and its clean-up may report one each."""
    outcomes = {}
    for line in lines:
        word, rest = line.rstrip("\n").split(" ", 1)
        name, said = rest.split("\t", 1)
        if (before := outcomes.get(name)) and before.word == "failed":
            said = f"{before.said} {said}".strip()
            word = "failed"
        outcomes[name] = Outcome(word, said)
    return outcomes


def pymemcache(fetched, site, folder):
    source = fetched.source_of("pymemcache", "4.0.0")
    return pytest(fetched.python(), source,
                  ["pymemcache/test/test_integration.py", "-m", "integration",
                   "--server", "127.0.0.1", "--port", str(site.relays["memcached"])],
                  180, folder, "pymemcache")


def python_memcached(fetched, site, folder):
    source = os.path.join(folder, "python-memcached")
    shutil.copytree(fetched.source_of("python-memcached", "1.62"), source)
    tests = os.path.join(source, "tests")
    # The source distribution leaves out the file with the one helper that the tests use.
    with open(os.path.join(tests, "__init__.py"), "w", encoding="ascii"):
        pass
    with open(os.path.join(tests, "utils.py"), "w", encoding="ascii") as file:
        file.write("import contextlib\nimport io\n\n\n"
                   "def captured_stderr():\n"
                   "    return contextlib.redirect_stderr(io.StringIO())\n")
    for name in os.listdir(tests):
        path = os.path.join(tests, name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("127.0.0.1:11211",
                                    f"127.0.0.1:{site.relays['memcached']}"))
    return pytest(fetched.python(), source, ["tests"], 120, folder, "python-memcached")


# What needs a cluster, TLS, a Sentinel or modules, which the servers here do not have.
REDIS_PY_WITHOUT = ("cluster", "ssl", "connect", "sentinel", "sentinel_managed_connection", "bloom",
                    "graph", "json", "search", "timeseries")


def redis_py(fetched, site, folder):
    without = [f"--ignore={place}/test_{name}.py" for name in REDIS_PY_WITHOUT
               for place in ("tests", "tests/test_asyncio")]
    return redis_py_tests(["tests", *without, "--ignore=tests/test_graph_utils",
                           "-m", "not onlycluster and not redismod and not ssl and not graph"],
                          480, fetched, site, folder, "redis-py")


def redis_py_again(names, fetched, site, folder):
    """Some of its tests measure time, and fail on a machine that has much to do."""
    return redis_py_tests(names, 120, fetched, site, folder, "redis-py-again")


def redis_py_tests(arguments, time_max_s, fetched, site, folder, name):
    source = fetched.source_of("redis", "5.2.1")
    url = f"--redis-url=redis://127.0.0.1:{site.relays['redis']}/0"
    return pytest(fetched.python(), source, [*arguments, url], time_max_s, folder, name)


def memccapable(_fetched, site, folder):
    log = os.path.join(folder, "memccapable.log")
    code = execute([program("memccapable"), "-h", "127.0.0.1", "-p",
                    str(site.relays["memcached"]), "-a", "-v", "-t", "5"], 120, log)
    with open(log, encoding="utf-8", errors="replace") as file:
        found = re.findall(r"^(ascii [a-z ]+?) {2,}.*?\[(pass|FAIL)\]", file.read(),
                           re.M | re.S)
    words = {"pass": "passed", "FAIL": "failed"}
    outcomes = {name: Outcome(words[word]) for name, word in found}
    if code is None or not outcomes:
        outcomes |= NOT_ENDED
    return outcomes


def completes(commands, time_max_s, folder, name, bad):
    """Programs that measure: each passes if it ends with 0 and says nothing of an error."""
    outcomes = {}
    for title, command in commands.items():
        log = os.path.join(folder, f"{name}-{title.replace(' ', '-')}.log")
        code = execute(command, time_max_s, log)
        with open(log, encoding="utf-8", errors="replace") as file:
            fault = re.search(bad, file.read())
        failed = code != 0 or fault
        outcomes[title] = Outcome("failed", f"code {code}") if failed else Outcome("passed")
    return outcomes


def redis_benchmark(_fetched, site, folder):
    base = [program("redis-benchmark"), "-p", str(site.relays["redis"]), "-q", "-n", "2000",
            "-c", "20"]
    commands = {"all tests": [*base], "pipelined": [*base, "-P", "16", "-t", "set,get,incr"],
                "random keys": [*base, "-r", "1000", "-t", "set,get,mset,lpush,zadd"]}
    return completes(commands, 90, folder, "redis-benchmark", r"(?i)\berror")


def memslap(_fetched, site, folder):
    server = f"127.0.0.1:{site.relays['memcached']}"
    slap = [program("memcslap"), f"--servers={server}", "--execute-number=500", "--concurrency=4"]
    commands = {f"memcslap {test}": [*slap, f"--test={test}"] for test in ("get", "mget", "set")}
    commands["memcaslap"] = [program("memcaslap"), "-s", server, "-x", "20000", "-T", "2", "-c",
                             "16", "-v", "1.0"]
    bad = r"(?i)\berror|verify_(?:misses|failed): [1-9]|get_misses: [1-9]"
    return completes(commands, 60, folder, "memslap", bad)


REDIS_RS = ("basic", "types", "geospatial", "streams", "script", "async")


def redis_rs(fetched, site, folder):
    """Its tests start a server each, by the name of the program: they are given a program of that
    name that listens where it is told and leads to the relay."""
    # Without Weir they start servers, as some make a replica of what would be everybody's server.
    if not site.without_weir:
        stand_in("redis", "redis-server", site, folder)
    built = built_tests("redis", "0.27.6", [f"test_{name}" for name in REDIS_RS], fetched,
                        "--features=tokio-comp,connection-manager")
    outcomes = {}
    for name, test_program in test_programs(built):
        outcomes |= one_by_one(name, test_program, lambda _test: True, folder)
    return outcomes


def stand_in(kind, name, site, folder):
    """A program of this name that leads to the relay."""
    path = os.path.join(folder, "bin", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nexec {sys.executable} {os.path.join(HERE, 'stand_in.py')} "
                   f"{kind} {site.relays[kind]} \"$@\"\n")
    os.chmod(path, 0o755)


def built_tests(crate, version, names, fetched, *options):
    """Builds tests of a crate; gives what cargo says of them."""
    source = fetched.crate(crate, version)
    environment = {**os.environ, "CARGO_TARGET_DIR": fetched.path("rust")}
    built = fetched.path(f"{crate}-rs.built")
    command = ["cargo", "test", "--no-run", "--message-format=json", *options]
    with open(built, "wb") as file:
        code = subprocess.run(
            command + [word for name in names for word in ("--test", name)],
            cwd=source, env=environment, stdout=file, stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False, timeout=900).returncode
    if code != 0:
        raise RuntimeError(f"the tests do not compile: cargo test in {source}")
    return built


ASYNC_MEMCACHED = ("ascii_proto", "client", "meta_proto", "pipeline")


def async_memcached(fetched, site, folder):
    """Its tests start a server each, of a version that Debian does not have: the stand-in says that
    it is one. Without Weir it leads to one server."""
    stand_in("memcached", "memcached", site, folder)
    names = [f"{name}_integration_tests" for name in ASYNC_MEMCACHED]
    outcomes = {}
    for name, test_program in test_programs(
            built_tests("async-memcached", "0.9.0", names, fetched)):
        # Each program has a copy of the tests of what they share.
        wanted = ignored_tests(test_program)
        outcomes |= one_by_one(name, test_program, wanted.__contains__, folder, "--ignored")
    return outcomes


def async_memcached_again(names, fetched, _site, folder):
    outcomes = {}
    for name, test_program in test_programs(fetched.path("async-memcached-rs.built")):
        outcomes |= one_by_one(name, test_program, lambda test, of=name: f"{of}::{test}" in names,
                               folder, "--ignored")
    return outcomes


def ignored_tests(test_program):
    """Those that need a server."""
    listed = subprocess.run([test_program, "--list", "--ignored", "--format=terse"], check=True,
                            capture_output=True, text=True, timeout=60).stdout
    return set(re.findall(r"^(\S+): test$", listed, re.M))


def redis_rs_again(names, fetched, _site, folder):
    outcomes = {}
    for name, test_program in test_programs(fetched.path("redis-rs.built")):
        outcomes |= one_by_one(name, test_program, lambda test, of=name: f"{of}::{test}" in names,
                               folder)
    return outcomes


def test_programs(messages):
    """Names and paths of the test programs that cargo says it has built."""
    with open(messages, encoding="utf-8") as file:
        for line in file:
            message = json.loads(line)
            if message.get("executable") and message["profile"]["test"]:
                yield message["target"]["name"], message["executable"]


def one_by_one(name, test_program, wanted, folder, *options):
    """Runs each test of a program on its own: some wait for ever where a thread has failed."""
    path = os.path.join(folder, "bin") + ":" + PATH
    environment = {**os.environ, "PATH": path, "RUST_BACKTRACE": "0"}
    listed = subprocess.run([test_program, "--list", "--format=terse"], capture_output=True,
                            text=True, check=True, timeout=60).stdout
    log = os.path.join(folder, f"{name}.log")
    outcomes = {}
    for test in filter(wanted, re.findall(r"^(\S+): test$", listed, re.M)):
        start = os.path.getsize(log) if os.path.exists(log) else 0
        code = execute([test_program, "--exact", test, "--test-threads=1", *options], TEST_MAX_S, log,
                       env=environment)
        said = ""
        if code != 0:
            with open(log, "rb") as file:
                file.seek(start)
                said = " ".join(file.read().decode(errors="replace").split())
            said = said.partition(" panicked at ")[2].partition(" note: ")[0]
        outcomes[f"{name}::{test}"] = Outcome("failed" if code != 0 else "passed", said)
    return outcomes


SUITES = (
    Suite("pymemcache", "100 of 100", 100, 100, pymemcache),
    Suite("memccapable", "25 of 27", 25, 27, memccapable),
    Suite("redis-py", "1080", 1080, 1380, redis_py, redis_py_again),
    Suite("redis-benchmark", "complete", 3, 3, redis_benchmark),
    Suite("memslap", "complete", 4, 4, memslap),
    Suite("python-memcached", "26 of 26", 26, 26, python_memcached),
    Suite("async-memcached", "130 of 144", 130, 127, async_memcached, async_memcached_again),
    Suite("redis-rs", "165 of 183", 165, 166, redis_rs, redis_rs_again),
)
