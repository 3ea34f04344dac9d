"""The model explains what an expiry makes possible, and nothing else."""

import json

import pytest

from . import model
from .client import Response

ID = '019aacb5-2c6b-7000-8010-00000000abcd'
END = '2025-11-22T18:12:47.123Z'
RULES = model.Rules(lifetimes={'USD': 1})


def request(do, amount=None):
    return model.Request(do, ID, 'm', amount, None, None, None, None, RULES)


def answer(status, body, method='POST'):
    kind = 'json' if status == 200 else 'problem+json'

    return Response(method, status, [
        ('content-type', f'application/{kind}'),
        ('date', 'Sat, 22 Nov 2025 18:12:47 GMT')], json.dumps(body).encode())


def done(status, captured, refunded, method='POST', **more):
    return answer(200, {
        'paymentId': ID, 'status': status, 'amount': 20, 'currency': 'USD',
        'capturedAmount': captured, 'refundedAmount': refunded,
        'createdAt': '2025-11-22T18:12:46.123Z', 'expiresAt': END,
        'ledgerEntries': [], 'message': 'x', **more}, method)


def shown(status, captured, refunded, version):
    return done(status, captured, refunded, 'GET', merchantId='m',
                version=version, updatedAt='2025-11-22T18:12:46.323Z')


def conflict(code, detail='x'):
    return answer(409, {
        'type': 'about:blank', 'title': 'Conflict', 'status': 409,
        'detail': detail, 'message': detail, 'code': code, 'paymentId': ID})


def expired():
    return conflict('AUTHORIZATION_EXPIRED', f'it expired at {END}')


@pytest.fixture
def state():
    """One payment, of which 3 of 20 are captured."""

    made = model.State()
    authorize = request('authorize', 20)._replace(currency='USD', key='k')

    model.explain(made, [[(authorize, done('AUTHORIZED', 0, 0)),
                          (request('capture', 3),
                           done('PARTIALLY_CAPTURED', 3, 0))]])
    return made


def versions(state):
    return {payment.version for payment in state.payments[ID]}


def test_a_refund_may_come_before_the_expiry_or_after(state):
    model.explain(state, [[(request('refund', 1),
                            done('PARTIALLY_REFUNDED', 3, 1))]])
    assert versions(state) == {3, 4}

    # what is expired would say so
    model.explain(state, [[(request('capture', 1),
                            conflict('CAPTURE_CONFLICT'))]])
    assert versions(state) == {3}


def test_no_capture_after_the_expiry(state):
    model.explain(state, [[(request('capture', 1), expired())]])

    with pytest.raises(model.Wrong):
        model.explain(state, [[(request('capture', 1),
                                done('PARTIALLY_CAPTURED', 4, 0))]])


def test_another_order_may_reach_the_same_calls_otherwise(state):
    """The refund first would mean that the payment had been swept."""

    model.explain(state, [
        [(request('capture', 1), conflict('CAPTURE_CONFLICT'))],
        [(request('get'), shown('PARTIALLY_CAPTURED', 3, 0, 2)),
         (request('refund', 3), done('REFUNDED', 3, 3))],
        [(request('get'), shown('PARTIALLY_CAPTURED', 3, 0, 2))],
        [(request('capture', 10), expired())]])


def test_every_order_counts_for_what_comes_next(state):
    model.explain(state, [
        [(request('refund', 1), done('PARTIALLY_REFUNDED', 3, 1))],
        [(request('void'), expired())]])
    assert versions(state) == {3, 4}


def test_what_is_not_listed_may_not_have_been_there(state):
    """The payment last, it had not expired: nobody was there to be listed."""

    page = model.Page((('status', 'AUTHORIZED'),), ['AUTHORIZED'], None,
                      (1, model.AMOUNT_MAX), '', '3', 20, None)
    one = ID[:-1] + 'e'
    authorize = request('authorize', 20)._replace(currency='USD', key='other')

    model.explain(state, [
        [(authorize, done('AUTHORIZED', 0, 0, paymentId=one))],
        [(request('list')._replace(page=page),
          answer(200, {'merchantId': 'm', 'payments': []}, 'GET'))]])
    assert {payment.version for payment in state.payments[one]} == {1, 2}
