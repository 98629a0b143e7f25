-- Who asks: the account that the API and the Server share. Its verified secret is kept as a digest
-- by a key of this process, since hashing a password as it is stored takes as long as 1000 requests.

local base64 = require "util.encodings".base64
local hashes = require "util.hashes"
local random = require "util.random"
local throttle = require "util.throttle"
local usermanager = require "core.usermanager"

local API_USER = "prose-pod-api"
local API_JID = API_USER .. "@" .. module.host
local LONGEST_SECRET = 1024

local digest_key = random.bytes(32)
local known -- the digest of the account's secret, once that is certain
local failures = throttle.create(20, 20) -- wrong secrets; a right one is never held up

local function digest(secret) return hashes.hmac_sha256(digest_key, secret) end

module:hook_global("user-password-changed", function(event)
  if event.host == module.host and event.username == API_USER then known = nil end
end)

local function credential()
  local folder = os.getenv("CREDENTIALS_DIRECTORY")
  for _, name in ipairs { "current", "bootstrap" } do
    local file = folder and io.open(folder .. "/" .. name, "rb")
    if file then
      local secret = file:read("a"):gsub("\n$", "")
      file:close()
      return secret
    end
  end
end

local function make_account()
  if usermanager.user_exists(API_USER, module.host) then return end
  local secret = credential()
  if not secret or secret == "" or #secret > LONGEST_SECRET then
    module:log("error", "cannot create account %s: there is no credential for it", API_JID)
  elseif usermanager.create_user(API_USER, secret, module.host) then
    known = digest(secret)
  else
    module:log("error", "cannot create account %s: its credential is no password", API_JID)
  end
end

return function(stele)
  function stele.authenticate(request)
    local encoded = (request.headers.authorization or ""):match("^[Bb]asic +([%w+/=]+)$")
    local user, secret = (encoded and base64.decode(encoded) or ""):match("^([^:]*):(.+)$")
    if user ~= API_JID or #secret > LONGEST_SECRET then
      stele.refuse(401, "unauthorized", "that isn't the Pod API")
    end
    if known and hashes.equals(known, digest(secret)) then return end
    if not failures:poll(1) then stele.refuse(429, "slow_down", "there were too many wrong secrets") end
    if known or not usermanager.test_password(API_USER, module.host, secret) then
      stele.refuse(401, "unauthorized", "that isn't the secret")
    end
    known = digest(secret)
  end

  stele.make_account = make_account

  stele.verbs.rotate_secret = { needs = { "new" }, run = function(input)
    if hashes.equals(known, digest(input.new)) then
      stele.refuse(409, "unchanged", "the new secret is the old one")
    end
    stele.must(usermanager.set_password(API_USER, input.new, module.host))
    known = digest(input.new)
    return {}
  end }
end
