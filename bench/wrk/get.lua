-- wrk: GET of payments that are there.
--
--   wrk -t1 -c64 -d10s -s bench/wrk/get.lua URL
--
-- Environment: PAYMENTS, a file with "id merchant" in each line.

local paths = {}
local counter = 0

for line in io.lines(os.getenv("PAYMENTS")) do
    local id, merchant = line:match("(%S+) (%S+)")
    paths[#paths + 1] = "/api/payments/" .. id .. "?merchantId=" .. merchant
end

function request()
    counter = counter + 1
    return wrk.format("GET", paths[counter % #paths + 1])
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")
