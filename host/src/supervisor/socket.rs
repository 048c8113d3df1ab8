//! Frames over a local socket that keeps message borders (`SOCK_SEQPACKET`), descriptors included.

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

/// What there was to receive.
#[derive(Debug)]
pub(super) enum SocketInput {
    Frame(WireFrame),
    /// The other side is gone.
    Closed,
    /// A frame larger than any may be; its descriptors are closed already.
    Oversized,
}

/// Both ends of a new link, closed on exec.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Sends a whole frame, or nothing. The descriptors stay open here.
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
            // The peer died with unread messages in its queue. The kernel says so once, before
            // it gives out what the peer itself has said.
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
    // No frame is empty, so nothing is the end.
    match buffer.get(..received.bytes) {
        Some(bytes) if !bytes.is_empty() => Ok(SocketInput::Frame(WireFrame {
            bytes: bytes.to_vec(),
            fds,
        })),
        _ => Ok(SocketInput::Closed),
    }
}
