"""The module has one version, in shared/ngx_payment_version.h.

What repeats it for its readers says the same: openapi.json, the chart, the newest
entries of CHANGES and of debian/changelog, a tag, and what was built.
"""

import json
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "ngx_payment_module"
CHANGES = ROOT / "CHANGES"

NUMBER = re.compile(r"\b\d+\.\d+\.\d+\b")

HEADER = (MODULE / "shared/ngx_payment_version.h").read_text()
VERSION = re.search(r'^#define NGX_PAYMENT_VERSION\s+"([^"]+)"$', HEADER,
                    re.MULTILINE).group(1)


def test_it_is_a_version():
    assert NUMBER.fullmatch(VERSION)


def test_descriptions():
    for name in ("openapi.json", "asyncapi.json"):
        document = json.loads((MODULE / "http" / name).read_text())
        assert document["info"]["version"] == VERSION


def test_changes():
    assert re.search(r"^Version (\S+)$", CHANGES.read_text(),
                     re.MULTILINE).group(1) == VERSION


def test_debian():
    changelog = (ROOT / "debian/changelog").read_text()
    assert re.match(r"\S+ \((\S+)-\d+\) ", changelog).group(1) == VERSION


def test_chart():
    chart = (ROOT / "deploy/helm/ngx-payment/Chart.yaml").read_text()
    assert re.findall(r'^(?:version|appVersion): "?([^"\n]+)', chart,
                      re.MULTILINE) == [VERSION, VERSION]


@pytest.fixture(scope="module")
def built():
    """What `make build` or, for these tests, clang has built."""

    return (ROOT / "build/clang/ngx_http_payment_module.so").read_bytes()


def test_build(built):
    assert b"payment: version %s, build " % VERSION.encode() in built


def test_the_outbox_is_beside_what_nginx_buffers(built):
    said = subprocess.run(["/usr/sbin/nginx", "-V"], check=True, text=True,
                          stderr=subprocess.PIPE).stderr
    body = re.search(r"--http-client-body-temp-path=(\S+)/", said).group(1)
    assert b"\0%s/payment_outbox_temp\0" % body.encode() in built


def test_tag():
    """A release's tag names the version that it has."""

    tags = subprocess.run(["git", "-C", ROOT, "tag", "--points-at", "HEAD",
                           "v*"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE).stdout.split()
    assert tags in ([], [f"v{VERSION}"])


def test_no_other_source_has_a_version_of_its_own():
    for source in [*MODULE.rglob("*.[ch]"), *(ROOT / "worker").rglob("*.[ch]")]:
        if source.name not in ("ngx_payment_version.h",
                               "ngx_http_payment_openapi_json.c",
                               "ngx_http_payment_asyncapi_json.c"):
            assert f'"{VERSION}"' not in source.read_text(), source
