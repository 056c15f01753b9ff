//! The root helper, played: the same socket and messages, with a ledger in memory and `sleep` for a VMM.

use std::collections::BTreeMap;
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};

use banger_proto::root::v1::{
    Done, Holdings, Launched, Receipt, Refusal, Request, Response, VmHoldings, receipt, request::Operation, response,
};
use prost::Message as _;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept, bind, listen, sendmsg, socket_with,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::platform::process;

/// What is to happen to the next request that names `operation`.
#[derive(Debug, Clone)]
pub enum Mishap {
    Refuse(Refusal),
    HangUp,
}

pub struct FakeHelper {
    state: Arc<Mutex<State>>,
}

/// How a VMM behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FakeVmm {
    /// Starts its guest.
    #[default]
    Obliging,
    /// Says why not and is gone.
    EndsAtOnce,
}

#[derive(Default)]
pub struct State {
    pub vms: BTreeMap<String, VmHoldings>,
    pub network_ready: bool,
    pub resolver_ready: bool,
    /// Names of the operations, in order.
    pub asked: Vec<String>,
    pub mishap: Option<(&'static str, Mishap)>,
    /// Every later VMM behaves like this.
    pub vmm: FakeVmm,
    /// Where it says why.
    pub console: PathBuf,
    processes: BTreeMap<String, Child>,
}

impl FakeHelper {
    pub fn serve(path: &Path) -> Self {
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&listener, 8).unwrap();
        let state = State { network_ready: true, resolver_ready: true, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok(client) = accept(&listener) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve_client(client, &shared));
            }
        });
        Self { state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn next(&self, operation: &'static str, mishap: Mishap) {
        self.state().mishap = Some((operation, mishap));
    }

    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }
}

impl Drop for FakeHelper {
    fn drop(&mut self) {
        for process in self.state().processes.values_mut() {
            // Those a test has ended are gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn serve_client(client: OwnedFd, state: &Mutex<State>) {
    // A datagram a read: what a packet socket gives.
    let mut client = std::fs::File::from(client);
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let request = Request::decode(&buffer[..length]).unwrap();
        assert_eq!(request.version, 1);
        assert!(!request.operation_id.is_empty());
        let Some((outcome, descriptor)) = state.lock().unwrap().perform(request.operation.unwrap()) else { return };
        let response = Response { operation_id: request.operation_id, outcome: Some(outcome) };
        send(client.as_fd().try_clone_to_owned().unwrap(), &response.encode_to_vec(), descriptor);
    }
}

fn send(client: OwnedFd, bytes: &[u8], descriptor: Option<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
    if !descriptors.is_empty() {
        assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    // The client may have given up.
    let _ = sendmsg(&client, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL);
}

type Outcome = (response::Outcome, Option<OwnedFd>);

impl State {
    /// `None`: it hangs up.
    fn perform(&mut self, operation: Operation) -> Option<Outcome> {
        let text = format!("{operation:?}");
        let name = text.split('(').next().unwrap().to_owned();
        self.asked.push(name.clone());
        if let Some((_, mishap)) = self.mishap.take_if(|(wanted, _)| *wanted == name) {
            return match mishap {
                Mishap::Refuse(refusal) => Some((response::Outcome::Refusal(refusal), None)),
                Mishap::HangUp => None,
            };
        }
        let done = receipt::Kind::Done(Done {});
        let mut descriptor = None;
        let kind = match operation {
            Operation::EnsureNetwork(_) => {
                self.network_ready = true;
                done
            }
            Operation::SetResolver(set) => {
                self.resolver_ready = set.enabled;
                done
            }
            Operation::AttachLink(link) => {
                self.vm(&link.vm_id).address = link.address;
                done
            }
            Operation::DetachLink(link) => {
                self.vm(&link.vm_id).address = 0;
                done
            }
            Operation::CreateRootDisk(disk) => {
                assert_eq!((disk.image_name.as_str(), disk.image_build.as_str()), ("debian", super::fixture::BUILD));
                self.vm(&disk.vm_id).root_disk = true;
                done
            }
            Operation::SetNat(set) => {
                self.vm(&set.vm_id).nat = set.enabled;
                done
            }
            Operation::LaunchVm(launch) => {
                assert_eq!((launch.kernel_name.as_str(), launch.vcpu_count), ("generic-6.12", 1));
                if self.vmm == FakeVmm::EndsAtOnce {
                    std::fs::write(&self.console, "no such tap\n").unwrap();
                    let chain = vec!["cannot launch the VM".into(), "it ended".into()];
                    let refusal = Refusal { kind: 1, chain, ..Refusal::default() };
                    return Some((response::Outcome::Refusal(refusal), None));
                }
                let (launched, pidfd) = self.launch(&launch.vm_id);
                descriptor = Some(pidfd);
                receipt::Kind::Launched(launched)
            }
            Operation::SignalVm(signal) => {
                if !self.vms.contains_key(&signal.vm_id) {
                    return Some(unknown());
                }
                self.end(&signal.vm_id);
                done
            }
            Operation::TeardownVm(teardown) => {
                self.end(&teardown.vm_id);
                match self.vms.remove(&teardown.vm_id) {
                    Some(_) => done,
                    None => return Some(unknown()),
                }
            }
            Operation::Inventory(_) => receipt::Kind::Holdings(Holdings {
                vms: self.vms.values().cloned().collect(),
                network_ready: self.network_ready,
                resolver_ready: self.resolver_ready,
            }),
        };
        Some((response::Outcome::Receipt(Receipt { kind: Some(kind) }), descriptor))
    }

    fn vm(&mut self, id: &str) -> &mut VmHoldings {
        let vm = self.vms.entry(id.to_owned()).or_default();
        id.clone_into(&mut vm.vm_id);
        vm
    }

    fn launch(&mut self, id: &str) -> (Launched, OwnedFd) {
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let identity = process::identify(child.id(), &process::host_boot_id().unwrap()).unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        self.processes.insert(id.to_owned(), child);
        let vm = self.vm(id);
        (vm.pid, vm.start_time_ticks) = (identity.pid, identity.start_time_ticks);
        (Launched { pid: identity.pid, start_time_ticks: identity.start_time_ticks }, pidfd)
    }

    /// The VMM of `id` ends; also by itself.
    pub fn end(&mut self, id: &str) {
        if let Some(mut process) = self.processes.remove(id) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        // As the helper settles it before its next request.
        self.vms.entry(id.to_owned()).and_modify(|vm| vm.pid = 0);
    }
}

fn unknown() -> Outcome {
    let refusal =
        Refusal { kind: 3, chain: vec!["the helper has made nothing for that VM".into()], ..Refusal::default() };
    (response::Outcome::Refusal(refusal), None)
}
