-- Changes, numbered. The numbers of a process start beyond all of those before it: whoever kept one
-- over a restart is told that it is gone.

local array = require "util.array"
local json = require "util.json"
local usermanager = require "core.usermanager"
local roles = module:require "mod_stele/roles"

local MOST_CHANGES = 1024 -- that are remembered
local MOST_WAITING = 16

local first = os.time() * 0x100000
local seq, ring = first, {}
local waiting = {}

local function changes_after(since)
  local changes = array()
  for number = since + 1, seq do
    changes:push(ring[number % MOST_CHANGES])
  end
  return { seq = seq, changes = changes }
end

local function answer_all()
  local waiters = waiting
  waiting = {}
  for _, waiter in ipairs(waiters) do waiter.answer() end
end

local function record(change)
  seq = seq + 1
  change.seq = seq
  ring[seq % MOST_CHANGES] = change
  answer_all()
end

local function record_of(kind, localpart, host, more)
  if host == module.host then return end
  local change = more or {}
  change.kind, change.localpart, change.host = kind, localpart, host
  record(change)
end

local online = {}
local watchers = {} -- of hosts

local function note_presence(localpart, host)
  if localpart == roles.PROBE then return end
  local jid = localpart .. "@" .. host
  local is_online = prosody.hosts[host].sessions[localpart] ~= nil
  if is_online ~= (online[jid] or false) then
    online[jid] = is_online or nil
    record_of("presence", localpart, host, { online = is_online })
  end
end

-- Every way to make an account ends in its host's provider, and only some tell of it.
local wrapped = {}

local function wrap_provider(host)
  local provider = prosody.hosts[host].users
  local create = provider.create_user
  local function create_and_tell(localpart, ...)
    local done, err = create(localpart, ...)
    if done then
      record_of("account", localpart, host, { exists = true, role = roles.of(localpart, host) })
      prosody.hosts[host].events.fire_event("stele-account-made", { username = localpart })
    end
    return done, err
  end
  provider.create_user = create_and_tell
  wrapped[#wrapped + 1] = function()
    if provider.create_user == create_and_tell then provider.create_user = create end
  end
end

local function watch(host)
  local session = prosody.hosts[host]
  if not session or session.type ~= "local" or host == module.host then return end
  wrap_provider(host)
  for localpart in pairs(session.sessions) do online[localpart .. "@" .. host] = true end
  local function changed(event) note_presence(event.session.username, host) end
  module:hook_object_event(session.events, "resource-bind", changed)
  module:hook_object_event(session.events, "resource-unbind", changed)
  for _, watcher in ipairs(watchers) do watcher(host, session) end
end

module:hook_global("host-activated", function(host)
  watch(host)
  if prosody.hosts[host].type == "local" then record({ kind = "host", host = host, exists = true }) end
end, -10)
module:hook_global("host-deactivated", function(host)
  record({ kind = "host", host = host, exists = false })
end)
module:hook_global("user-deleted", function(event)
  record_of("account", event.username, event.host, { exists = false })
end)
module:hook_global("user-password-changed", function(event)
  record_of("password", event.username, event.host)
end)
for _, name in ipairs(roles.CHANGED) do
  module:hook_global(name, function(event)
    local localpart, host = event.username, event.host
    if usermanager.user_exists(localpart, host) then
      record_of("role", localpart, host, { role = roles.of(localpart, host) })
    end
  end)
end

-- Answers at once if there is something to tell; else when there is, or after `wait`.
local function wait_for_changes(since, seconds, response)
  local waiter = {}
  local timer
  local function forget()
    timer:stop()
    for at, other in ipairs(waiting) do
      if other == waiter then table.remove(waiting, at) end
    end
  end
  function waiter.answer()
    if not response.finished then response:send(json.encode(changes_after(since))) end
  end
  timer = module:add_timer(seconds, waiter.answer)
  response.on_destroy = forget
  waiting[#waiting + 1] = waiter
  if #waiting > MOST_WAITING then waiting[1].answer() end
end

return function(stele)
  stele.verbs.changes = { needs = { "since" }, may = { "wait" }, run = function(input, response)
    local since = input.since // 1 | 0
    if since > seq or since < math.max(first, seq - MOST_CHANGES) then
      stele.refuse(410, "gone", "changes after that number aren't known: read everything anew")
    end
    if since == seq and (input.wait or 0) > 0 then
      return wait_for_changes(since, input.wait, response)
    end
    return changes_after(since)
  end }

  -- The number of the last one.
  function stele.seq() return seq end

  stele.record_of = record_of

  -- `watcher` is told of each host that accounts may be at, with its session.
  function stele.watch_hosts(watcher) watchers[#watchers + 1] = watcher end

  -- What is there already.
  function stele.watch_all()
    for host in pairs(prosody.hosts) do watch(host) end
  end

  function stele.stop_watching()
    answer_all()
    for _, unwrap in ipairs(wrapped) do unwrap() end
  end
end
