-- wrk's last words, for the scripts here: one line that a program can read,
-- with answers that were not 2xx, and the latencies.

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
