//! Every bound that a client can run into, and what runs out then.

use std::time::Duration;

use hyper::Method;

/// The longest path and query, in bytes: past it, 414.
pub const LONGEST_TARGET: usize = 4096;
/// The most bytes in a request's or a reply's head, and the most fields: past it, 431 or 502.
pub const LONGEST_HEAD: usize = 16 * 1024;
/// See [`LONGEST_HEAD`].
pub const MOST_FIELDS: usize = 64;
/// The most that is read ahead of who takes it, per connection and direction.
pub const BUFFER: usize = LONGEST_HEAD;
/// The same, by the kernel: what it holds counts as the front's memory.
pub const KERNEL_BUFFER: usize = 128 * 1024;
/// How much of a body that is refused is still taken, and for how long: see [`crate::body::discard`].
pub const DISCARD: u64 = 8 * 1024 * 1024;
/// See [`DISCARD`].
pub const DISCARD_WITHIN: Duration = Duration::from_secs(2);
/// The longest report of what installs bundles, in bytes, its end with it.
pub const LONGEST_REPORT: usize = 4097;

/// Bounds that tests make smaller.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections from other machines at a time.
    pub connections: usize,
    /// Connections from one address (of IPv6: one network of /64) at a time.
    pub per_address: usize,
    /// From the start of a connection, or the end of its last reply, to the end of the next
    /// request's head: then it is closed.
    pub head_within: Duration,
    /// For all of a request's body: then 408.
    pub body_within: Duration,
    /// Bytes in a request's body: past it, 413.
    pub body: u64,
    /// The same two of a backup, whose pieces pod-api waits for, and for which it has room or not.
    pub upload_within: Duration,
    /// See [`Limits::upload_within`].
    pub upload: u64,
    /// Bytes in a bundle, more than any slot has: past it, 413.
    pub bundle: u64,
    /// For all of a bundle: then 408.
    pub bundle_within: Duration,
    /// Between two pieces of a bundle: then 408.
    pub piece_within: Duration,
    /// For what installs bundles to take a piece: then 504.
    pub write_within: Duration,
    /// For it to end, once it has them all: then 504.
    pub install_within: Duration,
    /// For pod-api to say who an admin is: then 504.
    pub admin_within: Duration,
    /// For pod-api to take a connection: then 503.
    pub connect_within: Duration,
    /// For pod-api to begin its reply, once it has the request: then 504.
    pub answer_within: Duration,
    /// Between two pieces of pod-api's reply: then the connection is closed.
    pub silence: Duration,
    /// For a client to take what it was sent: then the connection is closed.
    pub take_within: Duration,
    /// For `stele-init` to answer.
    pub state_within: Duration,
    /// How long `stele-init`'s answer is given again.
    pub state_for: Duration,
    /// For replies under way to end, once asked to stop.
    pub stop_within: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            connections: 256,
            per_address: 64,
            head_within: seconds(15),
            body_within: seconds(60),
            body: 2 * 1024 * 1024,
            upload_within: seconds(6 * 3600),
            upload: 1 << 40,
            bundle: 16 << 30,
            bundle_within: seconds(2 * 3600),
            piece_within: seconds(30),
            write_within: seconds(120),
            install_within: seconds(15 * 60),
            admin_within: seconds(15),
            connect_within: seconds(5),
            answer_within: seconds(30),
            silence: seconds(60),
            take_within: seconds(30),
            state_within: seconds(2),
            state_for: seconds(1),
            stop_within: seconds(3),
        }
    }
}

impl Limits {
    /// Of a request with this method, to this path and query of pod-api's.
    pub fn of(&self, method: &Method, target: &str) -> Limits {
        let path = target.split('?').next().unwrap_or_default();
        let name = path.strip_prefix("/v1/backups/").filter(|name| !name.contains('/'));
        match *method == Method::PUT && name.is_some() {
            true => Limits { body: self.upload, body_within: self.upload_within, ..self.clone() },
            false => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backup_may_be_long() {
        let limits = Limits::default();
        for (method, target, is_upload) in [
            (Method::PUT, "/v1/backups/a.tar.zst.age", true),
            (Method::PUT, "/v1/backups/a.tar.zst.age?description=x/y", true),
            (Method::POST, "/v1/backups/a.tar.zst.age", false),
            (Method::PUT, "/v1/backups/a.tar.zst.age/restore", false),
            (Method::PUT, "/v1/backups", false),
            (Method::PUT, "/v1/workspace/icon", false),
        ] {
            let expected = if is_upload { limits.upload } else { limits.body };
            assert_eq!(limits.of(&method, target).body, expected, "{method} {target}");
        }
    }
}
