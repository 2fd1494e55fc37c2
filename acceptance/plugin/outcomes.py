"""A plug-in of pytest: writes the outcome of each test to a file as soon as it is known, so that a
suite that is stopped in the middle has told what it did. The file is named by OUTCOMES.
"""

import os

FILE = open(os.environ["OUTCOMES"], "w", encoding="utf-8", buffering=1)


def pytest_runtest_logreport(report):
    """Called for the set-up, the test itself and the clean-up. The first and last count only when
    something is wrong with them, or the test is left out."""
    if report.when == "call" or report.outcome != "passed":
        FILE.write(f"{report.outcome} {report.nodeid}\t{said(report)}\n")


def said(report):
    """The text of the exception that a test failed with, on one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(crash.message.split()) if report.failed and crash else ""


def pytest_collectreport(report):
    if report.failed:
        FILE.write(f"failed {report.nodeid} (collection)\t\n")
