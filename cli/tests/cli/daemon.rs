//! A daemon made for tests: all services in memory, on the socket of an [`Environment`], failing where it is told to.

mod services;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banger_proto::failure::{Failure, Kind};
use banger_proto::v1::image_service_server::ImageServiceServer;
use banger_proto::v1::kernel_service_server::KernelServiceServer;
use banger_proto::v1::operation_service_server::OperationServiceServer;
use banger_proto::v1::system_service_server::SystemServiceServer;
use banger_proto::v1::vm_service_server::VmServiceServer;
use banger_proto::v1::{Connection, CreateVmRequest, Vm, VmState};
use tokio_stream::wrappers::UnixListenerStream;

use crate::environment::Environment;

/// Everything it knows and is told.
#[derive(Default)]
pub struct State {
    /// The VMs.
    pub vms: Vec<Vm>,
    /// Calls so far: "create box", "stop box" …
    pub calls: Vec<String>,
    /// The last create request.
    pub created: Option<CreateVmRequest>,
    /// Verbs that fail, for any VM or for one: "stop", "stop box".
    pub failures: HashMap<String, Failure>,
    /// Stages at which a create goes on forever.
    pub hang_at: HashSet<String>,
    /// A failing create leaves its VM.
    pub keeps_failed: bool,
    /// A cancelled create leaves its VM.
    pub forgets_to_undo: bool,
    /// Connection of new VMs.
    pub connection: Option<Connection>,
    /// What a version request says.
    pub version: Option<String>,
}

/// A running one; ends with the value.
pub struct Daemon {
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// Listens where the environment's programs look.
    pub fn start(environment: &Environment) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let state = Arc::new(Mutex::new(State::default()));
        let directory = environment.runtime();
        std::fs::create_dir_all(&directory).expect("a new directory");
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("ours");
        let _entered = runtime.enter();
        let listener = tokio::net::UnixListener::bind(environment.socket()).expect("a free socket");
        let shared = Shared(Arc::clone(&state));
        let server = tonic::transport::Server::builder()
            .add_service(VmServiceServer::new(shared.clone()))
            .add_service(ImageServiceServer::new(shared.clone()))
            .add_service(KernelServiceServer::new(shared.clone()))
            .add_service(OperationServiceServer::new(shared.clone()))
            .add_service(SystemServiceServer::new(shared));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { state, _runtime: runtime }
    }

    /// What it knows.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Makes a VM known.
    pub fn add(&self, name: &str, vm_state: VmState) {
        let mut state = self.state();
        let vm = new_vm(&state, name, vm_state);
        state.vms.push(vm);
    }

    /// Lets a verb fail.
    pub fn fail(&self, verb: &str, kind: Kind, message: &str) {
        let failure = Failure::new(kind, message).hint(format!("Look at {verb} with `banger vm list`."));
        self.state().failures.insert(verb.to_owned(), failure);
    }

    /// Names of the VMs there are.
    pub fn names(&self) -> Vec<String> {
        self.state().vms.iter().map(|vm| vm.name.clone()).collect()
    }

    /// True once this was called.
    pub fn was_called(&self, call: &str) -> bool {
        self.state().calls.iter().any(|made| made == call)
    }
}

/// What the services share.
#[derive(Clone)]
pub(crate) struct Shared(pub Arc<Mutex<State>>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_vm(state: &State, name: &str, vm_state: VmState) -> Vm {
    let number = state.calls.len() + state.vms.len() + 1;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Vm {
        id: format!("{number:032x}"),
        name: if name.is_empty() { format!("made-{number}") } else { name.to_owned() },
        state: vm_state.into(),
        spec: Some(banger_proto::v1::VmSpec {
            vcpu_count: 1,
            memory_mib: 512,
            work_disk_mib: 1024,
            ..Default::default()
        }),
        image_name: "debian-bookworm".into(),
        created_unix_ms: i64::try_from(now.as_millis()).expect("before the year 292 million"),
        connection: Some(state.connection.clone().unwrap_or_else(|| Connection {
            agent_host: "127.0.0.1".into(),
            // Nobody listens on port 1.
            agent_port: 1,
            user: "root".into(),
            host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJEGkgkQYXUCfK7sRoDMQpIm8tVfnC3g0cFJoqTHrKXE".into(),
            ..Connection::default()
        })),
        ..Vm::default()
    }
}
