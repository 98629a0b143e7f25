//! The calls that no safe interface offers. All `unsafe` code of PID 1 is in this file.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::fs::File;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

use crate::log;

/// Runs `child` in a new process, which ends with the status that it returns. Of the descriptors it
/// has the standard ones, the log and those of `kept`: a connection that PID 1 closes is closed,
/// however long the child lives.
///
/// PID 1 has one thread, so the copy is a whole process; still, `child` should neither allocate nor
/// take a lock.
pub fn fork(kept: &[BorrowedFd], child: impl FnOnce() -> c_int) -> nix::Result<Pid> {
    let kept = kept.iter().copied().chain(log::file());
    let mut kept: Vec<c_int> = kept.map(|file| file.as_raw_fd()).collect();
    kept.sort_unstable();
    // SAFETY: no other thread exists that could hold a lock in the copy. nix has only this unsafe
    // call.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            close_all_but(&kept);
            exit_now(child())
        }
    }
}

/// Closes all descriptors of this process but the standard ones and those, which are in order.
fn close_all_but(kept: &[c_int]) {
    let mut first: c_int = 3;
    let ends = kept.iter().map(|number| (number - 1, number + 1));
    for (last, next) in ends.chain([(c_int::MAX, c_int::MAX)]) {
        if first <= last {
            // SAFETY: takes numbers. In a child that ends without a destructor, nobody uses or closes
            // them any more. nix doesn't have it.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = first.max(next);
    }
}

/// As [`fork`]; the process is also known by a descriptor, which never comes to mean another one.
///
/// It is not born in its cgroup (CLONE_INTO_CGROUP): Linux 6.12 kills such a process at once if
/// the group's `cgroup.kill` was ever used, comparing how often it was with its parent's group.
pub fn fork_known(child: impl FnOnce() -> c_int) -> nix::Result<(Pid, OwnedFd)> {
    let mut process: c_int = -1;
    // SAFETY: all-zero bytes are a valid clone_args, which asks for nothing.
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.flags = libc::CLONE_PIDFD as u64;
    arguments.pidfd = ptr::from_mut(&mut process).expose_provenance() as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    let (size, arguments) = (mem::size_of::<libc::clone_args>(), ptr::from_mut(&mut arguments));
    // SAFETY: without CLONE_VM the child has a copy of everything, its stack included, as after
    // fork; no other thread exists that could hold a lock in it. The kernel writes the descriptor
    // to `process`, which outlives the call. Neither nix nor libc has this call.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone3, arguments, size) })?;
    if pid == 0 {
        exit_now(child());
    }
    // SAFETY: the kernel has just opened it, for us alone.
    let process = unsafe { OwnedFd::from_raw_fd(process) };
    Ok((Pid::from_raw(pid as libc::pid_t), process))
}

/// Sends a signal to the process of a descriptor of [`fork_known`]'s.
pub fn send_signal(process: BorrowedFd, signal: Signal) -> nix::Result<()> {
    let (process, signal) = (process.as_raw_fd(), signal as c_int);
    let information = ptr::null::<libc::siginfo_t>();
    // SAFETY: takes numbers and a pointer that may be null. nix doesn't have it.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, information, 0) };
    Errno::result(sent).map(drop)
}

/// Ends this process at once: no destructor, no buffer is written.
pub fn exit_now(status: c_int) -> ! {
    // SAFETY: takes a number and doesn't return. `std::process::exit` would run what the parent
    // registered.
    unsafe { libc::_exit(status) }
}

/// A program to become: everything that execve takes, allocated beforehand.
#[derive(Debug)]
pub struct Exec {
    program: CString,
    arguments: Pointers,
    environment: Pointers,
}

/// Strings, and the array of pointers to them, ended by a null one, that the kernel wants.
#[derive(Debug)]
struct Pointers {
    array: Vec<*const c_char>,
    /// Owns what `array` points to; a `CString`'s bytes stay where they are when it is moved.
    _strings: Vec<CString>,
}

impl Pointers {
    fn new(strings: Vec<CString>) -> Pointers {
        let ends = [ptr::null()];
        let array = strings.iter().map(|string| string.as_ptr()).chain(ends).collect();
        Pointers { array, _strings: strings }
    }
}

impl Exec {
    /// `arguments` begin with the program's own name.
    pub fn new(program: CString, arguments: Vec<CString>, environment: Vec<CString>) -> Exec {
        let (arguments, environment) = (Pointers::new(arguments), Pointers::new(environment));
        Exec { program, arguments, environment }
    }

    /// Becomes the program. Comes back only if that failed. Allocates nothing.
    pub fn run(&self) -> Errno {
        let (arguments, environment) =
            (self.arguments.array.as_ptr(), self.environment.array.as_ptr());
        // SAFETY: both arrays end with a null pointer, and the strings live as long as `self`.
        // nix's execve allocates its arrays, which a forked child shouldn't.
        unsafe { libc::execve(self.program.as_ptr(), arguments, environment) };
        Errno::last()
    }
}

/// Another descriptor of the same file, with this number at least; no program inherits it.
pub fn duplicate_from(file: BorrowedFd, least: c_int) -> nix::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number and opens a new descriptor, owned by nobody else. nix
    // returns a bare number.
    unsafe {
        let number = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least);
        Ok(OwnedFd::from_raw_fd(Errno::result(number)?))
    }
}

