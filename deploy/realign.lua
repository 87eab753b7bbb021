-- SQL for a Postgres that was restored older than Redis (deploy/OPERATE.md, "Postgres alone"): it gives up the batches that
-- only the lost Postgres had, so that those that Redis still holds can be settled. A partition that lacks nothing stays as it is.
--   redis-cli --raw eval "$(cat deploy/realign.lua)" 0 | psql ...
local lane, sql = 'tally:{0}', {}
local incarnation = redis.call('HGET', lane .. ':meta', 'incarnation')
local open = redis.call('HGETALL', lane .. ':open')
for i = 1, #open, 2 do
  local p, next_number = open[i], redis.call('HGET', lane .. ':sealed', open[i]) or open[i + 1]
  sql[#sql + 1] = string.format('UPDATE partitions SET settled = %d WHERE partition = %d AND settled < %d;',
    next_number - 1, p, next_number - 1)
end
sql[#sql + 1] = string.format('UPDATE partitions SET incarnation = %d WHERE incarnation < %d;', incarnation, incarnation)
return sql
