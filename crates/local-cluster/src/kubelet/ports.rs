//! Ports of this machine's loopback that lead into a pod: `hostPort`, as far as the local cluster
//! has it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use pod_runtime::Pod;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::about::text;
use super::aside::blocking;
use super::refused::Blocked;

/// Connections into one pod at a time; more wait in the kernel's queue.
const MOST: usize = 1024;

/// Listeners that no pod is behind yet.
#[derive(Debug, Default)]
pub(crate) struct Ports(Vec<(TcpListener, u16)>);

/// Listens, and carries connections into the pod, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Published {
    _tasks: JoinSet<()>,
}

impl Ports {
    /// Listens on all that a pod asks for.
    pub(super) async fn bind(pod: &Value) -> Result<Self, Blocked> {
        let mut ports = Vec::new();
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            for (host, inside) in asked(container) {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, host));
                let listener = TcpListener::bind(address).await;
                let listener = listener.map_err(|error| in_use(container, address, &error))?;
                ports.push((listener, inside));
            }
        }
        Ok(Self(ports))
    }

    /// Lets the listeners lead into the pod.
    pub(super) fn lead_into(self, pod: &Pod) -> Published {
        let mut tasks = JoinSet::new();
        for (listener, inside) in self.0 {
            tasks.spawn(serve(listener, pod.clone(), inside));
        }
        Published { _tasks: tasks }
    }
}

fn asked(container: &Value) -> impl Iterator<Item = (u16, u16)> {
    let ports = container["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| {
        let number = |field: &str| u16::try_from(port[field].as_u64()?).ok().filter(|n| *n > 0);
        Some((number("hostPort")?, number("containerPort")?))
    })
}

fn in_use(container: &Value, address: SocketAddr, error: &io::Error) -> Blocked {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "it is in use".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not listen there".to_owned(),
        _ => error.to_string(),
    };
    let message = format!("cannot listen on {address} of this machine: {why}");
    Blocked::Port { container: text(&container["name"]).to_owned(), message }
}

async fn serve(listener: TcpListener, pod: Pod, inside: u16) {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= MOST {
            open.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(open.spawn(carry(stream, pod.clone(), inside))),
                // Out of files, most likely.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

/// Carries one connection; where nobody listens inside it is reset, as is seen without us.
async fn carry(mut outside: TcpStream, pod: Pod, port: u16) {
    let inside = blocking(move || pod.dial(port)).await;
    let connected = inside.map_err(io::Error::other).and_then(|stream| {
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    });
    match connected {
        Ok(mut inside) => {
            inside.set_nodelay(true).ok();
            outside.set_nodelay(true).ok();
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await.ok();
        }
        Err(error) => {
            tracing::debug!(%error, port, "a published port leads nowhere");
            outside.set_zero_linger().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ports_with_a_place_on_the_host_are_published() {
        let container = json!({"ports": [
            {"containerPort": 80}, {"containerPort": 81, "hostPort": 8081},
            {"containerPort": 82, "hostPort": 0},
        ]});
        assert_eq!(asked(&container).collect::<Vec<_>>(), [(8081, 81)]);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let ports = json!([{"containerPort": 80, "hostPort": address.port()}]);
        let pod = json!({"spec": {"containers": [{"name": "c", "ports": ports}]}});
        let said = Ports::bind(&pod).await.unwrap_err().to_string();
        assert_eq!(said, format!("cannot listen on {address} of this machine: it is in use"));
    }
}
