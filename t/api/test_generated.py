"""A client that a generator makes of the API's description makes payments.

What the generator cannot read, it leaves out with a warning: a request without
its function, an answer without its type. So it must have nothing to say.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import uuid

import pytest

from .service import NOBODY, ROOT, Nginx

FILE = os.path.join(ROOT, 'ngx_payment_module', 'http', 'openapi.json')
GENERATOR = os.path.join(os.path.dirname(sys.executable),
                         'openapi-python-client')

CONFIG = """
    server {
        listen 127.0.0.1:$PORT reuseport;
        location /api/payments { payment_api; }
    }
"""


@pytest.fixture(scope='module')
def nginx(database):
    made = Nginx('generated', database.shard() + CONFIG)
    yield made
    made.close()


@pytest.fixture(scope='module')
def generated(tmp_path_factory):
    """The package of the client."""

    place = tmp_path_factory.mktemp('generated')

    # formatting is all that its hooks do
    config = place / 'config.yml'
    config.write_text('post_hooks: []\n')

    done = subprocess.run(
        [GENERATOR, 'generate', '--path', FILE, '--config', config,
         '--output-path', place / 'payment_client', '--meta', 'none',
         '--fail-on-warning'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=120)
    assert done.returncode == 0, done.stdout

    sys.path.insert(0, str(place))
    yield importlib.import_module('payment_client')
    sys.path.remove(str(place))


@pytest.fixture
def client(generated, nginx):
    with generated.Client(
            base_url=f'http://127.0.0.1:{nginx.port}/api/payments',
            raise_on_unexpected_status=True) as made:
        yield made


def call(name):
    return importlib.import_module(f'payment_client.api.default.{name}').sync


def test_a_payment(generated, client):
    models = importlib.import_module('payment_client.models')
    key = f'"{uuid.uuid4()}"'
    request = models.AuthorizeRequest(merchant_id='M-1', amount=1500,
                                      currency=models.Currency.KRW)

    payment = call('authorize')(client=client, body=request,
                                idempotency_key=key)
    assert isinstance(payment, models.Payment)
    assert payment.status == models.Status.AUTHORIZED
    assert call('authorize')(client=client, body=request,
                             idempotency_key=key) == payment

    captured = call('capture')(
        payment.payment_id, client=client,
        body=models.CaptureRequest(merchant_id='M-1', amount=1000))
    assert captured.status == models.Status.PARTIALLY_CAPTURED

    refunded = call('refund')(
        payment.payment_id, client=client,
        body=models.RefundRequest(merchant_id='M-1', reason='returned'))
    assert refunded.status == models.Status.REFUNDED

    found = call('get_payment')(payment.payment_id, client=client,
                                merchant_id='M-1')
    assert isinstance(found, models.PaymentDetails)
    assert (found.captured_amount, found.refunded_amount) == (1000, 1000)


def test_a_refusal(generated, client):
    models = importlib.import_module('payment_client.models')

    problem = call('get_payment')(uuid.UUID(NOBODY), client=client,
                                  merchant_id='M-1')
    assert isinstance(problem, models.Problem)
    assert problem.code == models.ProblemCode.NOT_FOUND


NODE = os.path.join(ROOT, 'build', 'node', 'node_modules')


@pytest.fixture
def typescript(tmp_path):
    """t/node/pay.ts, compiled with the types that openapi-typescript makes."""

    os.symlink(NODE, tmp_path / 'node_modules')
    shutil.copy(os.path.join(ROOT, 't', 'node', 'pay.ts'), tmp_path)

    for command in (
            # a member that has a default may be left out of a request
            ['openapi-typescript', FILE, '-o', 'payment.d.ts',
             '--default-non-nullable', 'false'],
            ['tsc', '--strict', '--target', 'es2022', '--module', 'nodenext',
             '--types', 'node', 'pay.ts']):
        done = subprocess.run(
            [os.path.join(NODE, '.bin', command[0]), *command[1:]],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=120)
        assert done.returncode == 0, done.stdout

    return tmp_path / 'pay.js'


def test_a_payment_in_typescript(typescript, nginx):
    """The compiler has agreed to all that is read of the answers."""

    done = subprocess.run(
        ['node', typescript, f'http://127.0.0.1:{nginx.port}/api/payments'],
        stdout=subprocess.PIPE, check=True, timeout=60)

    assert json.loads(done.stdout) == dict(
        authorized='AUTHORIZED', captured='PARTIALLY_CAPTURED',
        amounts=[1500, 1000], missing='NOT_FOUND')
