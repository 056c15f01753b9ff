//! Write-ahead intents, and the VMs of an earlier store that must be left alone.

use banger_proto::names::VmId;
use rusqlite::{Transaction, params};

use super::{Problem, Store, StoreError};

/// What bangerd was about to do to a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make its disks and perhaps start it. Undone if interrupted: nobody was told it exists.
    Create,
    /// Start its VMM. The VMM is kept if it came to run.
    Launch,
    /// Power it off. Asked again if interrupted.
    Stop,
    /// Remove it. Finished if interrupted.
    Remove,
}

impl Action {
    const ALL: [Self; 4] = [Self::Create, Self::Launch, Self::Stop, Self::Remove];

    /// The word in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Launch => "launch",
            Self::Stop => "stop",
            Self::Remove => "remove",
        }
    }
}

/// An action that was begun and not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// On which VM.
    pub vm: VmId,
    /// What.
    pub action: Action,
    /// To look for in the log.
    pub operation_id: String,
}

/// What a save does to the VM's intent, in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntentChange {
    /// Leave it.
    Keep,
    /// An action begins.
    Begin {
        /// Which.
        action: Action,
        /// On whose behalf.
        operation_id: String,
    },
    /// The action has its result.
    Finish,
}

pub(super) fn apply(transaction: &Transaction<'_>, vm: &VmId, change: &IntentChange) -> rusqlite::Result<()> {
    match change {
        IntentChange::Keep => {}
        IntentChange::Begin { action, operation_id } => {
            transaction.execute(
                "INSERT OR REPLACE INTO intents (vm_id, action, operation_id, since_unix_ms) VALUES (?1, ?2, ?3, ?4)",
                params![vm.as_str(), action.name(), operation_id, crate::clock::unix_ms()],
            )?;
        }
        IntentChange::Finish => {
            transaction.execute("DELETE FROM intents WHERE vm_id = ?1", [vm.as_str()])?;
        }
    }
    Ok(())
}

impl Store {
    /// Every action that was begun and not finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn intents(&self) -> Result<Vec<Intent>, StoreError> {
        self.call("list the intents", |connection| {
            let mut statement = connection.prepare("SELECT vm_id, action, operation_id FROM intents ORDER BY vm_id")?;
            let rows = statement.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            rows.map(|row| {
                let (vm, action, operation_id) = row?;
                let vm = vm.parse().map_err(|error| Problem::unreadable("vm_id of an intent", error))?;
                let action = Action::ALL
                    .into_iter()
                    .find(|known| known.name() == action)
                    .ok_or_else(|| Problem::unreadable("action of an intent", &action))?;
                Ok(Intent { vm, action, operation_id })
            })
            .collect()
        })
        .await
    }

    /// VMs of a store that was moved aside.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn foreign_vms(&self) -> Result<Vec<VmId>, StoreError> {
        self.call("list the foreign VMs", |connection| {
            let mut statement = connection.prepare("SELECT id FROM foreign_vms ORDER BY id")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.map(|row| row?.parse().map_err(|error| Problem::unreadable("id of a foreign VM", error))).collect()
        })
        .await
    }

    /// Remembers VMs that this store does not know and must never touch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_foreign_vms(&self, ids: Vec<VmId>) -> Result<(), StoreError> {
        self.call("record the foreign VMs", move |connection| {
            let transaction = connection.transaction()?;
            for id in &ids {
                transaction.execute(
                    "INSERT OR IGNORE INTO foreign_vms (id, found_unix_ms) VALUES (?1, ?2)",
                    params![id.as_str(), crate::clock::unix_ms()],
                )?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}
