//! Messages survive the codec and a real socket; any other bytes are an error.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::config_bytes::{ConfigBytes, MAX_CONFIG_BYTES};
use super::link::{Link, LinkError};
use super::log_line::LineFormat;
use super::message::{Connection, FromWorker, Mode, Replace, Serving, Start, StartCause, ToWorker};
use super::socket::{self, SocketInput};
use super::wire::{
    MAX_FRAME_BYTES, MAX_FRAME_FDS, MAX_INFO_BYTES, MAX_PREFIX_BYTES, MAX_REASON_BYTES, WireFrame,
};
use super::wire_error::WireError;

fn some_fd() -> OwnedFd {
    let (read, _write) = std::io::pipe().unwrap();
    read.into()
}

/// Identifies the open file behind a descriptor, independent of the descriptor's number.
fn identity(fd: impl AsFd) -> (u64, u64) {
    let stat = fstat(fd).unwrap();
    (stat.st_dev, stat.st_ino)
}

fn cause() -> impl Strategy<Value = StartCause> {
    prop_oneof![
        Just(StartCause::First),
        Just(StartCause::Planned),
        (any::<bool>(), ".{0,40}")
            .prop_map(|(own_doing, detail)| StartCause::Crash { own_doing, detail }),
        ".{0,40}".prop_map(|detail| StartCause::Rollback { detail }),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

fn to_worker() -> impl Strategy<Value = ToWorker> {
    let start = (
        any::<bool>(),
        cause(),
        any::<Option<u64>>(),
        any::<u32>(),
        any::<Option<Vec<u8>>>(),
        proptest::collection::vec("[a-z0-9.:]{0,30}", 0..8),
        bytes(),
    );
    prop_oneof![
        start.prop_map(|(standby, cause, generation, pid, config, addrs, info)| {
            ToWorker::Start(Start {
                mode: if standby { Mode::Standby } else { Mode::Serve },
                cause,
                generation,
                supervisor_pid: pid,
                config: config.map(|config| ConfigBytes::new(&config).unwrap()),
                listeners: addrs.into_iter().map(|addr| (addr, some_fd())).collect(),
                info,
                acknowledged: (pid % 2 == 0).then(some_fd),
            })
        }),
        cause().prop_map(|cause| ToWorker::Go { cause }),
        any::<u64>().prop_map(|generation| ToWorker::StandbyReady { generation }),
        (any::<u64>(), ".{0,40}")
            .prop_map(|(generation, reason)| ToWorker::StandbyFailed { generation, reason }),
        connection().prop_map(ToWorker::Connection),
        Just(()).prop_map(|()| ToWorker::Stop),
        Just(()).prop_map(|()| ToWorker::Reload),
    ]
}

fn connection() -> impl Strategy<Value = Connection> {
    (bytes(), "[a-z0-9.:]{0,30}").prop_map(|(prefix, addr)| Connection {
        prefix,
        addr,
        fd: some_fd(),
    })
}

fn from_worker() -> impl Strategy<Value = FromWorker> {
    let config = || bytes().prop_map(|bytes| ConfigBytes::new(&bytes).unwrap());
    prop_oneof![
        "[a-z0-9.:]{0,30}".prop_map(|addr| FromWorker::Listening {
            addr,
            fd: some_fd()
        }),
        (
            any::<u64>(),
            config(),
            proptest::collection::vec("[a-z0-9.:]{0,30}", 0..8),
        )
            .prop_map(|(stop_budget_ms, config, listeners)| {
                FromWorker::Serving(Serving {
                    stop_budget_ms,
                    config,
                    listeners,
                })
            }),
        (any::<u64>(), config(), bytes()).prop_map(|(generation, config, info)| {
            FromWorker::Replace(Replace {
                generation,
                config,
                info,
            })
        }),
        Just(()).prop_map(|()| FromWorker::StandbyReady),
        ".{0,40}".prop_map(|reason| FromWorker::StandbyFailed { reason }),
        Just(()).prop_map(|()| FromWorker::CancelReplace),
        connection().prop_map(FromWorker::Connection),
        Just(()).prop_map(|()| FromWorker::Released),
        Just(()).prop_map(|()| FromWorker::Stopped),
        (".{0,40}", any::<u8>()).prop_map(|(reason, code)| FromWorker::Fatal { reason, code }),
        Just(()).prop_map(|()| FromWorker::Alive),
        Just(()).prop_map(|()| FromWorker::Proven),
        Just(()).prop_map(|()| FromWorker::Mending),
        prop_oneof![Just(LineFormat::Text), Just(LineFormat::Json)].prop_map(FromWorker::LogFormat),
        config().prop_map(FromWorker::LastGood),
    ]
}

/// Captures a frame's bytes and open files, for comparison.
fn picture(frame: &WireFrame) -> (Vec<u8>, Vec<(u64, u64)>) {
    let files = frame.fds.iter().map(identity).collect();
    (frame.bytes.clone(), files)
}

fn across(frame: &WireFrame) -> WireFrame {
    let (ours, theirs) = socket::pair().unwrap();
    socket::send(&ours, frame, SendFlags::DONTWAIT).unwrap();
    match socket::receive(&theirs, &mut Vec::new(), RecvFlags::DONTWAIT).unwrap() {
        SocketInput::Frame(frame) => frame,
        other => panic!("received {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_the_supervisor_says_comes_across(message in to_worker()) {
        let sent = message.encode().unwrap();
        let received = across(&sent);
        prop_assert_eq!(picture(&received), picture(&sent));
        let again = ToWorker::decode(received).unwrap().encode().unwrap();
        prop_assert_eq!(picture(&again), picture(&sent));
    }

    #[test]
    fn what_a_worker_says_comes_across(message in from_worker()) {
        let sent = message.encode().unwrap();
        let received = across(&sent);
        let again = FromWorker::decode(received).unwrap().encode().unwrap();
        prop_assert_eq!(picture(&again), picture(&sent));
    }

    #[test]
    fn a_cut_frame_is_refused(message in from_worker(), cut in any::<prop::sample::Index>()) {
        let mut frame = message.encode().unwrap();
        frame.bytes.truncate(cut.index(frame.bytes.len()));
        prop_assert_eq!(FromWorker::decode(frame).unwrap_err(), WireError::Short);
    }

    #[test]
    fn a_missing_descriptor_is_refused(message in to_worker()) {
        let mut frame = message.encode().unwrap();
        if frame.fds.pop().is_some() {
            let refused = matches!(ToWorker::decode(frame), Err(WireError::Descriptor(_)));
            prop_assert!(refused);
        }
    }

    #[test]
    fn noise_is_never_a_panic(kind in 0..15_u8, noise in bytes()) {
        for version in [1, 2] {
            let bytes = [&[version, kind], noise.as_slice()].concat();
            let frame = || WireFrame { bytes: bytes.clone(), fds: vec![some_fd()] };
            let results = [
                ToWorker::decode(frame()).err(),
                FromWorker::decode(frame()).err(),
            ];
            if version == 2 {
                prop_assert_eq!(results, [Some(WireError::Version(2)), Some(WireError::Version(2))]);
            }
        }
    }
}

#[test]
fn limits_are_kept() {
    let connection = |prefix| {
        FromWorker::Connection(Connection {
            prefix,
            addr: "a".to_owned(),
            fd: some_fd(),
        })
    };
    let largest = connection(vec![7; MAX_PREFIX_BYTES]).encode().unwrap();
    assert!(FromWorker::decode(across(&largest)).is_ok());
    let refused = connection(vec![7; MAX_PREFIX_BYTES + 1]).encode();
    assert!(matches!(refused, Err(WireError::TooLarge { .. })));

    let start = |listeners: usize, info| {
        let listener = |n: usize| (format!("{n:0>256}"), some_fd());
        ToWorker::Start(Start {
            mode: Mode::Serve,
            cause: StartCause::First,
            generation: None,
            supervisor_pid: 1,
            config: Some(ConfigBytes::new(b"x").unwrap()),
            listeners: (0..listeners).map(listener).collect(),
            info: vec![0; info],
            acknowledged: Some(some_fd()),
        })
    };
    // The maximum number of listeners, a local one and the largest information fit into one frame.
    let largest = start(super::MAX_LISTENERS + 1, MAX_INFO_BYTES)
        .encode()
        .unwrap();
    assert!(ToWorker::decode(across(&largest)).is_ok());
    let refused = start(MAX_FRAME_FDS, 0).encode();
    assert!(matches!(refused, Err(WireError::TooLarge { .. })));

    let reason = "\u{e9}".repeat(MAX_REASON_BYTES);
    let frame = FromWorker::StandbyFailed { reason }.encode().unwrap();
    match FromWorker::decode(frame).unwrap() {
        FromWorker::StandbyFailed { reason } => assert_eq!(reason.len(), MAX_REASON_BYTES),
        other => panic!("decoded {other:?}"),
    }
}

#[test]
fn an_oversized_frame_is_told_apart_from_the_end() {
    let (ours, theirs) = socket::pair().unwrap();
    let frame = WireFrame {
        bytes: vec![1; MAX_FRAME_BYTES + 1],
        fds: vec![some_fd()],
    };
    socket::send(&ours, &frame, SendFlags::DONTWAIT).unwrap();
    drop(ours);
    let receive = || socket::receive(&theirs, &mut Vec::new(), RecvFlags::DONTWAIT);
    assert!(matches!(receive(), Ok(SocketInput::Oversized)));
    assert!(matches!(receive(), Ok(SocketInput::Closed)));
}

#[test]
fn what_a_dead_peer_has_said_is_still_there() {
    for send_first in [false, true] {
        let (ours, theirs) = socket::pair().unwrap();
        let frame = FromWorker::Released.encode().unwrap();
        // The peer dies with unread messages, which the kernel reports as a separate error.
        socket::send(&theirs, &frame, SendFlags::DONTWAIT).unwrap();
        socket::send(&ours, &frame, SendFlags::DONTWAIT).unwrap();
        drop(ours);
        if send_first {
            let refused = socket::send(&theirs, &frame, SendFlags::DONTWAIT);
            assert!(matches!(refused, Err(Errno::PIPE | Errno::CONNRESET)));
        }
        let receive = || socket::receive(&theirs, &mut Vec::new(), RecvFlags::DONTWAIT);
        assert!(matches!(receive(), Ok(SocketInput::Frame(_))));
        assert!(matches!(receive(), Ok(SocketInput::Closed)));
    }
}

#[test]
fn a_link_passes_working_descriptors_and_ends_with_its_peer() {
    let (ours, theirs) = socket::pair().unwrap();
    let link = Link::new(theirs);
    let (mut read, write) = std::io::pipe().unwrap();
    link.send(FromWorker::Listening {
        addr: "a".to_owned(),
        fd: write.into(),
    })
    .unwrap();
    let Ok(SocketInput::Frame(frame)) =
        socket::receive(&ours, &mut Vec::new(), RecvFlags::DONTWAIT)
    else {
        panic!("nothing received");
    };
    let Ok(FromWorker::Listening { fd, .. }) = FromWorker::decode(frame) else {
        panic!("another message received");
    };
    File::from(fd).write_all(b"through").unwrap();
    let mut through = String::new();
    // This returns only because no other handle to the pipe's writing end is left open.
    read.read_to_string(&mut through).unwrap();
    assert_eq!(through, "through");

    // A message of a future kind is skipped.
    let future = WireFrame {
        bytes: vec![1, 200, 1, 2, 3],
        fds: Vec::new(),
    };
    socket::send(&ours, &future, SendFlags::DONTWAIT).unwrap();
    socket::send(
        &ours,
        &ToWorker::Stop.encode().unwrap(),
        SendFlags::DONTWAIT,
    )
    .unwrap();
    drop(ours);
    assert!(matches!(link.recv(), Ok(ToWorker::Stop)));
    assert!(matches!(link.recv(), Err(LinkError::Closed)));
    assert!(matches!(
        link.send(FromWorker::Alive),
        Err(LinkError::Closed)
    ));
}

#[test]
fn config_bytes_are_bounded_and_cannot_change_on_the_way() {
    let config = ConfigBytes::new(b"[daemon]").unwrap();
    let copy = ConfigBytes::from_fd(OwnedFd::from(config.try_clone().unwrap())).unwrap();
    for _ in 0..2 {
        assert_eq!(config.read().unwrap(), b"[daemon]");
        assert_eq!(copy.read().unwrap(), b"[daemon]");
    }
    let mut file = File::from(OwnedFd::from(copy));
    assert!(file.write_all(b"other").is_err());
    assert!(file.set_len(0).is_err());
    assert!(ConfigBytes::from_fd(some_fd()).is_err());
    let size = usize::try_from(MAX_CONFIG_BYTES).unwrap();
    assert!(ConfigBytes::new(&vec![b' '; size]).is_ok());
    assert!(ConfigBytes::new(&vec![b' '; size + 1]).is_err());
}
