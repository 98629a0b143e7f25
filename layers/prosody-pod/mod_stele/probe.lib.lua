-- The account by which the appliance finds out whether the Server serves: `stele-probe`, at a host
-- that people talk to, with a password that is known for as long as a probe takes.
--
--   probe (a verb) -> armed -> it logs in -> its message to itself comes back -> its time is over
--
-- It is in no store, and so in no list, count, roster or backup. What it sends to others, and others
-- to it, comes back; nothing that it says is archived.

local hashers = require "util.sasl.scram".hashers
local hashes = require "util.hashes"
local jid_bare = require "util.jid".bare
local jid_split = require "util.jid".split
local random = require "util.random"
local roles = module:require "mod_stele/roles"
local saslprep = require "util.encodings".stringprep.saslprep
local st = require "util.stanza"

local NAME = roles.PROBE
local ITERATIONS = 4096 -- the fewest that clients take: the password is random, and soon nobody's
local FIRST = 1000 -- before all others that look at a stanza
local OVER = { condition = "policy-violation", text = "This account's time is over" }

local armed = {} -- host = its password there

-- Logging in

local function scram_keys(account, hash)
  local keys = hashers[hash:upper():gsub("_", "-")]
  local done, stored_key, server_key = keys(account.password, account.salt, ITERATIONS)
  if done then return stored_key, server_key, ITERATIONS, account.salt, true end
end

-- Lets it log in by each mechanism that members have.
local function admit(host, profile)
  local function instead(name, of_probe)
    local of_others = profile[name]
    profile[name] = function(sasl, username, ...)
      local account = username == NAME and armed[host]
      if account then return of_probe(account, ...) end
      return of_others(sasl, username, ...)
    end
  end
  for name in pairs(profile) do
    local hash = name:match("^scram_(.+)$")
    if hash then
      instead(name, function(account) return scram_keys(account, hash) end)
    elseif name == "plain_test" then
      instead(name, function(account, password) return hashes.equals(account.password, password), true end)
    end
  end
end

local wrapped = {}

local function wrap_provider(host)
  local provider = prosody.hosts[host].users
  local create, login = provider.create_user, provider.get_sasl_handler
  local function create_others(localpart, ...)
    if localpart == NAME then return nil, "the name is reserved" end
    return create(localpart, ...)
  end
  local function login_of_all(...)
    local handler = login(...)
    admit(host, handler.profile or {})
    return handler
  end
  provider.create_user, provider.get_sasl_handler = create_others, login_of_all
  wrapped[#wrapped + 1] = function()
    if provider.create_user == create_others then provider.create_user = create end
    if provider.get_sasl_handler == login_of_all then provider.get_sasl_handler = login end
  end
end

-- Stanzas

local function refuse(event, condition)
  local stanza = event.stanza
  local kind = stanza.attr.type
  if stanza.name ~= "presence" and kind ~= "error" and kind ~= "result" then
    event.origin.send(st.error_reply(stanza, "cancel", condition))
  end
  return true
end

local function on_sent(event)
  local origin, stanza = event.origin, event.stanza
  if origin.username ~= NAME then return end
  if stanza.name == "message" and stanza.attr.to == origin.full_jid then return end
  return refuse(event, "not-allowed")
end

-- As if there were no such account.
local function on_received(event)
  local to = event.stanza.attr.to
  if to and jid_split(to) == NAME and event.stanza.attr.from ~= to then
    return refuse(event, "service-unavailable")
  end
end

local function guard(host, events)
  local function hook(name, handler) module:hook_object_event(events, name, handler, FIRST) end
  hook("pre-stanza", on_sent)
  -- Others begin to keep something of who is there.
  hook("resource-bind", function(event) return event.session.username == NAME or nil end)
  for _, kind in ipairs { "iq", "message", "presence" } do
    hook(kind .. "/bare", on_received)
    hook(kind .. "/full", on_received)
  end
  hook("archive-should-store", function(event)
    if jid_bare(event.stanza.attr.from) == NAME .. "@" .. host then return false end
  end)
end

-- Its time

local function disarm(host)
  if not armed[host] then return end
  armed[host].timer:stop()
  armed[host] = nil
  local session = prosody.hosts[host]
  local user = session and session.sessions[NAME]
  for _, own in pairs(user and user.sessions or {}) do own:close(OVER) end
end

return function(stele)
  stele.watch_hosts(function(host, session)
    wrap_provider(host)
    guard(host, session.events)
  end)

  -- It may log in there by this password, for so many seconds; then it is gone.
  stele.verbs.probe = { needs = { "host", "password", "seconds" }, run = function(input)
    local host = input.host
    disarm(host)
    armed[host] = {
      password = saslprep(input.password),
      salt = random.bytes(16),
      timer = module:add_timer(input.seconds, function() disarm(host) end),
    }
    return {}
  end }

  function stele.stop_probing()
    for host in pairs(armed) do disarm(host) end
    for _, unwrap in ipairs(wrapped) do unwrap() end
  end
end
