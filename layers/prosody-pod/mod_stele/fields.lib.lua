-- Fields of requests: each returns the value in its one normal form, or refuses it.

local base64 = require "util.encodings".base64
local stringprep = require "util.encodings".stringprep
local utf8_valid = require "util.encodings".utf8.valid

local LONGEST_LOCALPART = 64 -- in bytes: as a file's name with each one escaped it still fits
local LONGEST_PASSWORD = 1024
local LONGEST_WAIT = 25 -- seconds; below the 30 s that proxies are silent for
local LONGEST_PROBE = 60 -- seconds
local LONGEST_NAME = 256
local LONGEST_URL = 1024
local LONGEST_PICTURE = 1024 * 1024
local MOST_LOCALPARTS = 64
local ROLES = { ["prosody:admin"] = true, ["prosody:member"] = true, ["prosody:registered"] = true }
local KINDS = { application = true, group = true, individual = true, org = true }
local BEGINNINGS = { -- of pictures
  { "\137PNG\r\n\26\n", "image/png" },
  { "\255\216\255", "image/jpeg" },
  { "GIF87a", "image/gif" },
  { "GIF89a", "image/gif" },
}

-- One line of UTF-8.
local function is_text(value, longest)
  return type(value) == "string" and #value >= 1 and #value <= longest and utf8_valid(value)
    and not value:find("%c")
end

-- One that XML can hold.
local function is_xml_text(value, longest)
  return is_text(value, longest) and not value:find("\239\191[\190\191]")
end

-- The media type of bytes that begin like a picture.
local function kind_of_picture(bytes)
  for _, kind in ipairs(BEGINNINGS) do
    if bytes:sub(1, #kind[1]) == kind[1] then return kind[2] end
  end
end

return function(stele)
  local checks = {}

  local function malformed(field, form)
    stele.refuse(400, "malformed", ("`%s` must be %s"):format(field, form))
  end

  function checks.host(value)
    local host = is_text(value, 253) and stringprep.nameprep(value, true)
    if not host then malformed("host", "a domain") end
    local session = prosody.hosts[host]
    if not session or session.type ~= "local" or host == module.host then
      stele.refuse(404, "no_such_host", "this server has no accounts at that host")
    end
    return host
  end

  function checks.localpart(value)
    local name = is_text(value, LONGEST_LOCALPART) and stringprep.nodeprep(value, true)
    if not name or not is_text(name, LONGEST_LOCALPART) then
      malformed("localpart", "the local part of an XMPP address, of 1 to " .. LONGEST_LOCALPART .. " bytes")
    end
    return name
  end

  function checks.password(value)
    if not is_text(value, LONGEST_PASSWORD) or (stringprep.saslprep(value) or "") == "" then
      malformed("password", "text of 1 to " .. LONGEST_PASSWORD .. " bytes without control characters")
    end
    return value
  end

  function checks.new(value)
    if type(value) ~= "string" or not value:find("^[!-~]+$") or #value < 32 or #value > 512 then
      malformed("new", "32 to 512 printable ASCII characters without blanks")
    end
    return value
  end

  function checks.role(value)
    if type(value) ~= "string" or not ROLES[value] then
      malformed("role", "prosody:admin, prosody:member or prosody:registered")
    end
    return value
  end

  local function whole(value, most)
    return type(value) == "number" and value >= 0 and value <= most and value % 1 == 0
  end

  function checks.since(value)
    if not whole(value, 2 ^ 53) then malformed("since", "a number of `seq`") end
    return value
  end

  function checks.wait(value)
    if not whole(value, LONGEST_WAIT) then malformed("wait", "0 to " .. LONGEST_WAIT .. " seconds") end
    return value
  end

  function checks.seconds(value)
    if value == 0 or not whole(value, LONGEST_PROBE) then
      malformed("seconds", "1 to " .. LONGEST_PROBE .. " seconds")
    end
    return value
  end

  function checks.localparts(value)
    if type(value) ~= "table" or #value < 1 or #value > MOST_LOCALPARTS then
      malformed("localparts", "1 to " .. MOST_LOCALPARTS .. " local parts")
    end
    local names = {}
    for at, name in ipairs(value) do names[at] = checks.localpart(name) end
    return names
  end

  -- What a profile may say: empty takes it away.
  local function property(name, form, is_right)
    checks[name] = function(value)
      if value ~= "" and not is_right(value) then malformed(name, form .. ", or empty") end
      return value
    end
  end

  for _, name in ipairs { "name", "nickname" } do
    property(name, "text of 1 to " .. LONGEST_NAME .. " bytes without control characters", function(value)
      return is_xml_text(value, LONGEST_NAME)
    end)
  end
  for _, name in ipairs { "api_url", "dashboard_url" } do
    property(name, "a URL of HTTP of at most " .. LONGEST_URL .. " bytes", function(value)
      return is_xml_text(value, LONGEST_URL) and value:find("^https?://[!-~]+$")
    end)
  end
  property("accent_color", "like #1972f5", function(value)
    return type(value) == "string" and value:find("^#%x%x%x%x%x%x$")
  end)
  property("kind", "application, group, individual or org", function(value)
    return type(value) == "string" and KINDS[value]
  end)

  -- Bytes; none take the picture away.
  function checks.picture(value)
    local bytes = type(value) == "string" and base64.decode(value)
    if not bytes or #bytes > LONGEST_PICTURE or bytes ~= "" and not kind_of_picture(bytes) then
      malformed("picture", "a PNG, JPEG or GIF of at most 1 MiB in base64, or empty")
    end
    return bytes
  end

  stele.checks, stele.is_xml_text, stele.kind_of_picture = checks, is_xml_text, kind_of_picture
end
