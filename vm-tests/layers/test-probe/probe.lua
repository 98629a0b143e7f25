-- Prints what a service sees and may do: one `what: answer` a line, and `end` as the last.

local function answer(what, text)
  print(what .. ": " .. text)
end

-- A new file, then an old one: both must be refused by the file system, not only by permissions.
local function write(path, mode)
  local file, why = io.open(path, mode)
  if not file then
    return answer("write " .. path, (why:gsub("^.*: ", "")))
  end
  local done, refused = file:write("x")
  if done then
    done, refused = file:flush()
  end
  file:close()
  answer("write " .. path, done and "done" or refused)
end

for _, path in ipairs {
  "/new", "/etc/new", "/usr/new", "/usr/lib/new", "/usr/share/stele-test/new", "/var/new",
} do
  write(path, "w")
end
write("/etc/passwd", "a")
write("/usr/lib/stele/stele-init", "a")
write("/usr/share/stele-test/probe.lua", "a")
-- The control: where writing is allowed, the very same works.
write("/tmp/new-" .. io.open("/proc/self/stat"):read("n"), "w")

for line in io.lines("/proc/self/status") do
  local name, value = line:match("^(%w+):%s*(.*)$")
  if name and ("Uid Gid Groups Umask NoNewPrivs Seccomp CapInh CapPrm CapEff CapBnd CapAmb")
      :find(name, 1, true) then
    value = value:gsub("%s+", " ")
    answer(name, value == "" and "none" or value)
  end
end

for line in io.lines("/proc/self/mounts") do
  local device, place, kind, options = line:match("^(%S+) (%S+) (%S+) (%S+)")
  answer("mount " .. place, device .. " " .. kind .. " " .. options)
end

answer("environment", (os.getenv("PATH") or "-") .. " " .. (os.getenv("HOME") or "-"))
print("end")
