# SPDX-License-Identifier: BSD-2-Clause
"""Options and fixtures of the app tests; harness.py has the parts."""

import os
import shutil
import signal
import tempfile

import pytest

import harness
from harness import Net, Options


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the sizes of the acceptance table instead of short ones")
    parser.addoption("--mode", default="tap", help="tap, packet, kernel, or several with commas (default: tap)")
    parser.addoption("--io", default=None, help="OWNSTACK_IO for every program: full, uring or poll")
    parser.addoption("--seconds", type=int, default=120, help="longest time of one test, five times that with --full")


def pytest_configure(config):
    Options.full = config.getoption("--full")
    if config.getoption("--io"):
        Options.io = config.getoption("--io")
    config.addinivalue_line("markers", "modes(*names): the test makes sense in these modes only")
    config.addinivalue_line("markers", "more: programs beyond the set that CI has; run with -m more")
    config.addinivalue_line("markers", "core: part of the short set that runs at every level of OWNSTACK_IO")


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--mode").split(",")
        mark = metafunc.definition.get_closest_marker("modes")
        metafunc.parametrize("mode", [m for m in wanted if not mark or m in mark.args])


def pytest_collection_modifyitems(config, items):
    """Those marked `more` run only where they are asked for."""
    if "more" not in config.getoption("-m"):
        more = [i for i in items if i.get_closest_marker("more")]
        config.hook.pytest_deselected(items=more)
        items[:] = [i for i in items if i not in more]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.call_failed = report.failed
        nets = getattr(item, "nets", [])
        if report.failed:
            for n in nets:          # before the fixture takes them apart
                report.sections.append(("the private host", n.diagnose()))


@pytest.fixture(autouse=True)
def bounded(request):
    """No test may hang: SIGALRM turns into a failure."""
    def expired(_sig, _frame):
        raise AssertionError("the test ran longer than its time")
    seconds = request.config.getoption("--seconds") * (5 if Options.full else 1)
    old = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def make_net(request, mode):
    """make_net() gives a net of the test's mode; all are taken apart at the end, and no program may have complained."""
    request.node.nets = nets = []
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    if mode != "kernel" and not os.access(Options.ownstack(), os.X_OK):
        pytest.fail("no %s: build first" % Options.ownstack())

    def make(**kw):
        n = Net(kw.pop("mode", mode), **kw)
        nets.append(n)
        return n
    yield make
    complaints = [c for n in nets for c in n.complaints()]
    for n in nets:
        n.close(getattr(request.node, "call_failed", False))
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def net(make_net):
    return make_net()


@pytest.fixture
def stalls():
    """What the machine withholds while the test runs; see harness.Stalls."""
    with harness.Stalls() as s:
        yield s


@pytest.fixture(scope="session")
def files():
    """name -> (path, size, SHA-256), and the directory that servers may read as whoever they are.

    Not below pytest's own directory: each pytest that starts closes that to others than its user, and servers of a session
    beside it answer 403 meanwhile."""
    root = tempfile.mkdtemp(prefix="%s-files-" % harness.TAG, dir="/tmp")
    os.chmod(root, 0o755)
    sizes = {"1k": 1 << 10, "1m": 1 << 20, "big": 1 << 30 if Options.full else 64 << 20, "4m": 4 << 20, "100m": 100 << 20}
    made = {}

    class Files:
        dir = root

        def __getitem__(self, name):
            if name not in made:
                path = os.path.join(root, name)
                made[name] = (path, sizes[name], harness.make_file(path, sizes[name], len(made) + 1))
            return made[name]
    yield Files()
    shutil.rmtree(root, ignore_errors=True)


def pytest_sessionstart(session):
    """SIGTERM ends the session as Ctrl-C does: with every namespace taken apart."""
    def interrupted(_sig, _frame):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)


def pytest_sessionfinish(session, exitstatus):
    """A namespace of ours that is still there is a bug of the tests."""
    left = [n for n in os.listdir("/run/netns") if n.startswith(harness.TAG + "-")] if os.path.isdir("/run/netns") else []
    if left:
        print("left behind: %s" % left)
        session.exitstatus = 1
