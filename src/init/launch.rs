//! From a service's description to its process.
//!
//! Everything is allocated beforehand; between fork and exec there are only system calls. Should
//! one of them fail, the child says which over a pipe that exec closes.
//!
//! In order: a session, its cgroup, streams, its place among the victims of a shortage of memory,
//! its [`Jail`], limits, the empty bounding set, its user, no new privileges, a domain of its own,
//! exec. The domain (Landlock's) keeps apart what has the same user: without it, one service could
//! look into another's jail through `/proc/PID/root`.
//!
//! Not here: a filter of system calls (seccomp). A service has no rights, sees nothing that is not
//! its own, and gains nothing by exec; what is left to a filter is the kernel's own attack surface.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use appliance::service::Service;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setgroups, setresgid,
    setresuid, setsid, write,
};

use crate::credentials;
use crate::jail::Jail;
use crate::notify;
use crate::sys::{self, Capability, Exec};
use appliance::failure::{Failure, OrCannot as _};

/// A program ready to be started, as often as it takes.
#[derive(Debug)]
pub struct Launch {
    program: String,
    exec: Exec,
    jail: Jail,
    home: CString,
    uid: Uid,
    gid: Gid,
    open_files: u64,
    /// What it may do besides: only a child of init's own may do anything.
    rights: &'static [Capability],
}

/// What a process gets as its first three descriptors.
#[derive(Debug, Clone, Copy)]
pub struct Streams<'a> {
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output.
    pub output: BorrowedFd<'a>,
    /// Standard error.
    pub errors: BorrowedFd<'a>,
}

/// A process on its way to exec.
#[derive(Debug)]
pub struct Started {
    /// Its number.
    pub pid: Pid,
    /// What signals are sent to: numbers are used again, this isn't.
    pub process: OwnedFd,
    /// At end of file it has become its program; else [`Launch::trouble`] reads what it says.
    pub trouble: OwnedFd,
}

/// What the child was at when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Session,
    Cgroup,
    Streams,
    Shortage,
    Jail,
    Limits,
    User,
    Rights,
    Home,
    Exec,
}

/// What came of a step: the step, which of its parts, and why.
type Failed = (Step, u8, Errno);

/// What a service may keep from being swapped: keys, not data.
const LOCKED_MEMORY: u64 = 64 * 1024;

/// The first descriptor that is given besides the standard ones.
const GIFTS: i32 = 3;
/// No gift comes to have this number, nor a higher one.
const FREE: i32 = 64;

/// What a shell's child exits with when there is no such program.
const NOT_STARTED: i32 = 127;

/// In the order of their numbers.
const STEPS: [Step; 10] = [
    Step::Session,
    Step::Cgroup,
    Step::Streams,
    Step::Shortage,
    Step::Jail,
    Step::Limits,
    Step::User,
    Step::Rights,
    Step::Home,
    Step::Exec,
];

impl Launch {
    /// Gets everything ready that can be before there is a process.
    pub fn new(service: &Service) -> Result<Launch, Failure> {
        let what = format_args!("prepare service {}", service.name);
        let program = service.run.first().ok_or("it names no program").or_cannot(what)?.clone();
        let (exec, home) = prepare(&program, service).or_cannot(what)?;
        let (uid, gid) = (Uid::from_raw(service.user.uid), Gid::from_raw(service.user.gid));
        let jail = Jail::new(service)?;
        let open_files = service.open_files;
        Ok(Launch { program, exec, jail, home, uid, gid, open_files, rights: &[] })
    }

    /// With these rights, and for that without a network.
    pub fn with(self, rights: &'static [Capability]) -> Launch {
        Launch { rights, jail: self.jail.alone(), ..self }
    }

    /// Starts a process that will become the program, in the cgroup whose list of processes is given.
    /// It finds `gifts` from descriptor 3 on.
    pub fn start(
        &self,
        streams: Streams,
        gifts: &[OwnedFd],
        cgroup: &File,
    ) -> nix::Result<Started> {
        let (trouble, report) = pipe2(OFlag::O_CLOEXEC)?;
        // Where no gift will come to lie on them.
        let report = sys::duplicate_from(report.as_fd(), FREE)?;
        let gifts = gifts.iter().map(|gift| sys::duplicate_from(gift.as_fd(), FREE));
        let gifts = gifts.collect::<nix::Result<Vec<OwnedFd>>>()?;
        let domain = sys::domain()?;
        let (pid, process) = sys::fork_known(|| {
            let outcome = self.become_program(streams, &gifts, cgroup, domain.as_fd());
            let (step, part, errno) = match outcome {
                Ok(never) => match never {},
                Err(failed) => failed,
            };
            let [a, b, c, d] = (errno as i32).to_ne_bytes();
            let _ = write(&report, &[step as u8, part, a, b, c, d]);
            NOT_STARTED
        })?;
        Ok(Started { pid, process, trouble })
    }

