#!lua name=tally_registry_VERSION
-- The members of the cluster. keys: members (hash id -> JSON), leases (sorted set id -> ms), epoch (integer).
-- Time is Redis' own: members' clocks are never compared. Every function reaps first, so a view never shows a lapsed lease.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function remove(keys, id)
  redis.call('ZREM', keys[2], id)
  return redis.call('HDEL', keys[1], id) == 1
end

local function reap(keys, now)
  local changed = false
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', string.format('%d', now))) do
    changed = remove(keys, id) or changed
  end
  return changed
end

-- {epoch, id, JSON, id, JSON, ...}; the epoch moves exactly when the members or what they say of themselves changed
local function view(keys, changed)
  if changed then redis.call('INCR', keys[3]) end
  local answer = redis.call('HGETALL', keys[1])
  table.insert(answer, 1, redis.call('GET', keys[3]) or '0')
  return answer
end

-- args: id, JSON, lease in ms
local function beat(keys, args)
  local now = now_ms()
  local changed = reap(keys, now)
  if redis.call('HGET', keys[1], args[1]) ~= args[2] then
    redis.call('HSET', keys[1], args[1], args[2])
    changed = true
  end
  redis.call('ZADD', keys[2], string.format('%d', now + tonumber(args[3])), args[1])
  return view(keys, changed)
end

local function leave(keys, args)
  local changed = reap(keys, now_ms())
  return view(keys, remove(keys, args[1]) or changed)
end

local function look(keys, args)
  return view(keys, reap(keys, now_ms()))
end

-- Membership must work when memory is full: without it nobody would settle, and memory could never shrink again.
redis.register_function{function_name='tally_beat_VERSION', callback=beat, flags={'allow-oom'}}
redis.register_function{function_name='tally_leave_VERSION', callback=leave, flags={'allow-oom'}}
redis.register_function{function_name='tally_look_VERSION', callback=look, flags={'allow-oom'}}
