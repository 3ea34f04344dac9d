-- wrk: authorize payments with keys that were never used before.
--
--   wrk -t1 -c64 -d10s --latency -s bench/wrk/authorize.lua URL -- SEED
--
-- Environment:
--   MERCHANTS (1000)   how many merchants take turns
--   REPEATS (0)        percent of the requests that repeat one of the first
--                      KNOWN_KEYS requests of an earlier run with KNOWN_SEED
--   DELAY              milliseconds before each request, on each connection
--   HOT                the seed of one request that all are

local merchants = tonumber(os.getenv("MERCHANTS") or "1000")
local repeats = tonumber(os.getenv("REPEATS") or "0")
local known_keys = tonumber(os.getenv("KNOWN_KEYS") or "0")
local known_seed = os.getenv("KNOWN_SEED")
local hot = os.getenv("HOT")
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

local function authorize(seed, number)
    local body = string.format(
        '{"merchantId":"MERCHANT-%d","amount":%d,"currency":"KRW",' ..
        '"idempotencyKey":"wrk-%s-%d"}',
        number % merchants + 1, (number % 50 + 1) * 1000, seed, number)
    return wrk.format(nil, nil, nil, body)
end

function request()
    if hot then
        return authorize(hot, 1)
    end

    if repeats > 0 and math.random(100) <= repeats then
        return authorize(known_seed, math.random(known_keys))
    end

    counter = counter + 1
    return authorize(seed, counter)
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")
