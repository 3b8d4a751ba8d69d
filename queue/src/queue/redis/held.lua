-- Everything that lies in an inbox.
-- KEYS: inbox, work, running (as in join.lua)
-- ARGV: none
-- Reply: nil where there is no inbox; else the jobs, waiting and running, in no order
if redis.call('HEXISTS', KEYS[1], 'born') == 0 then
  return false
end
local held = redis.call('HKEYS', KEYS[2])
for _, job in ipairs(redis.call('HKEYS', KEYS[3])) do
  if redis.call('HEXISTS', KEYS[2], job) == 0 then
    held[#held + 1] = job
  end
end
return held
