//! Every bound that a client can run into, and what runs out then.

use std::time::Duration;

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
