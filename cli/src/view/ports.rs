//! Listening sockets of guests.

use banger_proto::v1::ListeningPort;
use serde::Serialize;

use super::{non_empty, table};

/// One socket of one VM.
#[derive(Debug, Serialize)]
pub struct PortView {
    vm: String,
    protocol: String,
    address: String,
    port: u32,
    process: Option<String>,
    host_port: Option<u32>,
}

/// `{"ports": […]}`.
#[derive(Debug, Serialize)]
pub struct PortListView {
    ports: Vec<PortView>,
}

impl PortView {
    /// A socket of the VM with this name.
    pub fn new(vm: &str, port: &ListeningPort) -> Self {
        Self {
            vm: vm.to_owned(),
            protocol: port.protocol.clone(),
            address: port.address.clone(),
            port: port.port,
            process: non_empty(&port.process).map(str::to_owned),
            host_port: Some(port.host_port).filter(|&port| port != 0),
        }
    }
}

impl PortListView {
    /// All sockets.
    pub fn new(ports: Vec<PortView>) -> Self {
        Self { ports }
    }

    /// The table of `vm ports`.
    pub fn render(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .ports
            .iter()
            .map(|port| {
                vec![
                    port.vm.clone(),
                    port.protocol.clone(),
                    port.address.clone(),
                    port.port.to_string(),
                    port.process.clone().unwrap_or_else(|| "-".into()),
                    port.host_port.map_or_else(|| "-".into(), |port| format!("127.0.0.1:{port}")),
                ]
            })
            .collect();
        table::render(&["VM", "PROTOCOL", "ADDRESS", "PORT", "PROCESS", "FROM HOST"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_say_how_to_reach_them() {
        let port = |port, host_port| ListeningPort {
            protocol: "tcp".into(),
            address: "0.0.0.0".into(),
            port,
            process: "nginx".into(),
            host_port,
        };
        let view = PortListView::new(vec![PortView::new("box", &port(80, 8080)), PortView::new("box", &port(22, 0))]);
        assert_eq!(
            view.render(),
            "VM   PROTOCOL  ADDRESS  PORT  PROCESS  FROM HOST\n\
             box  tcp       0.0.0.0  80    nginx    127.0.0.1:8080\n\
             box  tcp       0.0.0.0  22    nginx    -\n"
        );
    }
}
