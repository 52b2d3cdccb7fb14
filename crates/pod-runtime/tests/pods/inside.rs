//! What a hostile program tries from inside a pod; prints what came of it.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc;
use rustix::fs::inotify;

use super::answers;

/// After this time a silent partner is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["abstract", name] => std::os::unix::net::SocketAddr::from_abstract_name(name)
            .and_then(|name| UnixStream::connect_addr(&name))
            .map(drop),
        ["connect", address] => connect(address),
        ["serve", port] => serve(port),
        ["serve-tls", port] => answers::tls(port),
        ["serve-grpc", port] => answers::grpc(port),
        ["echo", port] => echo(port),
        ["exchange", address, mib] => exchange(address, mib.parse().unwrap()),
        ["datagram", address] => datagram(address),
        ["allocate", mib] => {
            allocate(mib.parse().unwrap());
            Ok(())
        }
        ["fork"] => {
            println!("{}", fork_many());
            wait_to_be_killed()
        }
        ["watch"] => {
            let (_kept, instances, watches) = watch_much();
            println!("{instances} {watches}");
            wait_to_be_killed()
        }
        ["watch", folder] => watch(folder).map(drop),
        ["call", name] => call(name),
        ["uid"] => own_ids(),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    tell(result);
    ExitCode::SUCCESS
}

fn tell(result: io::Result<()>) {
    match result {
        Ok(()) => println!("done"),
        Err(error) => println!(
            "{:?}",
            error.raw_os_error().map_or_else(
                || error.to_string(),
                |code| nix::errno::Errno::from_raw(code).to_string(),
            )
        ),
    }
}

fn connect(address: &str) -> io::Result<()> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    print!("{text}");
    Ok(())
}

/// Answers any request with what `/tmp/answer` holds, once it is there.
fn serve(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut request = [0; 1024];
        // Who asks may be gone before it is answered, and what is reset was no request.
        let Ok(count @ 1..) = stream.read(&mut request) else { continue };
        let answer = std::fs::read_to_string("/tmp/answer").unwrap_or_default();
        println!("{}", String::from_utf8_lossy(&request[..count]).lines().next().unwrap());
        write!(stream, "HTTP/1.1 {}\r\n\r\n", answer.trim()).ok();
    }
    Ok(())
}

/// Sends everything back, of connections and as datagrams.
fn echo(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    let socket = UdpSocket::bind(format!("0.0.0.0:{port}"))?;
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], from).unwrap();
        }
    });
    println!("ready");
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
    }
    Ok(())
}

/// Sends much to an echo, and reads the same again.
fn exchange(address: &str, mib: u64) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut back = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    let sender = std::thread::spawn(move || {
        let mut out = BufWriter::with_capacity(1 << 16, &stream);
        (0..mib << 17).try_for_each(|word: u64| out.write_all(&word.to_le_bytes()))?;
        out.flush()?;
        drop(out);
        stream.shutdown(std::net::Shutdown::Write)
    });
    for word in 0..mib << 17 {
        let mut bytes = [0; 8];
        back.read_exact(&mut bytes)?;
        assert_eq!(u64::from_le_bytes(bytes), word);
    }
    assert_eq!(back.read(&mut [0])?, 0);
    sender.join().unwrap()
}

fn datagram(address: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    // Larger than any packet: it goes as fragments.
    socket.send(&[7; 65_507])?;
    let mut back = vec![0; 1 << 16];
    let len = socket.recv(&mut back)?;
    assert!(back[..len] == [7; 65_507], "{len}");
    Ok(())
}

/// Touches memory a MiB at a time.
fn allocate(mib: usize) {
    let mut kept = Vec::new();
    for _ in 0..mib {
        kept.push(vec![1_u8; 1 << 20]);
    }
    println!("{}", kept.len());
}

fn own_ids() -> io::Result<()> {
    println!("{} {}", nix::unistd::geteuid(), nix::unistd::getegid());
    Ok(())
}

/// Forks children that wait until no more are to be had; returns how many.
fn fork_many() -> usize {
    for count in 0..20_000 {
        // SAFETY: the child only waits to be killed.
        match unsafe { libc::fork() } {
            0 => wait_to_be_killed(),
            -1 => return count,
            _ => {}
        }
    }
    20_000
}

/// Watches one folder.
pub(crate) fn watch(folder: &str) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&fd, folder, inotify::WatchFlags::CREATE)?;
    Ok(fd)
}

/// Watches until no more is to be had; returns what it holds, of how many instances and watches.
fn watch_much() -> (Vec<OwnedFd>, usize, usize) {
    let one = || inotify::init(inotify::CreateFlags::CLOEXEC).ok();
    let kept: Vec<_> = std::iter::from_fn(one).take(20_000).collect();
    let mut watches = 0;
    'all: for nth in 0..1_000_000 / kept.len().max(1) {
        let path = format!("/tmp/{nth}");
        std::fs::write(&path, "").unwrap();
        for fd in &kept {
            if inotify::add_watch(fd, path.as_str(), inotify::WatchFlags::MODIFY).is_err() {
                break 'all;
            }
            watches += 1;
        }
    }
    let instances = kept.len();
    (kept, instances, watches)
}

fn wait_to_be_killed() -> ! {
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

/// Makes one system call that a pod may not make, with arguments that would do harm if it could.
fn call(name: &str) -> io::Result<()> {
    let text = c"/tmp".as_ptr();
    let none = c"none".as_ptr();
    // SAFETY: each call is given valid pointers or numbers only; all are expected to be refused.
    let result = unsafe {
        match name {
            "mount" => libc::syscall(libc::SYS_mount, none, text, c"tmpfs".as_ptr(), 0, 0),
            "umount" => libc::syscall(libc::SYS_umount2, c"/usr".as_ptr(), libc::MNT_DETACH),
            "fsopen" => libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0),
            "pivot_root" => libc::syscall(libc::SYS_pivot_root, text, text),
            "unshare" => libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER),
            "clone" => {
                libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0)
            }
            "clone3" => libc::syscall(libc::SYS_clone3, 0, 0),
            "setns" => libc::syscall(libc::SYS_setns, 0, 0),
            "ptrace" => libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
            "process_vm_readv" => {
                libc::syscall(libc::SYS_process_vm_readv, libc::getpid(), 0, 0, 0, 0, 0)
            }
            "keyctl" => libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, -3, 0),
            "add_key" => libc::syscall(libc::SYS_add_key, c"user".as_ptr(), none, text, 1, -3),
            "bpf" => libc::syscall(libc::SYS_bpf, 0, 0, 0),
            "perf_event_open" => libc::syscall(libc::SYS_perf_event_open, 0, 0, -1, -1, 0),
            "io_uring" => libc::syscall(libc::SYS_io_uring_setup, 1, 0),
            "userfaultfd" => libc::syscall(libc::SYS_userfaultfd, 0),
            "open_by_handle_at" => libc::syscall(libc::SYS_open_by_handle_at, -1, 0, 0),
            "reboot" => libc::syscall(libc::SYS_reboot, 0, 0, 0, 0),
            "syslog" => libc::syscall(libc::SYS_syslog, 10, 0, 0),
            "vsock" => libc::syscall(libc::SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM, 0),
            "alg" => libc::syscall(libc::SYS_socket, libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
            "packet" => libc::syscall(libc::SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0),
            "tiocsti" => libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, none),
            // unshare by its x32 number, which lists of the ordinary numbers do not hold
            "x32" => libc::syscall(0x4000_0000 + libc::SYS_unshare, libc::CLONE_NEWUSER),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
