-- wrk: pages of merchants' payments.
--
--   wrk -t1 -c4 -d10s --latency -s bench/wrk/list.lua URL
--
-- Environment:
--   MERCHANTS (1000)   how many merchants take turns
--   FILTERS            more of the query: "&limit=100"
--   DELAY              milliseconds before each request, on each connection

local merchants = tonumber(os.getenv("MERCHANTS") or "1000")
local filters = os.getenv("FILTERS") or ""
local counter = 0

function request()
    counter = counter + 1
    return wrk.format("GET", string.format(
        "/api/payments/?merchantId=MERCHANT-%d%s", counter % merchants + 1,
        filters))
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")
