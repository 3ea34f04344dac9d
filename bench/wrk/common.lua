-- What the scripts here have in common: a rest before each request, if DELAY
-- says how many milliseconds, and wrk's last words: one line that a program can
-- read, with answers that were not 2xx, and the latencies.

if os.getenv("DELAY") then
    local milliseconds = tonumber(os.getenv("DELAY"))

    function delay()
        return milliseconds
    end
end

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
