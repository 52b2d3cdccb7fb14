//! What a hostile program tries from inside a pod; prints what came of it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc;

pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["abstract", name] => std::os::unix::net::SocketAddr::from_abstract_name(name)
            .and_then(|name| UnixStream::connect_addr(&name))
            .map(drop),
        ["connect", address] => connect(address),
        ["serve", port] => serve(port),
        ["allocate", mib] => {
            allocate(mib.parse().unwrap());
            Ok(())
        }
        ["fork"] => {
            println!("{}", fork_many());
            Ok(())
        }
        ["call", name] => call(name),
        ["uid"] => {
            println!("{} {}", nix::unistd::geteuid(), nix::unistd::getegid());
            Ok(())
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
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
    ExitCode::SUCCESS
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
        let count = stream.read(&mut request)?;
        let answer = std::fs::read_to_string("/tmp/answer").unwrap_or_default();
        if count > 0 {
            println!("{}", String::from_utf8_lossy(&request[..count]).lines().next().unwrap());
            write!(stream, "HTTP/1.1 {}\r\n\r\n", answer.trim())?;
        }
    }
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

/// Forks children that wait until no more are to be had; returns how many.
fn fork_many() -> usize {
    for count in 0..20_000 {
        // SAFETY: the child only waits to be killed.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => return count,
            _ => {}
        }
    }
    20_000
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
