-- Every member of the host sees every other in the roster, subscribed both ways, without a request.
--
--   accounts, roles -> the team -> put into each roster when it is read, never into what is kept
--
-- The workspace's own account is in it, for clients to see; other services' accounts aren't. Of a
-- member in somebody's roster only what they made of it themself is kept: a name, further groups.

local datamanager = require "core.storagemanager".olddm
local jid_bare = require "util.jid".bare
local jid_prep = require "util.jid".prep
local jid_split = require "util.jid".split
local rostermanager = require "core.rostermanager"
local st = require "util.stanza"
local usermanager = require "core.usermanager"
local roles = module:require "mod_stele/roles"

local WORKSPACE = "prose-workspace"
local MEMBERS = { ["prosody:member"] = true, ["prosody:admin"] = true, ["prosody:operator"] = true }
-- Subscriptions in the team can't be given up one by one.
local NOT_IN_TEAM = { subscribed = true, unsubscribe = true, unsubscribed = true }

local NAME = "Team" -- the roster group
local host = module.host

-- One for all, in thousands of rosters: nothing may be written to it.
local colleague = setmetatable({}, {
  __index = { subscription = "both", groups = { [NAME] = true }, persist = false },
  __newindex = function() end,
})

local team -- local parts, once they are known

local function belongs(localpart)
  return localpart == WORKSPACE or MEMBERS[roles.of(localpart, host)] or false
end

local function the_team()
  if not team then
    team = {}
    for localpart in usermanager.users(host) do team[localpart] = belongs(localpart) or nil end
  end
  return team
end

local function address(localpart) return localpart .. "@" .. host end

-- The local part of an address in the team.
local function in_team(jid)
  local localpart, at, resource = jid_split(jid)
  return at == host and not resource and the_team()[localpart] and localpart or nil
end

-- Rosters

local function put(roster, localpart)
  local jid = address(localpart)
  local own = roster[jid]
  if not own or own == colleague then
    roster[jid] = colleague
  else
    own.subscription, own.ask = "both", nil
    own.groups = own.groups or {}
    own.groups[NAME] = true
  end
  roster[false].pending[jid] = nil
end

-- What is left of a colleague who isn't any more.
local function is_left_over(jid, item)
  local localpart, at = jid_split(jid)
  return at == host and item.subscription == "none" and not item.ask and not usermanager.user_exists(localpart, host)
end

local function fill(localpart, roster)
  if not the_team()[localpart] then return end
  for jid, item in pairs(roster) do
    if jid and is_left_over(jid, item) then roster[jid] = nil end
  end
  for other in pairs(team) do
    if other ~= localpart then put(roster, other) end
  end
  -- What changes in it isn't counted: it is given in whole each time.
  roster[false].version = true
end

local function empty(roster)
  for jid, item in pairs(roster) do
    if item == colleague then
      roster[jid] = nil
    elseif jid and in_team(jid) then
      item.subscription, item.groups[NAME] = "none", nil
    end
  end
  roster[false].version = nil
end

module:hook("roster-load", function(event) fill(event.username, event.roster) end)

-- Of those who are online in the team.
local function each_roster(visit)
  for localpart, user in pairs(prosody.hosts[host].sessions) do
    if user.roster and the_team()[localpart] then visit(localpart, user.roster) end
  end
end

-- Rosters of those who aren't are read anew.
local function forget_rosters() prosody.hosts[host].roster_cache = nil end

local function tell(localpart, of) rostermanager.roster_push(localpart, host, address(of)) end

local function join(localpart)
  if the_team()[localpart] or not belongs(localpart) then return end
  team[localpart] = true
  forget_rosters()
  each_roster(function(other, roster)
    if other == localpart then return fill(localpart, roster) end
    put(roster, localpart)
    tell(other, localpart)
  end)
end

local function leave(localpart)
  if not the_team()[localpart] then return end
  forget_rosters()
  each_roster(function(other, roster)
    if other == localpart then return end
    roster[address(localpart)] = nil
    tell(other, localpart)
  end)
  team[localpart] = nil
end

-- What is kept

local function own_part(item)
  local groups = {}
  for group in pairs(item.groups or {}) do groups[group] = group ~= NAME or nil end
  if not item.name and not next(groups) then return nil end
  return { name = item.name, groups = groups, subscription = "none" }
end

local function keep(localpart, at, store, data)
  if at ~= host or store ~= "roster" or not data or not the_team()[localpart] then
    return localpart, at, store, data
  end
  local kept = {}
  for jid, item in pairs(data) do
    if not jid then
      kept[false] = { broken = item.broken, pending = item.pending }
    elseif type(jid) == "string" and in_team(jid) then
      kept[jid] = own_part(item)
    else
      kept[jid] = item
    end
  end
  return localpart, at, store, kept
end

-- What happens

module:hook("stele-account-made", function(event) join(event.username) end)
for _, name in ipairs(roles.CHANGED) do
  module:hook_global(name, function(event)
    local localpart = event.username
    if event.host ~= host or not usermanager.user_exists(localpart, host) then return end
    if belongs(localpart) then join(localpart) else leave(localpart) end
  end, -10) -- when its sessions have ended
end
module:hook_global("user-deleted", function(event)
  if event.host == host then leave(event.username) end
end, -10)

-- Who is deleted takes leave of others only: no roster of a colleague is written for that.
module:hook("roster-item-removed", function(event)
  if in_team(event.jid) and the_team()[event.username] then return true end
end, 10)

module:hook("iq/self/jabber:iq:roster:query", function(event)
  local origin, stanza = event.origin, event.stanza
  local item = stanza.attr.type == "set" and stanza.tags[1].tags[1]
  local jid = item and item.attr.jid and jid_prep(item.attr.jid)
  if not jid or not in_team(jid) or not the_team()[origin.username] then return end
  if item.attr.subscription == "remove" then
    origin.send(st.error_reply(stanza, "cancel", "not-allowed", "Members of the team stay in the roster"))
    return true
  end
  for group in item:childtags("group") do
    if group:get_text() == NAME then return end
  end
  item:text_tag("group", NAME, { xmlns = item.attr.xmlns })
end, 10)

local function on_presence(event)
  local origin, stanza = event.origin, event.stanza
  if not NOT_IN_TEAM[stanza.attr.type] or not the_team()[origin.username] then return end
  local localpart = in_team(jid_bare(stanza.attr.to))
  if not localpart then return end
  tell(origin.username, localpart)
  return true
end

module:hook("pre-presence/bare", on_presence, 10)
module:hook("pre-presence/full", on_presence, 10)

function module.load()
  datamanager.add_callback(keep)
  forget_rosters()
  if not next(prosody.hosts[host].sessions) then return end
  each_roster(function(localpart, roster)
    fill(localpart, roster)
    for other in pairs(team) do
      if other ~= localpart then tell(localpart, other) end
    end
  end)
end

function module.unload()
  datamanager.remove_callback(keep)
  forget_rosters()
  each_roster(function(_, roster) empty(roster) end)
end
