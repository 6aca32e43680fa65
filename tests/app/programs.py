# SPDX-License-Identifier: BSD-2-Clause
"""programs.py - what the tests of other people's programs have in common: are they here, their files, loads, checks"""

import os
import shutil
import signal
import tempfile

import pytest

from harness import parse_ab, run, sha256_file


def where(program):
    """Its path; daemons live outside a user's PATH."""
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin:/usr/lib/git-core")


def needs(*programs):
    """`./dev setup more` installs them all."""
    for p in programs:
        if not where(p):
            pytest.skip("no %s" % p)


def home(net, **files):
    """A directory of the program's own, with these files in it; `__` in a name is a dot."""
    d = tempfile.mkdtemp(prefix="server-", dir=net.dir)
    os.chmod(d, 0o755)
    for name, text in files.items():
        with open(os.path.join(d, name.replace("__", ".")), "w") as f:
            f.write(text.replace("@DIR@", d))
    return d


def ab(net, url, requests=2000, at_once=32, keep=True, side="peer"):
    """Every request must be answered in full."""
    out = net.call(side, "ab", "-q", "-n", str(requests), "-c", str(at_once), *(["-k"] if keep else []), url, seconds=60)
    assert "Failed requests:        0" in out, out
    assert "Complete requests:      %d" % requests in out, out
    assert "Non-2xx" not in out, out


def stop_ab(load):
    """An ab that runs until it is interrupted says what it has then: nothing may have failed."""
    assert load.alive(), load.tails()
    load.kill(signal.SIGINT)
    load.wait(20)
    assert "apr_" not in load.text("err"), load.tails()        # its word for a connection that failed
    assert "Complete requests" in load.text(), load.tails()
    r = parse_ab(load.text())
    assert (r["failed"], r["write_errors"], r["bad_answers"]) == (0, 0, 0), load.tails()
    return r


def fetch(net, url, want, *more, side="peer"):
    """curl's copy has the SHA-256 @want."""
    to = os.path.join(net.dir, "fetched")
    net.call(side, "curl", "-sf", "-o", to, *more, url, seconds=60)
    assert sha256_file(to) == want


def certificate(d):
    """A key and a certificate for whoever asks; gives their paths and that of both in one file."""
    key, cert, both = d + "/key.pem", d + "/cert.pem", d + "/both.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=x", "-keyout", key, "-out", cert)
    with open(both, "w") as f:
        f.write(open(key).read() + open(cert).read())
    for p in (key, cert, both):
        os.chmod(p, 0o644)
    return key, cert, both


def pg_bin(name):
    root = "/usr/lib/postgresql"
    for v in sorted(os.listdir(root) if os.path.isdir(root) else [], reverse=True):
        if os.path.exists("%s/%s/bin/%s" % (root, v, name)):
            return "%s/%s/bin/%s" % (root, v, name)
    return pytest.skip("no postgresql")


AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


def pg_data(net):
    """A fresh data directory that trusts the test's network."""
    d = home(net)
    initdb = pg_bin("initdb")
    shutil.chown(d, "postgres", "postgres")
    run(*AS_POSTGRES, initdb, "-D", d + "/data", "-A", "trust", "-N", timeout=60)
    with open(d + "/data/pg_hba.conf", "a") as f:
        f.write("host all all 10.77.0.0/24 trust\n")
    return d
