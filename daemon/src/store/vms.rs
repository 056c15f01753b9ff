//! Rows of VMs: insert, save, list, remove.

use std::sync::Arc;

use banger_proto::names::VmId;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params};

use super::intents::{self, Action, IntentChange};
use super::{Problem, Store, StoreError};
use crate::vm::record::{
    BootSource, HostKey, OwnerFile, OwnerMaterial, PublishedPort, RuntimeRecord, VmRecord, VmSpec, Workspace,
};
use crate::vm::state::VmState;

const INSERT: &str = "INSERT INTO vms (id, name, vcpu_count, memory_mib, work_disk_mib, nat, published_ports, \
     image_name, kernel_name, boot, address, host_key_private, host_key_public, vmm, created_unix_ms, state, authorized_keys, \
     git_name, git_email, started_unix_ms, runtime, boot_id, reachable_after_ms, booted_after_ms, last_error, unclean) \
     VALUES (:id, :name, :vcpu_count, :memory_mib, :work_disk_mib, :nat, :published_ports, :image_name, :kernel_name, \
     :boot, :address, :host_key_private, :host_key_public, :vmm, :created_unix_ms, :state, '[]', '', '', 0, NULL, '', 0, 0, '', 0)";

const UPDATE: &str = "UPDATE vms SET state = :state, vcpu_count = :vcpu_count, memory_mib = :memory_mib, nat = :nat, \
     started_unix_ms = :started_unix_ms, runtime = :runtime, \
     boot_id = :boot_id, reachable_after_ms = :reachable_after_ms, booted_after_ms = :booted_after_ms, \
     last_error = :last_error, unclean = :unclean WHERE id = :id";

