-- What an account shows of itself, where chat clients look for it: a vCard (XEP-0292), a nickname
-- (XEP-0172) and a picture (XEP-0084), as nodes of its own pubsub service that everybody may read.
--
-- Where a nickname of its own and the vCard's differ, whichever was published last is right: the
-- vCard follows.

local array = require "util.array"
local base64 = require "util.encodings".base64
local json = require "util.json"
local modulemanager = require "core.modulemanager"
local sha1 = require "util.hashes".sha1
local st = require "util.stanza"
local usermanager = require "core.usermanager"

local XMLNS_PUBSUB = "http://jabber.org/protocol/pubsub"
local XMLNS_VCARD = "urn:ietf:params:xml:ns:vcard-4.0"
-- Nodes; but for the vCard's they are called like the namespace of what is in them.
local VCARD = "urn:xmpp:vcard4"
local NICK = "http://jabber.org/protocol/nick"
local METADATA = "urn:xmpp:avatar:metadata"
local DATA = "urn:xmpp:avatar:data"
local TOLD_OF = { [VCARD] = true, [NICK] = true, [METADATA] = true }
local HAPPENINGS = { "item-published", "item-retracted", "node-purged", "node-deleted" }
-- The element of a vCard that has a property's text.
local ELEMENTS = {
  accent_color = "x-accent-color",
  api_url = "x-prose-pod-api-url",
  dashboard_url = "x-prose-pod-dashboard-url",
  kind = "kind",
  name = "fn",
  nickname = "nickname",
}
local PROPERTIES = { "name", "nickname", "kind", "accent_color", "dashboard_url", "api_url" }
local LONGEST_TEXT = 1024 -- of what is told; clients may publish more
local LONGEST_PICTURE_BODY = 1536 * 1024 -- 1 MiB in base64, and what is around it

-- The last thing in a node, and its id.
local function last(service, node)
  local done, id, item = service:get_last_item(node, true)
  if done and id and item.tags[1] then return item.tags[1], id end
end

-- By its name alone: Prosody itself makes some without a namespace.
local function child_of(element, name)
  for _, tag in ipairs(element and element.tags or {}) do
    if tag.name == name then return tag end
  end
end

local function text_of(vcard, property)
  local text = child_of(child_of(vcard, ELEMENTS[property]), "text")
  return text and text:get_text()
end

local function element_of(property, text)
  local element = st.stanza(ELEMENTS[property], { xmlns = XMLNS_VCARD })
  return element:text_tag("text", text, { xmlns = XMLNS_VCARD })
end

-- A vCard with these properties; all else of it stays. Empty ones are taken away.
local function with(vcard, properties)
  local new = vcard and st.clone(vcard) or st.stanza("vcard", { xmlns = XMLNS_VCARD })
  for _, property in ipairs(PROPERTIES) do
    local name, text = ELEMENTS[property], properties[property]
    if text then
      local element = text ~= "" and element_of(property, text) or nil
      new:maptags(function(tag)
        if tag.name ~= name then return tag end
        local instead = element
        element = nil
        return instead
      end)
      if element then new:add_child(element) end
    end
  end
  return new
end

