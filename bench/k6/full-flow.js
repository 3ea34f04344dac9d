// The reference service's full flow at a constant arrival rate: authorize,
// half a second later capture, half a second later refund. Run by
// bench/k6/run.sh, which also checks what it left behind. With FINAL=1 in the
// environment the capture takes a half and says that no other follows.

import http from 'k6/http';
import { check, sleep } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';

// of one node or more; each call goes to any of them
const bases = __ENV.BASE_URL.split(',').map((url) => `${url}/api/payments`);
const rate = Number(__ENV.RATE);
const final = __ENV.FINAL === '1';

const errors = new Rate('payment_errors');
const accepted = new Counter('payment_accepted');
const changes = new Counter('payment_changes');
const durations = {
    authorize: new Trend('payment_authorize_duration', true),
    capture: new Trend('payment_capture_duration', true),
    refund: new Trend('payment_refund_duration', true),
};

export const options = {
    scenarios: {
        flow: {
            executor: 'constant-arrival-rate',
            rate: rate,
            timeUnit: '1s',
            duration: __ENV.DURATION,
            preAllocatedVUs: Math.ceil(rate * 1.5),
            maxVUs: rate * 4,
        },
    },
    thresholds: {
        checks: ['rate==1'],
        http_req_failed: ['rate==0'],
        payment_authorize_duration: ['p(95)<5'],
        payment_capture_duration: ['p(95)<5'],
        payment_refund_duration: ['p(95)<5'],
    },
    summaryTrendStats: ['avg', 'min', 'med', 'p(95)', 'p(99)', 'p(99.9)', 'max'],
};

function between(low, high) {
    return low + Math.floor(Math.random() * (high - low + 1));
}

// One call; the answered payment, or null.

function call(name, path, body, status) {
    const base = bases[between(0, bases.length - 1)];
    const response = http.post(`${base}/${path}`, JSON.stringify(body), {
        headers: { 'Content-Type': 'application/json' },
        tags: { name: name },
    });

    const ok = check(response, {
        [`${name} is 200`]: (r) => r.status === 200,
        [`${name} says ${status}`]: (r) =>
            r.status === 200 && r.json('status') === status,
    });

    durations[name].add(response.timings.duration);
    errors.add(!ok);

    if (response.status === 200) {
        changes.add(1);
    }

    return ok ? response.json() : null;
}

export default function () {
    const merchantId = `MERCHANT-${between(1, 1000)}`;

    const payment = call('authorize', 'authorize', {
        merchantId: merchantId,
        amount: between(1, 50) * 1000,
        currency: 'KRW',
        idempotencyKey:
            `k6-${__VU}-${Date.now()}-${Math.random().toString(36).slice(2)}`,
    }, 'AUTHORIZED');

    if (payment === null) {
        return;
    }

    accepted.add(1);
    sleep(0.5);

    const capture = { merchantId: merchantId };

    if (final) {
        capture.amount = payment.amount / 2;
        capture.final = true;
    }

    if (call('capture', `capture/${payment.paymentId}`, capture, 'CAPTURED')
        === null)
    {
        return;
    }

    sleep(0.5);

    call('refund', `refund/${payment.paymentId}`,
         { merchantId: merchantId, reason: 'CUSTOMER_REQUEST' }, 'REFUNDED');
}

// the moment from which the outbox has nothing more to wait for
export function teardown() {
    console.log(`load ended at ${Date.now()}`);
}

export function handleSummary(data) {
    return { [__ENV.SUMMARY]: JSON.stringify(data) };
}
