"""Which failures are right for a proxy before several servers, and which are not.

A file of `expected/` names them. Each line has a reason, two spaces or more, and a pattern of the
names of tests, or `says: ` and a pattern of what failed tests say (`*` and `?`; nothing else is
special). Under a line `[several]` stand those that hold only before more than one server. A line
may begin with `#`. Invariant: what no line names is not excused.
"""

import os
import re
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass
class Expectation:
    """A line of a file."""

    reason: str
    pattern: re.Pattern
    of_what_it_says: bool

    def holds(self, name, said):
        return self.pattern.fullmatch(said if self.of_what_it_says else name) is not None


@dataclass
class Judgement:
    """The failed tests of one suite."""

    excused: list = field(default_factory=list)
    not_excused: list = field(default_factory=list)


def parse(text, shards):
    """The expectations that hold before so many servers."""
    expectations = []
    holds = True
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line == "[several]":
            holds = shards > 1
            continue
        parts = re.split(r"\s{2,}", line, maxsplit=1)
        if len(parts) != 2:
            raise ValueError(f"line {number} is not a reason, two spaces and a pattern: {line}")
        reason, pattern = parts
        says = pattern.startswith("says: ")
        if says:
            pattern = f"*{pattern.removeprefix('says: ')}*"
        regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        if holds:
            expectations.append(Expectation(reason, re.compile(regex, re.S), says))
    return expectations


def load(suite, shards):
    path = os.path.join(HERE, "expected", suite + ".txt")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return parse(file.read(), shards)


def judge(failed, expectations):
    """Sorts failed tests, {name: what it said}, by whether a line names them."""
    judgement = Judgement()
    for name, said in failed.items():
        reason = next((line.reason for line in expectations if line.holds(name, said)), None)
        if reason is None:
            judgement.not_excused.append((name, said))
        else:
            judgement.excused.append((name, reason))
    return judgement
