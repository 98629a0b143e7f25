-- Prints what can be seen of others: one `what: answer` a line, and `end` as the last.

local lfs = require "lfs"
local library = "/usr/lib/prosody/util/signal.so"
local signal = assert(package.loadlib(library, "luaopen_prosody_util_signal"))()

local function names(path, matching)
  local found = {}
  local done, why = pcall(function()
    for name in lfs.dir(path) do
      if name:match(matching) then found[#found + 1] = name end
    end
  end)
  if not done then return (why:gsub("^.*: ", "")) end
  table.sort(found)
  return #found == 0 and "nothing" or table.concat(found, " ")
end

for _, path in ipairs {
  "/var/lib/prosody", "/etc/prosody", "/etc/prose", "/run", "/run/stele", "/run/prosody", "/sys",
  "/dev",
} do
  print(path .. ": " .. names(path, "^[^.]"))
end

local own = io.open("/proc/self/stat"):read("n")
local function count(path) return select(2, names(path, "^%d+$"):gsub("%d+", "")) end
print("processes: " .. count("/proc"))
print("kernel: " .. names("/proc", "^%l+[^f]$"))

local function attempt(what, done, why)
  print(what .. ": " .. (done and "done" or tostring(why):gsub("^.*: ", "")))
end
-- PID 1, and every number that another process can have by now.
local reached = {}
for pid = 1, own + 50 do
  if signal.kill(pid, 0) == 0 then reached[#reached + 1] = pid == own and "itself" or pid end
end
print("signals reach: " .. table.concat(reached, " "))
attempt("read the key", io.open("/var/lib/prosody/self-signed.key"))
attempt("read the configuration", io.open("/etc/prosody/prosody.cfg.lua"))
attempt("read the operator's secret", io.open("/etc/prose/env"))
attempt("reach the admin socket", require("socket.unix")():connect("/var/lib/prosody/prosody.sock"))
attempt("reach the admin console", require("socket").tcp():connect("127.0.0.1", 5582))
attempt("write there", io.open("/var/lib/prosody/new", "w"))
attempt("read init's memory", io.open("/proc/1/mem"))
attempt("open the disk", io.open("/dev/vda"))
attempt("keep something in /tmp", io.open("/tmp/looked", "r"))
attempt("write in /tmp", io.open("/tmp/looked", "w"))
print("end")
