"""deploy/ as far as files can be checked: no registry of images, no container
and no cluster was at hand. What is in the files is held against the schemas of
those who read them; the configurations are given to nginx itself.
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / 'deploy'
BIN = ROOT / 'build' / 'deploy' / 'bin'
HELM = ROOT / 'build' / 'bin' / 'helm'
CHART = DEPLOY / 'helm' / 'ngx-payment'
MODULE = ROOT / 'build' / 'ngx_http_payment_module.so'
FULL = pathlib.Path(__file__).with_name('full-values.yaml')

KUBERNETES = ['1.34.0', '1.35.0', '1.36.0', '1.37.0']
VALUES = {'default': [], 'full': ['--values', FULL]}


def run(*command, status=0):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120)
    assert done.returncode == status, done.stdout
    return done.stdout


def template(*options):
    # a helm that was not built by its makers knows no newer cluster than 1.20
    return run(HELM, 'template', 'shop', CHART, '--kube-version',
               KUBERNETES[-1], *options)


def rendered(values):
    text = template(*VALUES[values])
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents, kind):
    found, = [d for d in documents if d['kind'] == kind]
    return found


# --- the image

def test_dockerfile():
    assert run(BIN / 'hadolint', DEPLOY / 'Dockerfile') == ''


def test_what_the_dockerfile_copies_is_in_its_context():
    ignore = (DEPLOY / 'Dockerfile.dockerignore').read_text().split()
    assert ignore[0] == '*'
    known = [name[1:] for name in ignore[1:]]

    for name in known:
        assert (ROOT / name).exists(), name

    for source in re.findall(r'^COPY (deploy/\S+)',
                             (DEPLOY / 'Dockerfile').read_text(), re.M):
        assert source in known

    # what building and installing needs
    for name in re.findall(r'"\$ROOT"?/\{?([\w.,/-]+)',
                           (ROOT / 'tools' / 'install.sh').read_text()):
        for one in name.split(','):
            assert one.split('/')[0] in known, one


# --- compose

def test_compose():
    run(BIN / 'check-jsonschema', '--builtin-schema', 'vendor.compose-spec',
        DEPLOY / 'compose.yaml')


def test_what_compose_mounts_is_there():
    compose = yaml.safe_load((DEPLOY / 'compose.yaml').read_text())

    for service in compose['services'].values():
        assert ':' in service['image'] or 'build' in service

        for volume in service.get('volumes', []):
            source = volume.split(':')[0]
            assert source in compose['volumes'] \
                or (DEPLOY / source).is_file(), volume

        assert set(service.get('secrets', [])) <= set(compose['secrets'])

    # the dashboard's variable finds the datasource by its type
    datasource, = yaml.safe_load(
        (DEPLOY / 'compose/grafana/datasource.yml').read_text())['datasources']
    assert datasource['type'] == 'prometheus'


# --- the chart

def test_helm_lint():
    for values in VALUES.values():
        said = run(HELM, 'lint', '--strict', CHART, *values)
        assert '0 chart(s) failed' in said and 'WARNING' not in said, said


@pytest.mark.parametrize('version', KUBERNETES)
@pytest.mark.parametrize('values', VALUES)
def test_manifests(tmp_path, values, version):
    documents = rendered(values)
    assert len(documents) >= 4

    for i, document in enumerate(documents):
        file = tmp_path / f'{i}.yaml'
        file.write_text(yaml.safe_dump(document))
        run(BIN / 'kubernetes-validate', '--strict', '-k', version, file)


def test_every_value_is_used():
    """What the full values say otherwise is otherwise in the manifests."""

    def leaves(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [leaf for part in value for leaf in leaves(part)]
        return str(value).splitlines()

    full = yaml.safe_load(FULL.read_text())
    default = yaml.safe_load((CHART / 'values.yaml').read_text())
    assert full.keys() == default.keys()

    text = template('--values', FULL)

    for name, value in full.items():
        values = value.values() if isinstance(value, dict) else [value]

        for leaf in (leaf for value in values for leaf in leaves(value)):
            leaf = re.sub(r':\d+$', '', leaf)
            assert leaf in text or leaf in ('True', '30'), (name, leaf)


@pytest.mark.parametrize('values', VALUES)
def test_a_pod_goes_in_order(values):
    documents = rendered(values)
    deployment = of_kind(documents, 'Deployment')
    pod = deployment['spec']['template']['spec']
    container, = pod['containers']

    # endpoint, then QUIT, and time for both
    command = container['lifecycle']['preStop']['exec']['command'][2]
    sleep = int(re.search(r'exec sleep (\d+)$', command)[1])
    assert '{"action":"drain"}' in command
    assert pod['terminationGracePeriodSeconds'] >= sleep + 15
    assert 'STOPSIGNAL SIGQUIT' in (DEPLOY / 'Dockerfile').read_text()
    assert deployment['spec']['strategy']['rollingUpdate'][
        'maxUnavailable'] == 0

    # not root, and a root file system that is read-only
    assert pod['securityContext']['runAsNonRoot']
    assert pod['automountServiceAccountToken'] is False
    assert container['securityContext'] == {
        'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True,
        'capabilities': {'drop': ['ALL']}}

    job = of_kind(documents, 'Job')
    assert job['metadata']['annotations']['helm.sh/hook'] \
        == 'pre-install,pre-upgrade'

    # the password of who may alter tables is not in nginx's pods
    secrets, = [v['secret'] for v in pod['volumes'] if v['name'] == 'secrets']
    keys = {item['key'] for item in secrets['items']}
    admin = {env['value'].rpartition('/')[2]
             for one in job['spec']['template']['spec']['containers']
             for env in one['env'] if env['name'] == 'PAYMENT_DB_ADMIN_PASSWORD'}
    assert keys and admin and not keys & admin


def test_where_the_job_migrates():
    job = of_kind(rendered('full'), 'Job')
    places = [{env['name']: env['value'] for env in one['env']}
              for one in job['spec']['template']['spec']['containers']]

    assert [(p['PAYMENT_DB_HOST'], p['PAYMENT_DB_PORT'], p['PAYMENT_DB_NAME'])
            for p in places] == [('db-1.example.net', '3306', 'payment_1'),
                                 ('db-3.example.net', '3308', 'payment_2')]


# --- what nginx says

def joins(text):
    """Does a client get what its log line and its event have?"""

    for one in (r'add_header +X-Request-Id +\$payment_trace_id +always;',
                'payment_trace_context +make;',
                r'log_format +payment +escape=none +\$payment_log;'):
        assert len(re.findall(one, text)) == 1, one


def nginx_takes(text, path):
    """nginx -t, with this machine's module and with files in `path`."""

    nginx = os.environ.get('TEST_NGINX_BINARY') or shutil.which(
        'nginx', path=os.environ['PATH'] + ':/usr/sbin:/sbin')

    for name in re.findall(r'/run/secrets/([\w-]+)', text):
        (path / name).write_text('a password\n')

    for there, here in (('modules/ngx_http_payment_module.so', str(MODULE)),
                        ('/run/secrets', str(path)), ('/run/nginx', str(path)),
                        ('/var/lib/nginx', str(path)),
                        ('/dev/stdout', str(path / 'access.log'))):
        text = text.replace(there, here)

    (path / 'nginx.conf').write_text(text)
    said = run(nginx, '-t', '-p', path, '-c', path / 'nginx.conf', '-e',
               path / 'error.log')
    assert not re.search(r'\[(error|crit|alert|emerg)\]', said), said


