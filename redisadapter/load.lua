-- Reads some of the values, with their rows.
--
-- KEYS   state, value
-- ARGV   a cursor of HSCAN, and how many values, approximately
--
-- The reply is the next cursor, "0" at the end, and a list of channel, row and
-- value. A channel may be there twice.

local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local rows, reply = found[2], {}
for from = 1, #rows, 2000 do
  local to = math.min(#rows, from + 1999)
  local channels = {}
  for i = from, to, 2 do
    channels[#channels + 1] = rows[i]
  end
  local values = redis.call('HMGET', KEYS[2], unpack(channels))
  for i, value in ipairs(values) do
    if value then
      reply[#reply + 1] = channels[i]
      reply[#reply + 1] = rows[from + 2 * i - 1]
      reply[#reply + 1] = value
    end
  end
end
return {found[1], reply}
