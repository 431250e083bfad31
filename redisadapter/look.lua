-- Reads the state of the log at one moment. It is a script and not a transaction,
-- which a server without memory refuses.
--
-- KEYS   meta, and the streams
-- ARGV   a position, with "(" before it
--
-- The reply is all of meta, and for each stream the field m of the first entry
-- above the position, "" if there is none.

local reply = {redis.call('HGETALL', KEYS[1])}
for s = 2, #KEYS do
  local first = redis.call('XRANGE', KEYS[s], ARGV[1], '+', 'COUNT', 1)[1]
  local m = ''
  if first then
    for f = 1, #first[2], 2 do
      if first[2][f] == 'm' then
        m = first[2][f + 1]
      end
    end
  end
  reply[s] = m
end
return reply
