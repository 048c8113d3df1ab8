//! Sending and receiving frames, with their descriptors, over a local socket that preserves message
//! boundaries (`SOCK_SEQPACKET`).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

use super::wire::{MAX_FRAME_BYTES, MAX_FRAME_FDS, WireFrame};

/// The result of a receive call.
#[derive(Debug)]
pub(super) enum SocketInput {
    Frame(WireFrame),
    /// The peer has closed its end.
    Closed,
    /// A truncated frame: it was larger than the maximum, or not all of its descriptors could be
    /// received. Those that were received are closed already.
    Oversized,
}

/// Creates a link and returns both of its ends, close-on-exec.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Sends a frame as a whole or not at all. Its descriptors stay open on this side.
pub(super) fn send(socket: impl AsFd, frame: &WireFrame, flags: SendFlags) -> Result<(), Errno> {
    let fds: Vec<BorrowedFd<'_>> = frame.fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::MSGSIZE);
    }
    loop {
        let sent = sendmsg(
            &socket,
            &[IoSlice::new(&frame.bytes)],
            &mut control,
            flags | SendFlags::NOSIGNAL,
        );
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives one frame into `buffer`, which is reused from call to call.
pub(super) fn receive(
    socket: impl AsFd,
    buffer: &mut Vec<u8>,
    flags: RecvFlags,
) -> Result<SocketInput, Errno> {
    buffer.resize(MAX_FRAME_BYTES, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let received = recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        );
        match received {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            // The peer died with unread messages in its queue. The kernel reports this once, before
            // it delivers what the peer had sent, so receive again.
            Err(Errno::CONNRESET) => {}
            Err(error) => return Err(error),
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Ok(SocketInput::Oversized);
    }
    // No frame is empty, so zero bytes mean end of file.
    match buffer.get(..received.bytes) {
        Some(bytes) if !bytes.is_empty() => Ok(SocketInput::Frame(WireFrame {
            bytes: bytes.to_vec(),
            fds,
        })),
        _ => Ok(SocketInput::Closed),
    }
}