return function(stele)
  -- Is something published by us, so that it is told when all of it is done? Was anything?
  local is_ours, has_published = false, false

  local function service_of(input)
    stele.must_exist(input)
    local pep = modulemanager.get_module(input.host, "pep")
    stele.must(pep)
    return pep.get_pep_service(input.localpart)
  end

  -- Makes it a node that everybody may read, now and after a restart.
  local function open_node(service, node)
    local done, config = service:get_node_config(node, true)
    if not done then
      stele.must(service:create(node, true, { access_model = "open", persist_items = true, max_items = 1 }))
    elseif config.access_model ~= "open" or not config.persist_items then
      config.access_model, config.persist_items = "open", true
      stele.must(service:set_node_config(node, true, config))
    end
  end

  local function publish(service, node, id, payload)
    open_node(service, node)
    local item = st.stanza("item", { xmlns = XMLNS_PUBSUB, id = id }):add_child(payload)
    stele.must(service:publish(node, true, id, item))
    has_published = true
  end

  local function nick_of(service)
    local nick = last(service, NICK)
    return nick and nick:get_text()
  end

  -- Only what can be said in an answer: clients publish what they like.
  local function told(text)
    return stele.is_xml_text(text, LONGEST_TEXT) and text or nil
  end

  local function avatar_of(service)
    local metadata = last(service, METADATA)
    local info = child_of(metadata, "info")
    local id = info and info.attr.id
    if not id or not id:find("^%x+$") or #id ~= 40 then return end
    local bytes = tostring(info.attr.bytes):match("^%d+$")
    bytes = bytes and #bytes <= 9 and tonumber(bytes) or nil -- no other number: JSON has no infinity
    return { id = id:lower(), type = told(info.attr.type), bytes = bytes }
  end

  local function shown_of(service)
    local vcard = last(service, VCARD)
    return {
      nickname = told(text_of(vcard, "nickname")) or told(nick_of(service)),
      avatar = avatar_of(service),
    }
  end

  -- Changes

  local function tell(host, localpart, service)
    if not usermanager.user_exists(localpart, host) then return end
    stele.record_of("profile", localpart, host, shown_of(service))
  end

  local function follow_nick(service)
    local vcard, nick = last(service, VCARD), told(nick_of(service))
    local named = text_of(vcard, "nickname")
    if nick and named and nick ~= named then publish(service, VCARD, "current", with(vcard, { nickname = nick })) end
  end

  -- Publishes by `change`. Tells of it once, or not at all if nothing is another than before. Was it?
  local function publish_by(change, host, localpart, service)
    is_ours, has_published = true, false
    local done, err = pcall(change, service)
    is_ours = false
    if has_published then tell(host, localpart, service) end
    if not done then error(err, 0) end
    return has_published
  end

  local followers = setmetatable({}, { __mode = "k" }) -- of services

  local function follow(host, service)
    local localpart = service.config.pep_username
    local function happened(event)
      if is_ours or not TOLD_OF[event.node] then return end
      local is_nick = event.node == NICK and event.item ~= nil
      local is_told = is_nick and publish_by(follow_nick, host, localpart, service)
      if not is_told then tell(host, localpart, service) end
    end
    for _, name in ipairs(HAPPENINGS) do module:hook_object_event(service.events, name, happened) end
    followers[service] = happened
  end

  local function unfollow(service)
    for _, name in ipairs(HAPPENINGS) do
      if followers[service] then module:unhook_object_event(service.events, name, followers[service]) end
    end
    followers[service] = nil
  end

  stele.watch_hosts(function(host, session)
    module:hook_object_event(session.events, "item-added/pep-service", function(event)
      follow(host, event.item.service)
    end)
    module:hook_object_event(session.events, "item-removed/pep-service", function(event)
      unfollow(event.item.service)
    end)
    for _, item in ipairs(modulemanager.get_items("pep-service", host) or {}) do follow(host, item.service) end
  end)

  -- Verbs

  stele.verbs.profile = { needs = { "host", "localpart" }, run = function(input)
    local service = service_of(input)
    local vcard, profile = last(service, VCARD), shown_of(service)
    for _, property in ipairs(PROPERTIES) do
      profile[property] = profile[property] or told(text_of(vcard, property))
    end
    return profile
  end }

  stele.verbs.profiles = { needs = { "host", "localparts" }, run = function(input)
    local profiles = array()
    for _, localpart in ipairs(input.localparts) do
      if usermanager.user_exists(localpart, input.host) then
        -- What is wrong with one isn't the others' fault.
        local done, profile = pcall(function()
          return shown_of(service_of({ host = input.host, localpart = localpart }))
        end)
        if not done then
          module:log("error", "cannot read the profile of %s: %s", localpart, tostring(profile))
          profile = {}
        end
        profile.localpart = localpart
        profiles:push(profile)
      end
    end
    return { seq = stele.seq(), profiles = profiles }
  end }

  stele.verbs.set_profile = { needs = { "host", "localpart" }, may = PROPERTIES, run = function(input)
    publish_by(function(service)
      local vcard = last(service, VCARD)
      local new = with(vcard, input)
      if tostring(vcard) ~= tostring(new) then publish(service, VCARD, "current", new) end
      local nickname = input.nickname
      if nickname == "" and last(service, NICK) then
        publish(service, NICK, "current", st.stanza("nick", { xmlns = NICK }))
        service:purge(NICK, true)
      elseif nickname and nickname ~= "" and nickname ~= nick_of(service) then
        publish(service, NICK, "current", st.stanza("nick", { xmlns = NICK }):text(nickname))
      end
    end, input.host, input.localpart, service_of(input))
    return {}
  end }

  stele.verbs.avatar = { needs = { "host", "localpart" }, run = function(input)
    local service = service_of(input)
    local avatar = avatar_of(service)
    local done, items = service:get_items(DATA, true, { avatar and avatar.id })
    local item = avatar and done and items[avatar.id]
    local bytes = item and base64.decode(item.tags[1]:get_text() or "")
    if not bytes or bytes == "" then stele.refuse(404, "no_avatar", "the account has no picture") end
    avatar.bytes = #bytes
    -- Not by json.encode, which would look at each of its characters.
    return (json.encode(avatar):gsub("}$", ',"picture":"' .. base64.encode(bytes) .. '"}'))
  end }

  local function take_picture_away(service)
    if not last(service, METADATA) then return end
    -- Without a picture's data in it, so are told those who are online; others find nothing.
    publish(service, METADATA, "current", st.stanza("metadata", { xmlns = METADATA }))
    service:purge(METADATA, true)
    service:purge(DATA, true)
  end

  local function show_picture(service, bytes)
    local id = sha1(bytes, true)
    local shown = avatar_of(service)
    if shown and shown.id == id then return end
    local info = { xmlns = METADATA, id = id, type = stele.kind_of_picture(bytes), bytes = tostring(#bytes) }
    -- In this order: who is told of it can get it.
    publish(service, DATA, id, st.stanza("data", { xmlns = DATA }):text(base64.encode(bytes)))
    publish(service, METADATA, id, st.stanza("metadata", { xmlns = METADATA }):tag("info", info):reset())
  end

  stele.verbs.set_avatar = {
    needs = { "host", "localpart", "picture" },
    longest_body = LONGEST_PICTURE_BODY,
    run = function(input)
      local service = service_of(input)
      publish_by(function()
        if input.picture == "" then take_picture_away(service) else show_picture(service, input.picture) end
      end, input.host, input.localpart, service)
      return avatar_of(service) or {}
    end,
  }
end
