//! Descriptors that travel beside a reply (`SCM_RIGHTS`, unix(7)).

use crate::control::client::Connection;
use crate::exit::Failure;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// As many as the kernel lets travel at once (`SCM_MAX_FD`).
pub(crate) const DESCRIPTORS_MAX: usize = 253;

/// Sends bytes with descriptors beside the first of them.
///
/// # Errors
/// If the other side does not take them, or there are more than [`DESCRIPTORS_MAX`].
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let mut sent = 0;
    while sent < bytes.len() {
        match sendmsg(
            &socket,
            &[IoSlice::new(&bytes[sent..])],
            &mut beside,
            SendFlags::NOSIGNAL,
        ) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        beside.clear();
    }
    Ok(())
}

/// Asks for something whose reply has descriptors beside it.
///
/// # Errors
/// If the daemon refuses, or goes away.
pub(crate) fn ask(
    daemon: &mut Connection,
    operation: &str,
) -> Result<(Value, Vec<OwnedFd>), Failure> {
    daemon.ask(operation, json!({}))?;
    let received = receive_line(daemon.socket());
    let (line, descriptors) = received.map_err(|error| daemon.lost(&error))?;
    Ok((daemon.understand(&line)?, descriptors))
}

/// One line, and the descriptors that came with it. Reads no further than the line: byte by byte, for once.
fn receive_line(socket: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut byte)];
        match recvmsg(&socket, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) if received.bytes == 0 => {
                return Err(io::Error::other("it closed the connection"));
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        line.push(byte[0]);
        if line.len() > LINE_LEN_MAX {
            return Err(io::Error::other("its reply has no end"));
        }
    }
    Ok((line, descriptors))
}

/// Far more than the addresses of so many sockets need.
const LINE_LEN_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_their_line_and_leave_the_next_one_alone() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let files: Vec<OwnedFd> = (0..DESCRIPTORS_MAX)
            .map(|_| File::open("/dev/zero").unwrap().into())
            .collect();
        send(&here, b"first\n", &files).unwrap();
        (&here).write_all(b"second\n").unwrap();
        let (line, received) = receive_line(&there).unwrap();
        assert_eq!(
            (line.as_slice(), received.len()),
            (&b"first\n"[..], files.len())
        );
        let mut zero = [1];
        File::from(received.into_iter().next().unwrap())
            .read_exact(&mut zero)
            .unwrap();
        assert_eq!(zero, [0]);
        let mut rest = [0; 7];
        there.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"second\n");
        drop(here);
        receive_line(&there).unwrap_err();
    }
}
