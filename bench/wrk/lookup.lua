-- wrk: what became of keys that bench/lists.py has made.
--
--   wrk -t1 -c4 -d10s --latency -s bench/wrk/lookup.lua URL
--
-- Environment:
--   KEYS               how many there are
--   DELAY              milliseconds before each request, on each connection

local keys = tonumber(os.getenv("KEYS"))

function request()
    local number = math.random(keys)

    return wrk.format("GET", string.format(
        "/api/payments/?merchantId=MERCHANT-%d&idempotencyKey=list-%d",
        number % 1000 + 1, number))
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")
