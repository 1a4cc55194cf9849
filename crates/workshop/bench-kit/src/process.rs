use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::usage::{field, own};

/// The state of a process in the TCP tables of the kernel: an established connection, a listener.
const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";

/// Another process of this machine, by its number. All figures are read from `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

/// An entry of the kernel's TCP tables.
struct Socket {
    port: u16,
    state: String,
    inode: String,
}

impl Process {
    /// The process of this number.
    pub fn new(number: u32) -> Self {
        Self(number)
    }

    /// The process that listens on a TCP port of this machine, if it can be seen from here.
    pub fn listening(port: u16) -> Option<Self> {
        let sockets = sockets("self")?;
        let inodes: HashSet<String> = sockets
            .into_iter()
            .filter(|socket| socket.state == LISTENING && socket.port == port)
            .map(|socket| socket.inode)
            .collect();
        let numbers =
            fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.map(Self).find(|process| process.inodes().iter().any(|inode| inodes.contains(inode)))
    }

    /// The processor time that it has used so far, in seconds.
    pub fn processor_seconds(self) -> Option<f64> {
        own(&self.read("stat")?)
    }

    /// Its resident memory in MiB.
    pub fn resident_mib(self) -> Option<f64> {
        Some(field(&self.read("status")?, "VmRSS:") / 1024.0)
    }

    /// The largest resident memory that it has had so far, in MiB.
    pub fn most_resident_mib(self) -> Option<f64> {
        Some(field(&self.read("status")?, "VmHWM:") / 1024.0)
    }

    /// The number of its threads.
    pub fn threads(self) -> Option<f64> {
        Some(field(&self.read("status")?, "Threads:"))
    }

    /// The number of its established TCP connections.
    pub fn connections(self) -> Option<f64> {
        let mine = self.inodes();
        let open = sockets(&self.0.to_string())?.into_iter().filter(|socket| socket.state == ESTABLISHED);
        Some(open.filter(|socket| mine.contains(&socket.inode)).count() as f64)
    }

    fn read(self, name: &str) -> Option<String> {
        fs::read_to_string(Path::new("/proc").join(self.0.to_string()).join(name)).ok()
    }

    /// The inodes of its sockets.
    fn inodes(self) -> HashSet<String> {
        let directory = Path::new("/proc").join(self.0.to_string()).join("fd");
        let links = fs::read_dir(directory).into_iter().flatten().flatten();
        let inode = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        };
        links.filter_map(inode).collect()
    }
}

/// All TCP sockets in the network of a process.
fn sockets(process: &str) -> Option<Vec<Socket>> {
    let read = |table: &str| fs::read_to_string(format!("/proc/{process}/net/{table}")).ok();
    let tables = [read("tcp")?, read("tcp6").unwrap_or_default()];
    Some(tables.iter().flat_map(|table| table.lines().filter_map(parse)).collect())
}

/// Reads a line of a table: number, local address, remote address, state, …; the inode is field 9.
fn parse(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    Some(Socket { port, state: (*fields.get(3)?).to_owned(), inode: (*fields.get(9)?).to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_listener_of_a_port_and_its_connections_are_found() -> std::io::Result<()> {
        let me = Process::new(std::process::id());
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        assert_eq!(Process::listening(address.port()), Some(me));
        let before = me.connections().unwrap_or_default();
        let stream = TcpStream::connect(address)?;
        let accepted = listener.accept()?;
        assert_eq!(me.connections(), Some(before + 2.0));
        drop((stream, accepted));
        assert!(me.threads().is_some_and(|threads| threads >= 1.0));
        assert!(me.most_resident_mib() > Some(0.0) && me.resident_mib() > Some(0.0));
        Ok(())
    }
}