impl Store {
    /// Reserves the record's name and address and writes the intent to create it, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`], also when either is taken.
    pub async fn insert_vm(&self, record: VmRecord, operation_id: &str) -> Result<(), StoreError> {
        let change = IntentChange::Begin { action: Action::Create, operation_id: operation_id.to_owned() };
        self.call(format!("reserve the VM {:?}", record.name.as_str()), move |connection| {
            let transaction = connection.transaction()?;
            insert(&transaction, &record)?;
            update(&transaction, &record)?;
            write_owner(&transaction, &record.id, &record.owner)?;
            intents::apply(&transaction, &record.id, &change)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Writes everything about a VM that changes during its life, and its intent, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_vm(&self, record: VmRecord, change: IntentChange) -> Result<(), StoreError> {
        self.call(format!("save the VM {:?}", record.name.as_str()), move |connection| {
            let transaction = connection.transaction()?;
            update(&transaction, &record)?;
            intents::apply(&transaction, &record.id, &change)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Replaces what a VM got from its owner.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_owner(&self, id: VmId, owner: Arc<OwnerMaterial>) -> Result<(), StoreError> {
        self.call(format!("save the owner's files of the VM {}", id.short()), move |connection| {
            let transaction = connection.transaction()?;
            write_owner(&transaction, &id, &owner)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Removes a VM and everything that hangs on its row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_vm(&self, id: VmId) -> Result<(), StoreError> {
        self.call(format!("remove the VM {}", id.short()), move |connection| {
            connection.execute("DELETE FROM vms WHERE id = ?1", [id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Every VM, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn vms(&self) -> Result<Vec<VmRecord>, StoreError> {
        self.call("list the VMs", |connection| {
            let mut statement = connection.prepare("SELECT * FROM vms ORDER BY created_unix_ms, id")?;
            let mut rows = statement.query([])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                records.push(read(connection, row)?);
            }
            Ok(records)
        })
        .await
    }
}

fn insert(transaction: &Transaction<'_>, record: &VmRecord) -> Result<(), Problem> {
    let ports: Vec<(u16, u16)> = record.spec.published_ports.iter().map(|port| (port.host, port.guest)).collect();
    transaction.execute(
        INSERT,
        named_params! {
            ":id": record.id.as_str(),
            ":name": record.name.as_str(),
            ":vcpu_count": record.spec.vcpu_count,
            ":memory_mib": to_sql(record.spec.memory_mib),
            ":work_disk_mib": to_sql(record.spec.work_disk_mib),
            ":nat": record.spec.nat,
            ":published_ports": json("published_ports", &ports)?,
            ":image_name": record.boot.image.as_str(),
            ":kernel_name": record.boot.kernel.as_str(),
            ":boot": json("boot", &*record.boot)?,
            ":address": record.address.map(|address| address.to_string()),
            ":host_key_private": record.host_key.private,
            ":host_key_public": record.host_key.public,
            ":vmm": record.vmm,
            ":created_unix_ms": record.created_unix_ms,
            ":state": record.state.name(),
        },
    )?;
    Ok(())
}

fn update(transaction: &Transaction<'_>, record: &VmRecord) -> Result<(), Problem> {
    let runtime = record.runtime.as_ref().map(|runtime| json("runtime", runtime)).transpose()?;
    transaction.execute(
        UPDATE,
        named_params! {
            ":id": record.id.as_str(),
            ":state": record.state.name(),
            ":vcpu_count": record.spec.vcpu_count,
            ":memory_mib": to_sql(record.spec.memory_mib),
            ":nat": record.spec.nat,
            ":started_unix_ms": record.started_unix_ms,
            ":runtime": runtime,
            ":boot_id": record.boot_id,
            ":reachable_after_ms": to_sql(record.reachable_after_ms),
            ":booted_after_ms": to_sql(record.booted_after_ms),
            ":last_error": record.last_error,
            ":unclean": record.unclean,
        },
    )?;
    transaction.execute("DELETE FROM workspaces WHERE vm_id = ?1", [record.id.as_str()])?;
    if let Some(workspace) = &record.workspace {
        transaction.execute(
            "INSERT INTO workspaces (vm_id, guest_path, source_path, head_commit, tree_digest, prepared_unix_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                record.id.as_str(),
                workspace.guest_path,
                workspace.source_path,
                workspace.head_commit,
                workspace.tree_digest,
                workspace.prepared_unix_ms
            ],
        )?;
    }
    Ok(())
}

fn write_owner(transaction: &Transaction<'_>, id: &VmId, owner: &OwnerMaterial) -> Result<(), Problem> {
    transaction.execute(
        "UPDATE vms SET authorized_keys = ?2, git_name = ?3, git_email = ?4 WHERE id = ?1",
        params![id.as_str(), json("authorized_keys", &owner.authorized_keys)?, owner.git_name, owner.git_email],
    )?;
    transaction.execute("DELETE FROM owner_files WHERE vm_id = ?1", [id.as_str()])?;
    for file in &owner.files {
        transaction.execute(
            "INSERT INTO owner_files (vm_id, path, mode, content) VALUES (?1, ?2, ?3, ?4)",
            params![id.as_str(), file.path, file.mode, file.content],
        )?;
    }
    Ok(())
}

fn read(connection: &Connection, row: &Row<'_>) -> Result<VmRecord, Problem> {
    let id: VmId = parsed("id", &row.get::<_, String>("id")?)?;
    let ports: Vec<(u16, u16)> = from_json("published_ports", &row.get::<_, String>("published_ports")?)?;
    let state: String = row.get("state")?;
    let runtime: Option<String> = row.get("runtime")?;
    let address: Option<String> = row.get("address")?;
    Ok(VmRecord {
        name: parsed("name", &row.get::<_, String>("name")?)?,
        state: VmState::parse(&state).ok_or_else(|| Problem::unreadable("state of a VM", &state))?,
        spec: VmSpec {
            vcpu_count: row.get("vcpu_count")?,
            memory_mib: from_sql("memory_mib", row)?,
            work_disk_mib: from_sql("work_disk_mib", row)?,
            nat: row.get("nat")?,
            published_ports: ports.into_iter().map(|(host, guest)| PublishedPort { host, guest }).collect(),
        },
        boot: Arc::new(from_json::<BootSource>("boot", &row.get::<_, String>("boot")?)?),
        owner: Arc::new(OwnerMaterial {
            authorized_keys: from_json("authorized_keys", &row.get::<_, String>("authorized_keys")?)?,
            git_name: row.get("git_name")?,
            git_email: row.get("git_email")?,
            files: read_owner_files(connection, &id)?,
        }),
        address: address.map(|text| parsed("address", &text)).transpose()?,
        host_key: HostKey { private: row.get("host_key_private")?, public: row.get("host_key_public")? },
        vmm: row.get("vmm")?,
        created_unix_ms: row.get("created_unix_ms")?,
        started_unix_ms: row.get("started_unix_ms")?,
        runtime: runtime.map(|text| from_json::<RuntimeRecord>("runtime", &text)).transpose()?,
        boot_id: row.get("boot_id")?,
        reachable_after_ms: from_sql("reachable_after_ms", row)?,
        booted_after_ms: from_sql("booted_after_ms", row)?,
        last_error: row.get("last_error")?,
        unclean: row.get("unclean")?,
        workspace: read_workspace(connection, &id)?,
        id,
    })
}

fn read_owner_files(connection: &Connection, id: &VmId) -> Result<Vec<OwnerFile>, Problem> {
    let mut statement =
        connection.prepare_cached("SELECT path, mode, content FROM owner_files WHERE vm_id = ?1 ORDER BY path")?;
    let rows = statement
        .query_map([id.as_str()], |row| Ok(OwnerFile { path: row.get(0)?, mode: row.get(1)?, content: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read_workspace(connection: &Connection, id: &VmId) -> Result<Option<Workspace>, Problem> {
    let mut statement = connection.prepare_cached(
        "SELECT guest_path, source_path, head_commit, tree_digest, prepared_unix_ms FROM workspaces WHERE vm_id = ?1",
    )?;
    let found = statement.query_row([id.as_str()], |row| {
        Ok(Workspace {
            guest_path: row.get(0)?,
            source_path: row.get(1)?,
            head_commit: row.get(2)?,
            tree_digest: row.get(3)?,
            prepared_unix_ms: row.get(4)?,
        })
    });
    Ok(found.optional()?)
}

fn json<T: serde::Serialize + ?Sized>(what: &str, value: &T) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::unreadable(what, error))
}

fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| Problem::unreadable(what, error))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::unreadable(what, error))
}

/// SQLite integers are signed; sizes and durations never come near the limit.
fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_sql(column: &str, row: &Row<'_>) -> Result<u64, Problem> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|error| Problem::unreadable(column, error))
}
