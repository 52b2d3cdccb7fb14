//! Between the session's events and the frames of the wire.

use std::rc::Rc;

use terminal::{End, Event, Join, Resume, Role, Size, Stream};
use wire::frame::{self, Frame, Hello};
use wire::link::Open;

use crate::generation::{Generation, Host};

/// Returns how a viewer joins; resuming another session than the present one is said to be so.
pub(crate) fn join(open: Open, present: &Generation) -> Join {
    let resume = open.resume.map(|resume| match session_id(&resume.session) {
        Some(id) if id == present.id => Resume::At(resume.offset),
        _ => Resume::Elsewhere,
    });
    Join {
        client: open.client,
        resume,
        size: open.size.and_then(|(rows, cols)| Size::new(rows, cols)),
        from_start: open.from_start,
        role: Role::Write,
    }
}

pub(crate) fn frame(event: Event, generation: &Rc<Generation>, host: &Host) -> Frame {
    match event {
        Event::Hello { offset, input, size } => {
            let session = generation.id;
            let hello = Hello { session, input, tty: host.tty, size: wire_size(size) };
            Frame::Hello { offset, hello }
        }
        Event::Gap { offset, lost } => Frame::Gap { offset, lost },
        Event::Screen { offset, data } => Frame::Screen { offset, data },
        Event::Output { offset, stream: Stream::Out, data } => Frame::Output { offset, data },
        Event::Output { offset, stream: Stream::Err, data } => Frame::Stderr { offset, data },
        Event::InputAck { offset } => Frame::InputAck { offset },
        Event::Size(size) => Frame::Size(wire_size(size)),
        Event::End(End::Exit(code)) => Frame::Exit { code },
        Event::End(End::Left(why)) => Frame::Left { why: why.to_owned() },
    }
}

fn wire_size(size: Size) -> frame::Size {
    frame::Size { rows: size.rows(), cols: size.cols() }
}

/// Reads 32 hexadecimal digits.
fn session_id(digits: &str) -> Option<[u8; 16]> {
    let plain = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(digits, 16).ok()).flatten().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_thirty_two_digits() {
        assert_eq!(session_id(&"07".repeat(16)), Some([7; 16]));
        for wrong in ["", "07", "+7070707070707070707070707070707", &"zz".repeat(16)] {
            assert_eq!(session_id(wrong), None);
        }
    }
}
