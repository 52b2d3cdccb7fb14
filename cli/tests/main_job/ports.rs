//! Ports of this machine that lead into a weaver.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

use crate::support::{Case, World, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("ports::a_published_port_leads_inside", leads_inside),
    ("ports::one_that_is_in_use_is_named", in_use),
    ("ports::weavers_reach_each_other_by_address", by_address),
];

/// Answers each connection with its whole input, after that has ended, and a word of its own.
const SERVER: &str = r#"
use IO::Socket::INET;
my $listen = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 80, Listen => 64) or die;
$| = 1; print "listens\n";
while (my $peer = $listen->accept) {
  fork and next;
  local $/; my $all = <$peer>; print $peer $all, "from inside\n"; exit;
}"#;

/// Says one word to an address and shows the answer.
const CLIENT: &str = r#"
use IO::Socket::INET;
my $peer = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 80) or die "$!\n";
print $peer "hello "; shutdown $peer, 1; print <$peer>;"#;

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn say(port: u16, input: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut writer, input) = (stream.try_clone()?, input.to_vec());
    let writing = std::thread::spawn(move || {
        writer.write_all(&input)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    writing.join().unwrap()?;
    Ok(answer)
}

fn leads_inside() {
    let world = World::new();
    let (port, silent) = (free_port(), free_port());
    let flags = format!("new --local --no-attach -p {port}:80 -p {silent}:81 -- perl -e");
    let id = world.ok_with(&flags, &[SERVER]).trim().to_owned();
    until("it listens", || world.ok(&format!("logs {id}")).contains("listens"));
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let expected = [&input[..], b"from inside\n"].concat();
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| say(port, &input).unwrap());
        (say(port, b"").unwrap(), one.join().unwrap())
    });
    assert_eq!(text(&one), "from inside\n");
    assert!(two == expected, "{} bytes of {}", two.len(), expected.len());
    // Nobody listens behind the other.
    assert!(say(silent, b"x").is_err());

    let weaver = world.weaver(&id).unwrap();
    assert_eq!(weaver["ports"][0], serde_json::json!({"host": port, "container": 80}));
    // Of a daemon that went away another takes over.
    world.ok("dev stop");
    assert!(say(port, b"").is_err());
    world.ok("dev --detach");
    until("it is published again", || {
        say(port, b"back ").is_ok_and(|s| s == b"back from inside\n")
    });
    world.ok(&format!("rm {id}"));
    until("it is free again", || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
}

fn in_use() {
    let world = World::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = world.run(&format!("new --local -p {port}:80 -- true"));
    let said = text(&output.stderr);
    assert_eq!(code(&output), 255, "{}", show(&output));
    let place = format!("cannot listen on 127.0.0.1:{port} of this machine: it is in use");
    assert!(said.contains(&place) && said.contains("deleted W-"), "{said}");
    for bad in ["0.0.0.0:1:1", "x", "1:0", "-1:1"] {
        let output = world.run(&format!("new --local -p {bad}"));
        assert_eq!(code(&output), 2, "{bad}: {}", show(&output));
    }
    world.is_empty();
}

fn by_address() {
    let world = World::new();
    let server = SERVER.replace("127.0.0.1", "0.0.0.0");
    let id = world.ok_with("new --local --no-attach -- perl -e", &[&server]).trim().to_owned();
    until("it listens", || world.ok(&format!("logs {id}")).contains("listens"));
    let address = world.weaver(&id).unwrap()["pod_ip"].as_str().unwrap().to_owned();
    let ask = || world.run_with("new --local --rm -- perl -e", &[CLIENT, &address]);
    let answer = ask();
    assert_eq!(text(&answer.stdout), "hello from inside\n", "{}", show(&answer));
    // The daemon has no part in it.
    let client = world.idle("");
    world.ok("dev stop");
    world.ok("dev --detach");
    let exec = format!("exec {client} -- perl -e");
    assert_eq!(world.ok_with(&exec, &[CLIENT, &address]), "hello from inside\n");
    world.ok(&format!("rm {id}"));
    until("nobody has its address", || text(&ask().stderr).contains("Connection refused"));
}
