// The reference service's load test: authorisations at a constant arrival
// rate. Run by bench/k6/run.sh, which also checks what it left behind.

import http from 'k6/http';
import { check } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';

const url = `${__ENV.BASE_URL}/api/payments/authorize`;

const errors = new Rate('payment_errors');
const duration = new Trend('payment_authorize_duration', true);
const accepted = new Counter('payment_accepted');
const duplicates = new Counter('payment_duplicates');

export const options = {
    scenarios: {
        authorize: {
            executor: 'constant-arrival-rate',
            rate: Number(__ENV.RATE),
            timeUnit: '1s',
            duration: __ENV.DURATION,
            preAllocatedVUs: 800,
            maxVUs: 1500,
        },
    },
    thresholds: {
        http_req_failed: ['rate<0.05'],
        http_req_duration: ['p(95)<1000'],
        payment_errors: ['rate<0.002'],
        payment_authorize_duration: ['p(95)<500'],
    },
    summaryTrendStats: ['avg', 'min', 'med', 'p(95)', 'p(99)', 'p(99.9)', 'max'],
};

const params = {
    headers: { 'Content-Type': 'application/json' },
    tags: { name: 'authorize' },
};

function between(low, high) {
    return low + Math.floor(Math.random() * (high - low + 1));
}

export default function () {
    const response = http.post(url, JSON.stringify({
        merchantId: `MERCHANT-${between(1, 1000)}`,
        amount: between(1, 50) * 1000,
        currency: 'KRW',
        idempotencyKey:
            `k6-${__VU}-${Date.now()}-${Math.random().toString(36).slice(2)}`,
    }), params);

    const ok = response.status === 200 || response.status === 409;

    check(response, {
        'status is 200 or 409': () => ok,
        'has a paymentId': (r) => ok && Boolean(r.json('paymentId')),
    });

    duration.add(response.timings.duration);
    errors.add(!ok);
    accepted.add(response.status === 200 ? 1 : 0);
    duplicates.add(response.status === 409 ? 1 : 0);
}

// the moment from which the outbox has nothing more to wait for
export function teardown() {
    console.log(`load ended at ${Date.now()}`);
}

export function handleSummary(data) {
    return { [__ENV.SUMMARY]: JSON.stringify(data) };
}
