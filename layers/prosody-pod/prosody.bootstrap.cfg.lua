-- Written by Stele; what the Server starts with until the gate is open.

pidfile = "/run/prosody/prosody.pid"
data_path = "/var/lib/prosody"
certificates = "/etc/prosody"
plugin_paths = { "/usr/share/prose/modules" }
log = { info = "*console" }
http_ports = { 5280 }
http_interfaces = { "127.0.0.1" }
https_ports = {}
c2s_ports = { 5222 }
c2s_direct_tls_ports = {}
s2s_ports = { 5269 }
s2s_direct_tls_ports = {}
s2s_require_encryption = true
s2s_secure_auth = false
ssl = { cafile = "/etc/ssl/certs/ca-certificates.crt" }
modules_enabled = {}
authentication = "internal_hashed"
storage = "internal"
allow_registration = false
limits = { c2s = { rate = "50kb/s", burst = "2s" }, s2sin = { rate = "250kb/s", burst = "4s" } }

VirtualHost "admin.prose.local"
storage = "memory"
modules_enabled = { "stele" }
modules_disabled = { "c2s", "iq", "message", "offline", "presence", "s2s", "s2s_auth_certs" }
default_iteration_count = 4096
disco_hidden = true
