-- One row per VM. Columns below "mutable" change during its life; the others are written once.
CREATE TABLE vms (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  vcpu_count INTEGER NOT NULL,
  memory_mib INTEGER NOT NULL,
  work_disk_mib INTEGER NOT NULL,
  nat INTEGER NOT NULL,
  published_ports TEXT NOT NULL,      -- JSON: [[host, guest], …]
  image_name TEXT NOT NULL,           -- also inside boot; here to answer "who uses it"
  kernel_name TEXT NOT NULL,
  boot TEXT NOT NULL,                 -- JSON: files and facts it boots from
  host_key_private TEXT NOT NULL,
  host_key_public TEXT NOT NULL,
  vmm TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  -- mutable
  state TEXT NOT NULL,
  authorized_keys TEXT NOT NULL,      -- JSON: [line, …]
  git_name TEXT NOT NULL,
  git_email TEXT NOT NULL,
  started_unix_ms INTEGER NOT NULL,
  runtime TEXT,                       -- JSON: process identity and addresses; NULL when no VMM is known
  boot_id TEXT NOT NULL,
  reachable_after_ms INTEGER NOT NULL,
  booted_after_ms INTEGER NOT NULL,
  last_error TEXT NOT NULL,
  unclean INTEGER NOT NULL
) STRICT;

-- Files of the owner, placed below /root at boot.
CREATE TABLE owner_files (
  vm_id TEXT NOT NULL REFERENCES vms(id) ON DELETE CASCADE,
  path BLOB NOT NULL,
  mode INTEGER NOT NULL,
  content BLOB NOT NULL,
  PRIMARY KEY (vm_id, path)
) STRICT;

CREATE TABLE workspaces (
  vm_id TEXT PRIMARY KEY REFERENCES vms(id) ON DELETE CASCADE,
  guest_path BLOB NOT NULL,
  source_path BLOB NOT NULL,
  head_commit TEXT NOT NULL,
  tree_digest TEXT NOT NULL,
  prepared_unix_ms INTEGER NOT NULL
) STRICT;

-- What bangerd was about to do to a VM. Written before the host is changed, removed with the result.
CREATE TABLE intents (
  vm_id TEXT PRIMARY KEY REFERENCES vms(id) ON DELETE CASCADE,
  action TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  since_unix_ms INTEGER NOT NULL
) STRICT;

-- VMs found on the host when this file was made: they belong to a store that was moved aside and are
-- therefore never removed as orphans.
CREATE TABLE foreign_vms (
  id TEXT PRIMARY KEY,
  found_unix_ms INTEGER NOT NULL
) STRICT;
