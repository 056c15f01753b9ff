//! What a guest learns at power-on, put together from its record. Pure.

use banger_proto::guest::v1::{Seed, SeedFile};
use banger_proto::guest_contract::AGENT_SSH_PORT;
use banger_proto::version::GUEST_PROTOCOL_VERSION;

use super::record::VmRecord;
use crate::platform::GuestMachine;

/// The seed of `record`, on `machine`, at the host's time `unix_time_ms`.
pub fn seed(record: &VmRecord, machine: GuestMachine, unix_time_ms: u64) -> Seed {
    Seed {
        version: GUEST_PROTOCOL_VERSION,
        vm_id: record.id.to_string(),
        hostname: record.name.to_string(),
        network: Some(machine.network),
        authorized_keys: record.owner.authorized_keys.clone(),
        ssh_host_key: record.host_key.private.clone(),
        git_name: record.owner.git_name.clone(),
        git_email: record.owner.git_email.clone(),
        files: record
            .owner
            .files
            .iter()
            .map(|file| SeedFile { path: file.path.clone(), mode: file.mode, content: file.content.clone() })
            .collect(),
        unix_time_ms,
        root_disk_serial: machine.disks.root.to_owned(),
        work_disk_serial: machine.disks.work.to_owned(),
        modules_disk_serial: machine.disks.modules.to_owned(),
        agent_ssh_port: u32::from(AGENT_SSH_PORT),
        image_has_sshd: record.boot.has_sshd,
        init_path: record.boot.init_path.clone().unwrap_or_default(),
        environment: record.boot.environment.clone(),
        working_directory: record.boot.working_directory.clone(),
        user: record.boot.user.clone(),
        nat: record.spec.nat,
    }
}
