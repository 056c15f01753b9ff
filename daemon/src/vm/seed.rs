//! What a guest learns at power-on, put together from its record. Pure.

use banger_proto::guest::v1::{Network, Seed, SeedFile};
use banger_proto::guest_contract::{AGENT_SSH_PORT, MODULES_DISK_SERIAL, ROOT_DISK_SERIAL, WORK_DISK_SERIAL};
use banger_proto::version::GUEST_PROTOCOL_VERSION;

use super::record::VmRecord;

/// The seed of `record`, on `network`, at the host's time `unix_time_ms`.
pub fn seed(record: &VmRecord, network: Network, unix_time_ms: u64) -> Seed {
    Seed {
        version: GUEST_PROTOCOL_VERSION,
        vm_id: record.id.to_string(),
        hostname: record.name.to_string(),
        network: Some(network),
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
        root_disk_serial: ROOT_DISK_SERIAL.to_owned(),
        work_disk_serial: WORK_DISK_SERIAL.to_owned(),
        modules_disk_serial: MODULES_DISK_SERIAL.to_owned(),
        agent_ssh_port: u32::from(AGENT_SSH_PORT),
        image_has_sshd: record.boot.has_sshd,
        init_path: record.boot.init_path.clone().unwrap_or_default(),
        environment: record.boot.environment.clone(),
        working_directory: record.boot.working_directory.clone(),
        user: record.boot.user.clone(),
    }
}
