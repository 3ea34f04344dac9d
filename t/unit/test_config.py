"""The script `config` finds its libraries, however strict the compiler is.

It is run as nginx's configure runs it, with configure's own auto/feature and
with nothing of the build behind it.
"""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NGINX = pathlib.Path("/usr/share/nginx/src")

# What configure has set when it reads the script of an added module.

CONFIGURE = """
CC=gcc NGX_TEST_LD_OPT= CC_TEST_FLAGS="$1" CC_AUX_FLAGS= NGX_INCLUDE_UNISTD_H="#include <unistd.h>"
NGX_OBJS=objs NGX_AUTOTEST=objs/autotest NGX_AUTOCONF_ERR=objs/autoconf.err
ngx_include_opt="-I " ngx_c= ngx_n= ngx_module_link=DYNAMIC
ngx_addon_dir="$2"
mkdir objs
. "$2/config"
"""


def run_config(directory, flags, **environment):
    (directory / "auto").mkdir()
    (directory / "auto/feature").symlink_to(NGINX / "auto/feature")
    (directory / "auto/module").write_text("")

    return subprocess.run(
        ["sh", "-c", CONFIGURE, "sh", flags, str(ROOT)], cwd=directory,
        env={"PATH": "/usr/bin:/bin", **environment}, text=True,
        capture_output=True, timeout=60)


def errors(directory):
    return (directory / "objs/autoconf.err").read_text()


@pytest.mark.parametrize("flags", [
    "", "-Wall -Wextra -Wpedantic -Wdeprecated-declarations -Werror"])
def test_every_library_is_found(tmp_path, flags):
    done = run_config(tmp_path, flags)

    assert done.returncode == 0, done.stderr + errors(tmp_path)
    assert done.stderr == ""


def test_a_library_that_is_not_there_is_named(tmp_path):
    done = run_config(tmp_path, "", MARIADB_LIB=str(tmp_path))

    assert done.returncode == 1
    assert "install the Debian package libmariadb-dev" in done.stderr
    assert done.stderr.count("is missing") == 1, done.stderr
