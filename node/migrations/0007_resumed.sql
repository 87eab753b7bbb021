-- ... and the calls that were in flight: until they are back too, a read could miss what another has shown.
ALTER TABLE writers ADD COLUMN resumed bigint NOT NULL DEFAULT 0;
