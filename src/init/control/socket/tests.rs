use super::*;
use appliance::control::{VERSION, Verb};
use nix::sys::socket::connect;
use nix::sys::socket::send;
use nix::unistd::getuid;

const NOW: Moment = Moment::from_secs(100);

/// A door of this test's own, and somebody who may use it.
fn door(name: &str) -> (Door, std::path::PathBuf) {
    let folder = std::env::temp_dir().join(format!("stele-door-{name}-{}", std::process::id()));
    let path = folder.join("control.sock");
    let _ = fs::remove_file(&path);
    (Door::open(&path).unwrap(), path)
}

fn knock(path: &Path) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    socket
}

fn heard(socket: &OwnedFd) -> nix::Result<Vec<u8>> {
    let mut packet = vec![0; LONGEST];
    let length = recv(socket.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT)?;
    packet.truncate(length);
    Ok(packet)
}

fn write(socket: &OwnedFd, packet: &[u8]) {
    send(socket.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL).unwrap();
}

fn keys(door: &Door) -> Vec<Key> {
    door.connections().map(|(key, _)| key).collect()
}

#[test]
fn a_caller_is_known_by_its_user_and_answered_as_often_as_it_asks() {
    let (mut door, path) = door("asks");
    let socket = knock(&path);
    let strangers = door.admit(NOW, |user| {
        assert_eq!(user, getuid().as_raw());
        Caller::Root
    });
    assert_eq!((strangers, keys(&door).len()), (vec![], 1));
    let key = keys(&door)[0];
    assert_eq!(door.read(key), None);
    for verb in [Verb::State, Verb::Reboot] {
        let request = Request { version: VERSION, verb };
        write(&socket, &request.to_packet());
        assert_eq!(door.read(key), Some((Caller::Root, Ok(request))));
        door.reply(key, &Reply::Accepted, None, NOW);
        assert_eq!(heard(&socket).unwrap(), Reply::Accepted.to_packet());
    }
    drop(socket);
    assert_eq!(door.read(key), None);
    assert_eq!(keys(&door), []);
}

#[test]
fn a_stranger_takes_no_place() {
    let (mut door, path) = door("stranger");
    let socket = knock(&path);
    let user = getuid().as_raw();
    assert_eq!(door.admit(NOW, |_| Caller::Granted([].into())), [user]);
    assert_eq!(keys(&door), []);
    assert_eq!(heard(&socket).unwrap(), br#"{"refused":"forbidden"}"#);
    assert_eq!(heard(&socket).unwrap(), b"");
}

#[test]
fn a_bad_packet_is_refused_and_the_connection_closed() {
    for (packet, expected) in [
        (&b"{"[..], "malformed"),
        (br#"{"version":9,"verb":"state"}"#, r#"{"version":9}"#),
        (&[b' '; LONGEST + 1], "too_long"),
    ] {
        let (mut door, path) = door(expected.get(..4).unwrap());
        let socket = knock(&path);
        door.admit(NOW, |_| Caller::Root);
        let key = keys(&door)[0];
        write(&socket, packet);
        let (_, request) = door.read(key).unwrap();
        door.reply(key, &Reply::Refused(request.unwrap_err()), None, NOW);
        let reply = String::from_utf8(heard(&socket).unwrap()).unwrap();
        assert!(reply.contains(expected), "{reply}");
        assert_eq!(keys(&door), [], "{expected}");
    }
}

#[test]
fn the_silent_the_many_and_the_deaf_keep_nobody_waiting() {
    let (mut door, path) = door("many");
    let mut sockets: Vec<OwnedFd> = (0..=MOST).map(|_| knock(&path)).collect();
    door.admit(NOW, |_| Caller::Root);
    assert_eq!(keys(&door).len(), MOST);
    assert!(door.listener(NOW).is_none());
    // One that never reads.
    let deaf = keys(&door)[0];
    let long = Reply::Logs(vec!["x".repeat(LONGEST - 100)]);
    for _ in 0..100 {
        door.reply(deaf, &long, None, NOW);
    }
    assert_eq!(keys(&door).len(), MOST - 1);
    assert!(door.listener(NOW).is_some());
    // One that goes.
    sockets.remove(1);
    door.read(keys(&door)[0]);
    assert_eq!(keys(&door).len(), MOST - 2);
    let deadline = door.deadline(NOW).unwrap();
    assert_eq!(deadline, NOW + SILENT_FOR);
    door.on_time(deadline - Duration::from_millis(1));
    assert_eq!(keys(&door).len(), MOST - 2);
    door.on_time(deadline);
    assert_eq!(keys(&door), []);
}

#[test]
fn a_descriptor_goes_along_with_a_reply() {
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use std::io::{IoSliceMut, Read as _, Write as _};
    use std::os::fd::FromRawFd as _;
    use std::os::unix::net::UnixStream;
    let (mut door, path) = door("gift");
    let socket = knock(&path);
    door.admit(NOW, |_| Caller::Root);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    door.reply(keys(&door)[0], &Reply::Accepted, Some(&theirs.into()), NOW);
    let (mut packet, mut space) = ([0; 64], nix::cmsg_space!([i32; 2]));
    let mut parts = [IoSliceMut::new(&mut packet)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let heard = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let gifts: Vec<_> = heard.cmsgs().unwrap().collect();
    let [ControlMessageOwned::ScmRights(gifts)] = &gifts[..] else { panic!("{gifts:?}") };
    assert_eq!((heard.bytes, gifts.len()), (Reply::Accepted.to_packet().len(), 1));
    // SAFETY: the kernel has just opened it, for this test alone.
    #[allow(unsafe_code)]
    let mut gift = unsafe { UnixStream::from_raw_fd(gifts[0]) };
    ours.write_all(b"a bundle").unwrap();
    drop(ours);
    let mut text = String::new();
    gift.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a bundle");
}
