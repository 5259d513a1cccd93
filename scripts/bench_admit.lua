-- wrk's side of the admission bench: the same review over and over, whose image was judged before.
-- An answer that does not allow it counts as an error.
local file = io.open(os.getenv("BENCH_REVIEW"))
local body = file:read("*a")
file:close()
wrk.method, wrk.body = "POST", body
wrk.headers["Content-Type"] = "application/json"

-- With BENCH_PAUSE_MS every connection waits so long before each request: a steady load.
local pause = tonumber(os.getenv("BENCH_PAUSE_MS"))
if pause then
  function delay()
    return pause
  end
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

function init()
  denied = 0
end

function response(status, _, answer)
  if status ~= 200 or not answer:find('"allowed":true', 1, true) then denied = denied + 1 end
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout
  for _, thread in ipairs(threads) do failed = failed + thread:get("denied") end
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