@pytest.mark.parametrize('values', VALUES)
def test_the_charts_configuration(tmp_path, values):
    config = of_kind(rendered(values), 'ConfigMap')
    nginx_takes(config['data']['nginx.conf'], tmp_path)
    joins(config['data']['nginx.conf'])


def test_the_images_configuration(tmp_path):
    text = (DEPLOY / 'nginx.conf').read_text()
    nginx_takes(text, tmp_path)
    joins(text)


# What is not asked for. Merchants' programs are no browsers; how many files a
# container may open is its engine's to say; and the other files show one thing
# each, that belongs into a configuration like production.conf.

NOT_ASKED = {
    'conf/production.conf': ['hsts_header'],
    'deploy/nginx.conf': ['worker_rlimit_nofile_vs_connections']
}

OF_ALL = ['hsts_header', 'weak_ssl_tls', 'version_disclosure',
          'worker_rlimit_nofile_vs_connections']


@pytest.mark.parametrize('name', sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob('conf/**/*.conf'), DEPLOY / 'nginx.conf']
    if path.parent.name != 'systemd'))
def test_gixy(name):
    """Nothing of medium severity or above."""

    said = run(BIN / 'gixy', '-ll', '--skips',
               ','.join(NOT_ASKED.get(name, OF_ALL)), ROOT / name)
    assert 'No issues found' in said, said


def test_the_versions_are_one():
    version, = re.findall(
        r'^#define NGX_PAYMENT_VERSION\s+"(.*)"$', (
            ROOT / 'ngx_payment_module/shared/ngx_payment_version.h')
        .read_text(), re.M)
    chart = yaml.safe_load((CHART / 'Chart.yaml').read_text())
    assert chart['appVersion'] == chart['version'] == version
