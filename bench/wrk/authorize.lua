-- wrk: authorize payments with keys that were never used before.
--
--   wrk -t1 -c64 -d10s --latency -s bench/wrk/authorize.lua URL -- SEED
--
-- Environment: MERCHANTS (1000), how many merchants take turns.

local merchants = tonumber(os.getenv("MERCHANTS") or "1000")
local counter = 0
local seed = "0"

local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    seed = (args[1] or tostring(os.time())) .. "-" .. number
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
end

function request()
    counter = counter + 1
    local body = string.format(
        '{"merchantId":"MERCHANT-%d","amount":%d,"currency":"KRW",' ..
        '"idempotencyKey":"wrk-%s-%d"}',
        counter % merchants + 1, (counter % 50 + 1) * 1000, seed, counter)
    return wrk.format(nil, nil, nil, body)
end

-- one line that a script can read: answers that were not 2xx, and the latencies
function done(summary, latency, requests)
    io.write(string.format(
        "RESULT rps=%.0f requests=%d non2xx=%d errors=%d " ..
        "p50_ms=%.3f p95_ms=%.3f p99_ms=%.3f p999_ms=%.3f max_ms=%.3f\n",
        summary.requests / (summary.duration / 1e6), summary.requests,
        summary.errors.status,
        summary.errors.connect + summary.errors.read + summary.errors.write
        + summary.errors.timeout,
        latency:percentile(50) / 1000, latency:percentile(95) / 1000,
        latency:percentile(99) / 1000, latency:percentile(99.9) / 1000,
        latency.max / 1000))
end
