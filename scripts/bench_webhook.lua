-- wrk's side of the webhook bench: every request is a signed push of a tag of its own, with a
-- delivery id of its own. The signatures were made beforehand (BENCH_DELIVERIES).
local first = tonumber(os.getenv("BENCH_FIRST"))
local head, tail, signatures = nil, nil, {}
for line in io.lines(os.getenv("BENCH_DELIVERIES")) do
  if not head then head = line elseif not tail then tail = line else signatures[#signatures + 1] = line end
end
local number = 0

function request()
  number = number + 1
  local tag = (first + number - 2) % #signatures + 1
  return wrk.format("POST", nil, {
    ["Content-Type"] = "application/json",
    ["X-GitHub-Event"] = "push",
    ["X-GitHub-Delivery"] = "bench-" .. (first + number),
    ["X-Hub-Signature-256"] = "sha256=" .. signatures[tag],
  }, head .. "v0.0." .. tag .. tail)
end

function done(summary, latency)
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