    /// In the child. No allocation from here on.
    fn become_program(
        &self,
        streams: Streams,
        gifts: &[OwnedFd],
        cgroup: &File,
        domain: BorrowedFd,
    ) -> Result<Infallible, Failed> {
        let at = |step| move |errno| (step, 0, errno);
        setsid().map_err(at(Step::Session))?;
        write(cgroup.as_fd(), b"0").map_err(at(Step::Cgroup))?;
        dup2_stdin(streams.input).map_err(at(Step::Streams))?;
        dup2_stdout(streams.output).map_err(at(Step::Streams))?;
        dup2_stderr(streams.errors).map_err(at(Step::Streams))?;
        share_in_shortage().map_err(at(Step::Shortage))?;
        self.jail.enter().map_err(|(deed, errno)| (Step::Jail, deed, errno))?;
        let files = self.open_files;
        setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(at(Step::Limits))?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(at(Step::Limits))?;
        let locked = LOCKED_MEMORY;
        setrlimit(Resource::RLIMIT_MEMLOCK, locked, locked).map_err(at(Step::Limits))?;
        umask(Mode::from_bits_truncate(0o027));
        // Needs a capability, so it comes before the user.
        sys::drop_bounding_set(self.rights).map_err(at(Step::Rights))?;
        sys::keep_capabilities().map_err(at(Step::Rights))?;
        setgroups(&[]).map_err(at(Step::User))?;
        setresgid(self.gid, self.gid, self.gid).map_err(at(Step::User))?;
        setresuid(self.uid, self.uid, self.uid).map_err(at(Step::User))?;
        sys::limit_capabilities(self.rights).map_err(at(Step::Rights))?;
        set_no_new_privs().map_err(at(Step::Rights))?;
        sys::enter_domain(domain).map_err(at(Step::Rights))?;
        match chdir(self.home.as_c_str()) {
            // Who has no home, or isn't granted it, is at the root.
            Err(Errno::ENOENT) => chdir(c"/"),
            entered => entered,
        }
        .map_err(at(Step::Home))?;
        for (number, gift) in (GIFTS..).zip(gifts) {
            sys::place(gift.as_fd(), number).map_err(at(Step::Streams))?;
        }
        sys::forget_signals_and_files(GIFTS + gifts.len() as i32);
        Err((Step::Exec, 0, self.exec.run()))
    }

    /// Reads what the child said; `None`: it has become its program.
    pub fn trouble(&self, said: &OwnedFd) -> Option<Failure> {
        let mut report = [0; 6];
        let length = nix::unistd::read(said, &mut report).unwrap_or_default();
        let [step, part, errno @ ..] = report;
        let step = STEPS.get(usize::from(step)).filter(|_| length == report.len())?;
        let program = &self.program;
        let what = match step {
            Step::Session => "start a session".to_owned(),
            Step::Cgroup => "enter its cgroup".to_owned(),
            Step::Streams => "set its standard streams".to_owned(),
            Step::Shortage => "give up PID 1's place in a shortage of memory".to_owned(),
            Step::Jail => self.jail.deed(part),
            Step::Limits => format!("limit it to {} open files", self.open_files),
            Step::User => format!("become user {}", self.uid),
            Step::Rights => "give up privileges".to_owned(),
            Step::Home => format!("enter its home {}", self.home.to_string_lossy()),
            Step::Exec => format!("exec {program}"),
        };
        Some(Failure::new(what, Errno::from_raw(i32::from_ne_bytes(errno))))
    }
}

/// PID 1 is never chosen when memory runs out, and what it starts would inherit that.
fn share_in_shortage() -> nix::Result<()> {
    let file = open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY, Mode::empty())?;
    write(file, b"0").map(drop)
}

fn prepare(program: &str, service: &Service) -> Result<(Exec, CString), NulError> {
    let arguments = service.run.iter().map(|argument| CString::new(argument.as_str()));
    let arguments = arguments.collect::<Result<_, _>>()?;
    let environment = environment(service).into_iter().map(CString::new);
    let environment = environment.collect::<Result<_, _>>()?;
    let exec = Exec::new(CString::new(program)?, arguments, environment);
    Ok((exec, CString::new(service.user.home.as_str())?))
}

/// The whole of it: nothing is inherited. What the service says itself wins.
fn environment(service: &Service) -> Vec<String> {
    let base = [
        ("HOME", service.user.home.as_str()),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/bin:/usr/sbin"),
        ("TZ", "UTC"),
    ];
    let notify = notify::folder_of(service).map(|_| ("NOTIFY_SOCKET", notify::SOCKET));
    let credentials = service.gate.map(|_| ("CREDENTIALS_DIRECTORY", credentials::FOLDER));
    let base = base.into_iter().chain(notify).chain(credentials);
    let base = base.filter(|(name, _)| !service.env.contains_key(*name));
    let own = service.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    base.chain(own).map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::service;

    #[test]
    fn an_environment_is_the_base_and_the_services_own() {
        let mut service = service("a");
        service.env =
            [("TZ", "Europe/Paris"), ("X", "1")].map(|(k, v)| (k.into(), v.into())).into();
        let expected =
            ["HOME=/", "LANG=C.UTF-8", "PATH=/usr/bin:/usr/sbin", "TZ=Europe/Paris", "X=1"];
        assert_eq!(environment(&service), expected);
    }

    #[test]
    fn every_step_can_be_told() {
        for (number, step) in STEPS.iter().enumerate() {
            assert_eq!(*step as usize, number);
        }
        let launch = Launch::new(&service("a")).unwrap();
        let said = |bytes: &[u8]| {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
            write(&writer, bytes).unwrap();
            drop(writer);
            launch.trouble(&reader).map(|failure| failure.to_string())
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[9, 0, 2, 0, 0]), None);
        assert_eq!(said(&[99, 0, 2, 0, 0, 0]), None);
        let [a, b, c, d] = 2i32.to_ne_bytes();
        let expected = "cannot exec /bin/true: ENOENT: No such file or directory";
        assert_eq!(said(&[9, 0, a, b, c, d]).as_deref(), Some(expected));
        let expected = "cannot get namespaces of its own: EPERM: Operation not permitted";
        assert_eq!(said(&[4, 0, 1, 0, 0, 0]).as_deref(), Some(expected));
    }
}