/// In a child before it becomes a program: `number` is this file from now on, whatever it was. The
/// program inherits it.
pub fn place(file: BorrowedFd, number: c_int) -> nix::Result<()> {
    // SAFETY: takes numbers. Whoever owns what had this one doesn't use it any more: this process
    // does nothing but become a program. nix wants an owned descriptor, which would close it.
    Errno::result(unsafe { libc::dup2(file.as_raw_fd(), number) }).map(drop)
}

/// In a child before it becomes a program: no signal blocked, each with its default effect, and no
/// descriptor from `first` on left open for the program.
pub fn forget_signals_and_files(first: c_int) {
    // SAFETY: only this process' own dispositions, mask and descriptor flags change; both signal
    // sets are initialised by sigemptyset. Failures (SIGKILL has no other disposition; a kernel
    // without close_range) leave things as they were. nix can't name real-time signals.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        libc::syscall(libc::SYS_close_range, first, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// What root may do, and others may be given: numbers of `linux/capability.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Give files another owner.
    Chown = 0,
    /// Read and write whatever the modes say.
    DacOverride = 1,
    /// Read whatever the modes say.
    DacReadSearch = 2,
    /// Do to others' files what only their owner may.
    Fowner = 3,
}

/// Empties the capability bounding set, but for these: no program this process becomes ever gains
/// another.
pub fn drop_bounding_set(kept: &[Capability]) -> nix::Result<()> {
    for capability in 0.. {
        if kept.iter().any(|kept| *kept as c_int == capability) {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes a number. nix doesn't have it.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            // Past the last capability that this kernel knows.
            Err(Errno::EINVAL) if capability > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Has the next change of user take no capability.
pub fn keep_capabilities() -> nix::Result<()> {
    // SAFETY: PR_SET_KEEPCAPS takes a number. nix doesn't have it.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }).map(drop)
}

/// Leaves this process, and the program that it becomes, with these capabilities and no others.
pub fn limit_capabilities(to: &[Capability]) -> nix::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`, which has two sets of three words.
    const VERSION: u32 = 0x2008_0522;
    let low = to.iter().fold(0u32, |set, it| set | 1 << *it as u32);
    let (header, sets): ([u32; 2], [u32; 6]) = ([VERSION, 0], [low, low, low, 0, 0, 0]);
    // SAFETY: the kernel reads a header and two sets, laid out as its own; prctl takes numbers. nix
    // has neither.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()))?;
        for capability in to {
            let (raise, which) = (libc::PR_CAP_AMBIENT_RAISE, *capability as libc::c_ulong);
            Errno::result(libc::prctl(libc::PR_CAP_AMBIENT, raise, which, 0, 0))?;
        }
    }
    Ok(())
}

/// A Landlock domain that restricts nothing but whom its processes reach: they can neither trace
/// (nor look into by `/proc`) nor signal a process outside, whoever's it is, nor reach its abstract
/// sockets.
pub fn domain() -> nix::Result<OwnedFd> {
    /// What access to files and ports is restricted, and which ways out are closed.
    const ATTRIBUTES: [u64; 3] = [0, 0, SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS];
    const SCOPE_ABSTRACT_SOCKETS: u64 = 1 << 0;
    const SCOPE_SIGNALS: u64 = 1 << 1;
    let (attributes, size) = (ATTRIBUTES.as_ptr(), mem::size_of_val(&ATTRIBUTES));
    // SAFETY: the kernel reads `size` bytes of a live array, laid out as landlock_ruleset_attr is;
    // a new descriptor is owned by nobody else. nix has none of Landlock.
    unsafe {
        let call = libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, 0);
        Ok(OwnedFd::from_raw_fd(Errno::result(call)? as c_int))
    }
}

/// Puts this process into a domain of [`domain`]'s, for ever. It must have given up privileges.
pub fn enter_domain(domain: BorrowedFd) -> nix::Result<()> {
    // SAFETY: takes numbers.
    let call = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, domain.as_raw_fd(), 0) };
    Errno::result(call).map(drop)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exited(c_int),
    /// By this signal.
    Killed(c_int),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(status) => write!(f, "exit status {status}"),
            Ending::Killed(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A process that ended and is not reaped yet, so that `/proc` still has it. `Ok(None)`: none has;
/// `ECHILD`: there is no other process at all.
pub fn ended_child() -> nix::Result<Option<(Pid, Ending)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid writes a siginfo_t to the place that is given; the fields read afterwards are
    // those that it fills in for SIGCHLD, and all-zero bytes are a valid siginfo_t. nix fails on a
    // real-time signal here, which would leave that process unreaped for ever.
    let (pid, code, status) = unsafe {
        Errno::result(libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options))?;
        let info = info.assume_init();
        (info.si_pid(), info.si_code, info.si_status())
    };
    let is_exit = code == libc::CLD_EXITED;
    let ending = if is_exit { Ending::Exited(status) } else { Ending::Killed(status) };
    Ok((pid > 0).then(|| (Pid::from_raw(pid), ending)))
}

/// A child that a signal has stopped, told once. `None`: none has.
pub fn stopped_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: as in [`ended_child`].
    let pid = unsafe {
        Errno::result(libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options)).ok()?;
        info.assume_init().si_pid()
    };
    (pid > 0).then(|| Pid::from_raw(pid))
}

/// Takes an ended process off the kernel's table.
pub fn reap(pid: Pid) {
    // SAFETY: a null status pointer is allowed. See [`ended_child`] for why not nix.
    unsafe { libc::waitpid(pid.as_raw(), ptr::null_mut(), libc::WNOHANG) };
}

/// An ioctl to device-mapper's control device. Writes into the message how long it is.
pub fn device_mapper(control: &File, command: u8, message: &mut [u8]) -> nix::Result<()> {
    /// Length of `struct dm_ioctl`, and where in it `data_size` is.
    const HEADER: usize = 312;
    const SIZE: std::ops::Range<usize> = 12..16;
    let length = u32::try_from(message.len()).map_err(|_| Errno::EINVAL)?;
    let header = message.first_chunk_mut::<HEADER>().ok_or(Errno::EINVAL)?;
    header[SIZE].copy_from_slice(&length.to_ne_bytes());
    let request = nix::request_code_readwrite!(0xfd, command, HEADER);
    // SAFETY: the kernel reads and writes as many bytes as `data_size` says at most, which is the
    // buffer's own length, and at least a header, which it has.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), request, message.as_mut_ptr()) };
    Errno::result(done).map(drop)
}

/// Can this input device send this key?
pub fn has_key(device: &File, key: u16) -> bool {
    const EV_KEY: u8 = 1;
    let mut keys = [0u8; 96];
    let request = nix::request_code_read!(b'E', 0x20 + EV_KEY, keys.len());
    // SAFETY: EVIOCGBIT writes at most as many bytes as its request code says, `keys.len()`.
    let length = unsafe { libc::ioctl(device.as_raw_fd(), request, keys.as_mut_ptr()) };
    let byte = keys.get(usize::from(key / 8)).copied().unwrap_or_default();
    length >= 0 && byte & (1 << (key % 8)) != 0
}

/// What the kernel shall know of a partition, which a table on the disk may not (yet) say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionChange {
    /// There is one that it didn't know.
    Add = 1,
    /// One that it knows has another length.
    Resize = 3,
}

/// Tells the kernel of partition `number` of `disk`; `offset` and `length` are in bytes.
pub fn change_partition(
    disk: &File,
    change: PartitionChange,
    number: u32,
    offset: u64,
    length: u64,
) -> nix::Result<()> {
    /// `struct blkpg_partition` and `struct blkpg_ioctl_arg` of `linux/blkpg.h`.
    #[repr(C)]
    struct Partition {
        start: i64,
        length: i64,
        number: c_int,
        names: [u8; 128],
    }
    #[repr(C)]
    struct Argument {
        operation: c_int,
        flags: c_int,
        length: c_int,
        partition: *mut Partition,
    }
    const BLKPG: libc::c_ulong = 0x1269;
    let mut partition = Partition {
        start: i64::try_from(offset).map_err(|_| Errno::EINVAL)?,
        length: i64::try_from(length).map_err(|_| Errno::EINVAL)?,
        number: c_int::try_from(number).map_err(|_| Errno::EINVAL)?,
        names: [0; 128],
    };
    let length = mem::size_of::<Partition>() as c_int;
    let (operation, partition) = (change as c_int, ptr::from_mut(&mut partition));
    let argument = Argument { operation, flags: 0, length, partition };
    // SAFETY: both structs are laid out as the kernel reads them, and live during the call. nix
    // doesn't have it.
    let done = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, ptr::from_ref(&argument)) };
    Errno::result(done).map(drop)
}

/// Lets the ext4 that is mounted at `place` have so many blocks.
pub fn resize_ext4(place: &File, blocks: u64) -> nix::Result<()> {
    let request = nix::request_code_write!(b'f', 16, mem::size_of::<u64>());
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64. nix doesn't have it.
    let done = unsafe { libc::ioctl(place.as_raw_fd(), request as _, ptr::from_ref(&blocks)) };
    Errno::result(done).map(drop)
}

/// Mixes `seed` into the kernel's random numbers and lets it count for so many bits.
pub fn credit_entropy(random: &File, seed: &[u8; 512], bits: u16) -> nix::Result<()> {
    /// `struct rand_pool_info` of `linux/random.h`.
    #[repr(C)]
    struct Pool {
        bits: c_int,
        length: c_int,
        seed: [u8; 512],
    }
    let pool = Pool { bits: bits.into(), length: 512, seed: *seed };
    let request = nix::request_code_write!(b'R', 3, 2 * mem::size_of::<c_int>());
    // SAFETY: RNDADDENTROPY reads the two numbers and then `length` bytes, all of `pool`. nix
    // doesn't have it.
    let done = unsafe { libc::ioctl(random.as_raw_fd(), request as _, ptr::from_ref(&pool)) };
    Errno::result(done).map(drop)
}

/// Standard input, which a child of ours was given as its socket.
pub fn standard_input() -> OwnedFd {
    // SAFETY: descriptor 0 is open (std sees to that) and nothing else in this program uses it.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// A descriptor that the program before exec left open for this one; `None`: it didn't. To be asked
/// once for each number.
pub fn inherited(number: c_int) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only looks whether the descriptor is open. If so, it was opened before this
    // program began: such numbers are too high for the kernel to give out by itself, and the caller
    // asks once, so that nobody else owns it.
    unsafe {
        Errno::result(libc::fcntl(number, libc::F_GETFD)).ok()?;
        Some(OwnedFd::from_raw_fd(number))
    }
}

/// Sets after how many seconds without food a watchdog bites.
pub fn set_watchdog_timeout(device: &File, seconds: c_int) -> nix::Result<()> {
    let mut seconds = seconds;
    let request = nix::request_code_readwrite!(b'W', 6, mem::size_of::<c_int>());
    // SAFETY: WDIOC_SETTIMEOUT reads and writes one int, which lives through the call.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), request, &mut seconds) }).map(drop)
}

/// Has the date gain so many microseconds (or lose them), 500 in each second.
pub fn slew_clock(micros: i64) -> nix::Result<()> {
    adjust_clock(|change| {
        change.modes = libc::ADJ_OFFSET_SINGLESHOT;
        change.offset = micros;
    })
}

/// Tells the kernel that the date is right: it then keeps the machine's battery clock right, too,
/// until nobody has told so for some hours.
pub fn trust_clock() -> nix::Result<()> {
    adjust_clock(|change| change.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR)
}

fn adjust_clock(change: impl FnOnce(&mut libc::timex)) -> nix::Result<()> {
    // SAFETY: all-zero bytes are a valid timex, which says "no change".
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    change(&mut timex);
    // SAFETY: the kernel reads and writes one timex, which lives through the call. nix doesn't
    // have it.
    Errno::result(unsafe { libc::adjtimex(&mut timex) }).map(drop)
}

fn link_address(interface: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = c_int::try_from(interface).unwrap_or(c_int::MAX);
    address
}

/// The number of the interface that a packet socket is bound to, and its hardware address, unless
/// that isn't Ethernet's.
pub fn interface_of(socket: impl AsFd) -> nix::Result<(u32, Option<[u8; 6]>)> {
    let mut address = link_address(0, 0);
    let mut length = LINK_ADDRESS;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes, the size of `address`. nix refuses the
    // answer, which is as short as the hardware address.
    let done =
        unsafe { libc::getsockname(socket, ptr::from_mut(&mut address).cast(), &raw mut length) };
    Errno::result(done)?;
    let is_ethernet = address.sll_hatype == libc::ARPHRD_ETHER && address.sll_halen == 6;
    let mac = address.sll_addr.first_chunk().copied().filter(|_| is_ethernet);
    Ok((address.sll_ifindex as u32, mac))
}

const LINK_ADDRESS: libc::socklen_t = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// One instruction of a classic BPF program: operation, jump if true, jump if false, operand.
pub type Instruction = (u16, u8, u8, u32);

/// A socket for IPv4 packets of one interface, of which it only ever sees those that `filter`
/// lets pass: the filter is locked before the first packet can arrive.
pub fn packet_socket(interface: u32, filter: &[Instruction]) -> nix::Result<OwnedFd> {
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut code: Vec<libc::sock_filter> =
        filter.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let length = u16::try_from(code.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: code.as_mut_ptr() };
    let address = link_address(interface, libc::ETH_P_IP as u16);
    // SAFETY: a new descriptor is owned by nobody else; each option is passed with the size of its
    // own type; the kernel copies the program during the call. nix knows neither these options nor
    // how to make a link address.
    unsafe {
        let socket = OwnedFd::from_raw_fd(Errno::result(libc::socket(libc::AF_PACKET, flags, 0))?);
        set_option(&socket, libc::SO_ATTACH_FILTER, &program)?;
        set_option(&socket, libc::SO_LOCK_FILTER, &1)?;
        let address = ptr::from_ref(&address).cast();
        Errno::result(libc::bind(socket.as_raw_fd(), address, LINK_ADDRESS))?;
        Ok(socket)
    }
}

/// # Safety
/// `value` must be of the type that the option takes.
unsafe fn set_option<T>(socket: &OwnedFd, option: c_int, value: &T) -> nix::Result<()> {
    let size = mem::size_of::<T>() as libc::socklen_t;
    let value = ptr::from_ref(value).cast::<c_void>();
    // SAFETY: `value` points to `size` bytes; the caller vouches for the type.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size) };
    Errno::result(done).map(drop)
}

/// Sends an IPv4 packet to everybody on the interface that the packet socket is bound to.
pub fn broadcast(socket: impl AsFd, interface: u32, packet: &[u8]) -> nix::Result<()> {
    let mut address = link_address(interface, libc::ETH_P_IP as u16);
    address.sll_halen = 6;
    address.sll_addr = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
    let socket = socket.as_fd().as_raw_fd();
    let (data, length) = (packet.as_ptr().cast(), packet.len());
    // SAFETY: pointers and lengths are those of a live slice and of a sockaddr_ll. nix can't make
    // a link address.
    let sent = unsafe {
        libc::sendto(socket, data, length, 0, ptr::from_ref(&address).cast(), LINK_ADDRESS)
    };
    Errno::result(sent).map(drop)
}

/// The signals that a bug raises. They must never be blocked: the kernel would end the process.
pub const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// Where the handler of fatal signals writes; -1 is nowhere.
static LAST_WORDS: AtomicI32 = AtomicI32::new(-1);

/// From here on a fault in this process (or an abort) is logged to `log` and reboots the machine,
/// where the kernel would halt on it.
pub fn reboot_on_fatal_signals(log: BorrowedFd<'static>) -> nix::Result<()> {
    /// Room for the handler, and for the registers of any processor.
    const STACK: usize = 64 * 1024;
    LAST_WORDS.store(log.as_raw_fd(), Ordering::Relaxed);
    let stack = vec![0u8; STACK].leak();
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
    let action = SigAction::new(
        SigHandler::Handler(fatal_signal),
        SaFlags::SA_ONSTACK | SaFlags::SA_RESETHAND,
        SigSet::all(),
    );
    // SAFETY: the stack lives for ever and is used for nothing else; the handler calls only what is
    // safe in one (write, clone, open, nanosleep, reboot).
    unsafe {
        Errno::result(libc::sigaltstack(&stack, ptr::null_mut()))?;
        for fault in FAULTS {
            sigaction(fault, &action)?;
        }
    }
    Ok(())
}

/// Where [`crate::last_failure`] looks for them, and what they can be.
const ON_DISK: &CStr = c"/run/stele/data/last-failure";
/// See [`ON_DISK`]: a `LastFailure` each.
pub const LAST_WORDS_ON_DISK: [&CStr; 5] = [
    c"{\"when\":null,\"phase\":null,\"reason\":\"fatal signal: segmentation fault\"}",
    c"{\"when\":null,\"phase\":null,\"reason\":\"fatal signal: bus error\"}",
    c"{\"when\":null,\"phase\":null,\"reason\":\"fatal signal: illegal instruction\"}",
    c"{\"when\":null,\"phase\":null,\"reason\":\"fatal signal: abort\"}",
    c"{\"when\":null,\"phase\":null,\"reason\":\"fatal signal\"}",
];

extern "C" fn fatal_signal(signal: c_int) {
    let [segv, bus, ill, abort, other] = LAST_WORDS_ON_DISK;
    let (words, on_disk): (&CStr, &CStr) = match signal {
        libc::SIGSEGV => (c"<11>stele-init: fatal signal: segmentation fault; rebooting\n", segv),
        libc::SIGBUS => (c"<11>stele-init: fatal signal: bus error; rebooting\n", bus),
        libc::SIGILL => (c"<11>stele-init: fatal signal: illegal instruction; rebooting\n", ill),
        libc::SIGABRT => (c"<11>stele-init: fatal signal: abort; rebooting\n", abort),
        _ => (c"<11>stele-init: fatal signal; rebooting\n", other),
    };
    const FLAGS: c_int =
        libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_SYNC | libc::O_NOFOLLOW;
    let mode: libc::mode_t = 0o600;
    let log = LAST_WORDS.load(Ordering::Relaxed);
    let pause = libc::timespec { tv_sec: 2, tv_nsec: 0 };
    // SAFETY: all of these are async-signal-safe, and the pointers are to live values.
    unsafe {
        libc::write(log, words.as_ptr().cast(), words.count_bytes());
        // In a child, since a disk that died would keep the machine from starting anew.
        // The call itself, not the library's, which takes locks that may be held.
        if libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) == 0 {
            let file = libc::open(ON_DISK.as_ptr(), FLAGS, mode);
            libc::write(file, on_disk.as_ptr().cast(), on_disk.count_bytes());
            libc::_exit(0);
        }
        libc::nanosleep(&pause, ptr::null_mut());
        libc::reboot(libc::RB_AUTOBOOT);
    }
    exit_now(1)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Write as _};

    use super::*;

    #[test]
    fn a_child_has_no_descriptor_that_it_was_not_given() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let (own, theirs) = io::pipe().unwrap();
        let numbers = [own.as_raw_fd(), theirs.as_raw_fd(), reader.as_raw_fd()];
        let kept = writer.try_clone().unwrap();
        let child = fork(&[kept.as_fd()], || {
            // SAFETY: takes numbers.
            let is_open = |number: &c_int| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0;
            let said = [numbers.iter().any(is_open), is_open(&kept.as_raw_fd())].map(u8::from);
            (&kept).write_all(&said).map_or(1, |()| 0)
        });
        let child = child.unwrap();
        writer.write_all(b".").unwrap();
        drop((writer, kept));
        let mut said = vec![];
        reader.read_to_end(&mut said).unwrap();
        reap(child);
        said.retain(|byte| *byte != b'.');
        assert_eq!(said, [0, 1]);
    }

    #[test]
    fn what_is_kept_may_lie_anywhere() {
        let (mut reader, writer) = io::pipe().unwrap();
        let many: Vec<_> = (0..20).map(|_| writer.try_clone().unwrap()).collect();
        let kept: Vec<BorrowedFd> = many.iter().rev().step_by(3).map(AsFd::as_fd).collect();
        let child = fork(&kept, || {
            // SAFETY: takes numbers.
            let is_open = |number: c_int| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
            let open = many.iter().filter(|file| is_open(file.as_raw_fd())).count();
            let first = kept.first().map(|file| write(*file, open as u8));
            first.map_or(1, |written| c_int::from(written.is_err()))
        });
        fn write(file: BorrowedFd, byte: u8) -> nix::Result<usize> {
            nix::unistd::write(file, &[byte])
        }
        let (child, length) = (child.unwrap(), kept.len());
        drop(writer);
        let mut said = [0];
        reader.read_exact(&mut said).unwrap();
        reap(child);
        assert_eq!(usize::from(said[0]), length);
    }
}
