-- wrk: asks for a node's health, as balancers do.
--
--   wrk -t1 -c400 -d10s -s bench/wrk/probe.lua URL
--
-- Environment:
--   DELAY              milliseconds before each request, on each connection

function request()
    return wrk.format("GET", "/health")
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "common.lua")
