-- The whole configuration of this Server.

daemonize = false
pidfile = "/run/prosody/prosody.pid"
data_path = "/var/lib/prosody"
certificates = "/etc/prosody"
log = { info = "*console" }

modules_enabled = {
  "blocklist", "bookmarks", "carbons", "csi_simple", "disco", "mam", "pep", "ping", "roster",
  "saslauth", "smacks", "tls", "vcard4", "vcard_legacy",
}

ssl = { cafile = "/etc/ssl/certs/ca-certificates.crt" }
c2s_require_encryption = true
s2s_require_encryption = true
authentication = "internal_hashed"

VirtualHost "prose.local"
  ssl = {
    key = "/var/lib/prosody/self-signed.key",
    certificate = "/var/lib/prosody/self-signed.crt",
  }
