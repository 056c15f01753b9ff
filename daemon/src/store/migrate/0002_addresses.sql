-- The guest's own IPv4 address, where guests have one. Reserved with the name and released with the row.
ALTER TABLE vms ADD COLUMN address TEXT;
CREATE UNIQUE INDEX vms_address ON vms (address) WHERE address IS NOT NULL;
