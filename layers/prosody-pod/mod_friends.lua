-- The host talks to no other servers but `friendly_servers`: nothing is sent to another, whatever
-- another proves to be it isn't listened to. Exactly those names: a room service has one of its own.

local nameprep = require "util.encodings".stringprep.nameprep
local to_ascii = require "util.encodings".idna.to_ascii

local friends = module:get_option_set("friendly_servers", {})
local REFUSAL = { condition = "policy-violation", text = "This server talks to servers of its choice only" }

local function is_friend(name)
  name = name and nameprep(name)
  name = name and to_ascii(name)
  return name and friends:contains(name)
end

local function refuse(session)
  module:log("info", "refused a stream of %s", session.from_host == module.host and session.to_host or session.from_host)
  session:close(REFUSAL)
end

-- Not routed: who sends it gets an error. Questions of dialback are among it.
module:hook("route/remote", function(event)
  if not is_friend(event.to_host) then return false end
end, 100)

-- Early, where it says whom it comes from.
module:hook("s2s-stream-features", function(event)
  local session = event.origin
  if session.from_host and not is_friend(session.from_host) then
    refuse(session)
    return true
  end
end, 1000)

-- One stream may carry further hosts.
module:hook("stanza/jabber:server:dialback:result", function(event)
  local session = event.origin
  if session.direction == "incoming" and not is_friend(event.stanza.attr.from) then
    refuse(session)
    return true
  end
end, 100)

-- However it was proved.
module:hook("s2s-authenticated", function(event)
  if is_friend(event.host) then return end
  refuse(event.session)
  return false
end, 100)

-- Those that aren't friends any more.
local function is_foreign(session)
  if session.from_host and not is_friend(session.from_host) then return true end
  for name in pairs(session.hosts or {}) do
    if not is_friend(name) then return true end
  end
  return false
end

function module.load()
  for session in pairs(prosody.incoming_s2s or {}) do
    if session.to_host == module.host and is_foreign(session) then refuse(session) end
  end
  for name, session in pairs(prosody.hosts[module.host].s2sout or {}) do
    if not is_friend(name) then refuse(session) end
  end
end
