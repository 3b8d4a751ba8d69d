-- How full an inbox is.
-- KEYS: inbox, urgent, waiting, running (as in join.lua)
-- ARGV: none
-- Reply: nil where there is no inbox; else {waiting, running}
if redis.call('HEXISTS', KEYS[1], 'born') == 0 then
  return false
end
return {redis.call('LLEN', KEYS[2]) + redis.call('LLEN', KEYS[3]), redis.call('HLEN', KEYS[4])}
